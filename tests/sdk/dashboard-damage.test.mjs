// What the dashboard says of users and changes that are damaged in the store: each list names whom it leaves out.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { restartDamaged } from './damage.mjs';
import { HOSTILE, VIEWER_KEY, api, barriers, client, dashboard, go, overflow } from './dashboard.mjs';
import { startHub } from './hub.mjs';

let browser;
let hub;

before(async () => {
  hub = await startHub({ 'auth.viewer_keys': `["${VIEWER_KEY}"]` });
  browser = await startBrowser();
  const users = ['anna', 'bert', 'carl', HOSTILE];
  const clients = await Promise.all(users.map((user) => client(hub, user, 'ios', 'phone')));
  await clients[1].setStatus('back soon');
  await Promise.all(clients.map((it) => it.lost()));
  // Sessions of apps are held.
  await restartDamaged(hub, { users: ['anna', 'carl', HOSTILE], setters: ['bert'] });
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

const row = (page, table, what = '') => page.locator(`[aria-label="${table}"] tbody tr${what}`);
const notice = (page) => page.locator('.listing > .damage');
const named = (place) => place.locator('li a').evaluateAll((all) => all.map((it) => it.textContent));

/** The feed begins at the end of the log. On this page, it begins at the log's first change. */
async function beginFeedEarly(page) {
  const { next: cursor } = await api(hub, 'events?limit=1');
  await page.route('**/v1/snapshot?limit=1', (route) => route.fulfill({ json: { statuses: [], next: null, cursor } }));
}

test('the lists of users and sessions name and link the users that they leave out', async () => {
  const page = await dashboard(browser, hub);
  for (const [screen, table] of [
    ['users', 'Users'],
    ['sessions', 'Sessions'],
  ]) {
    await go(page, `#/${screen}`);
    await notice(page).filter({ hasText: 'Users left out because their records are damaged on disk: 3.' }).waitFor();
    assert.deepEqual(await named(notice(page)), [HOSTILE, 'anna', 'carl'], screen);
    assert.deepEqual(await row(page, table).evaluateAll((all) => all.map(({ dataset }) => dataset.user)), ['bert']);
    await notice(page).getByRole('link', { name: 'anna' }).click();
    await page.locator('#user-name', { hasText: 'anna' }).waitFor();
    await go(page, `#/${screen}`);
    await notice(page).getByRole('link', { name: HOSTILE }).click();
    await page.locator('#user-name', { hasText: HOSTILE }).waitFor();
  }
  // A list in which there is nobody else does not say that there is nobody.
  await go(page, '#/users?prefix=ann');
  await notice(page).waitFor();
  assert.equal(await page.getByText('Nobody with such an id').isVisible(), false);
  await go(page, '#/sessions?user=anna');
  await notice(page).waitFor();
  assert.deepEqual(await named(notice(page)), ['anna']);
  assert.equal(await page.getByText('No sessions').isVisible(), false);
  await go(page, '#/users?prefix=bert');
  await row(page, 'Users', '[data-user="bert"]').waitFor();
  assert.equal(await notice(page).isVisible(), false);
  assert.equal(await page.locator('#away').isVisible(), false, 'the hub answers');
});

test('the page of a damaged user says what is wrong and how it is repaired, and a kick repairs it', async () => {
  const viewer = await dashboard(browser, hub, '#/users/carl', { key: VIEWER_KEY });
  const page = await dashboard(browser, hub, '#/users/carl');
  for (const it of [viewer, page]) {
    const damage = it.locator('#user-damaged');
    await damage.filter({ hasText: 'record is damaged on disk' }).filter({ hasText: 'The record begins anew' }).waitFor();
    assert.equal(await it.textContent('#user-state'), '■ Damaged');
    // What the log says is shown, and nothing that is not known.
    await row(it, 'Changes', '[data-cause="login"]').waitFor();
    await it.locator('[data-lane="user"] .mark').first().waitFor();
    for (const unknown of ['No device is logged in', 'Failed: ', 'does not remember'])
      assert.equal(await it.getByText(unknown).isVisible(), false, unknown);
    assert.equal(await it.locator('#away').isVisible(), false, 'the hub answers');
    assert.equal(await it.getAttribute('#link', 'data-link'), 'up');
  }
  const ends = await page.locator('[data-lane="user"]').evaluate((lane) => {
    const right = (what) => Math.max(...[...lane.querySelectorAll(what)].map((it) => it.getBoundingClientRect().right));
    return [right('.piece'), right('.mark')];
  });
  assert.ok(ends[0] <= ends[1], `the timeline goes on after the last change: ${ends}`);

  await page.click('#kick-all');
  assert.equal(await page.textContent('#confirm-yes'), 'Kick all and revoke tokens');
  await page.click('#confirm-yes');
  await page.locator('#user-state [data-state="Offline"]').waitFor();
  await page.locator('.outcome', { hasText: 'Older tokens are refused' }).waitFor();
  await page.locator('#user-damaged').waitFor({ state: 'hidden' });
  await row(page, 'Changes', '[data-cause="recovered"]').waitFor();
  await page.getByText('No device is logged in').waitFor();
  assert.ok(!((await api(hub, 'users')).damaged ?? []).includes('carl'));
});

test('the timeline and the table of changes say how many changes they leave out', async () => {
  const page = await dashboard(browser, hub, '#/users/bert');
  const said = page.locator('.damage', { hasText: 'Changes left out because they are damaged on disk: 1.' });
  await page.locator('.timeline-card').filter({ has: said }).waitFor();
  await page.locator('[aria-label="Changes"]').first().waitFor();
  assert.equal(await said.count(), 2);
  await row(page, 'Changes', '[data-cause="login"]').waitFor();
  assert.equal(await row(page, 'Changes', '[data-cause="custom"]').count(), 0);
  await page.locator('#user-state [data-state="PushOnline"]').waitFor();
  await go(page, '#/users/anna');
  await page.locator('#user-damaged').waitFor();
  assert.equal(await said.count(), 0);
});

test('the feed has a row for a damaged change under every filter except another user', async () => {
  const page = await dashboard(browser, hub);
  await beginFeedEarly(page);
  await go(page, '#/feed');
  const damaged = row(page, 'Feed', '[data-user="bert"][data-cause="damaged"]');
  await damaged.filter({ hasText: 'damaged on disk: the change is unknown' }).waitFor();
  await row(page, 'Feed', '[data-cause="close"]').first().waitFor();
  await page.getByLabel('Cause').selectOption('login');
  await row(page, 'Feed', '[data-cause="close"]').first().waitFor({ state: 'detached' });
  assert.equal(await damaged.count(), 1);
  await page.getByRole('searchbox', { name: 'User id contains' }).fill('nobody');
  await damaged.waitFor({ state: 'detached' });
  await page.getByRole('searchbox', { name: 'User id contains' }).fill('');
  await go(page, '#/feed?user=ber');
  await damaged.getByRole('link', { name: 'bert' }).click();
  await page.locator('#user-name', { hasText: 'bert' }).waitFor();
});

test('left-out watchers are named; a long list is collapsed', async () => {
  const page = await dashboard(browser, hub);
  // After a restart, a user with a damaged record has no connection and so watches no one.
  const users = Array.from({ length: 25 }, (_, i) => `watcher ${i}`);
  await page.route('**/v1/users/bert/watchers?*', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), damaged: users } });
  });
  await go(page, '#/users/bert');
  const damage = page.locator('.damage', { hasText: 'Users left out' });
  await damage.waitFor();
  assert.deepEqual(await named(damage), users);
  assert.equal(await damage.locator('li:visible').count(), 20);
  await damage.getByText('and 5 more').click();
  assert.equal(await damage.locator('li:visible').count(), 25);
  assert.equal(await page.getByText('Nobody watches this user').isVisible(), false);
});

for (const colorScheme of ['light', 'dark']) {
  for (const [locale, said] of [
    ['en', 'damaged on disk'],
    ['zh', /磁盘上已?损坏/],
  ]) {
    test(`damage notices are accessible: ${colorScheme}, ${locale}`, async () => {
      const page = await dashboard(browser, hub, '#/users', { colorScheme, locale, viewport: { width: 375, height: 800 } });
      await beginFeedEarly(page);
      for (const address of ['#/users', '#/sessions', '#/users/anna', '#/users/bert', '#/feed?user=bert']) {
        await go(page, address);
        await page.locator('.damage:visible, tr[data-cause="damaged"]', { hasText: said }).first().waitFor();
        const cut = await page.locator('.listing .scroll').evaluateAll((all) => all.filter((it) => it.scrollWidth > it.clientWidth).length);
        assert.equal(cut, 0, `${address}: a list is cut off`);
        assert.deepEqual(await barriers(page), [], address);
        const tooWide = await overflow(page);
        assert.ok(tooWide <= 0, `${address} is ${tooWide} px too wide`);
      }
    });
  }
}
