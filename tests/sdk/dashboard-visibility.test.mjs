// Who sees whom, on the dashboard and in the demo, in a real browser on a real hub.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sees, startBrowser, told } from './browser.mjs';
import { HOSTILE, VIEWER_KEY, api, barriers, client, dashboard, go, overflow } from './dashboard.mjs';
import { startHub } from './hub.mjs';

let browser;
let hub;

before(async () => {
  hub = await startHub({ 'auth.viewer_keys': `["${VIEWER_KEY}"]`, 'visibility.self_service': 'true', 'login.policy': 'multi' });
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

const row = (page, table, what) => page.locator(`[aria-label="${table}"] tbody tr${what}`);
const member = (page, list, user) => page.locator(`[data-list="${list}"] li[data-user="${user}"]`);
const tells = (page, text) => page.locator('.outcome', { hasText: text }).waitFor();

/** Answers the question with yes, after a look at what it says. */
async function confirm(page, title, action) {
  await page.locator('#confirm-title', { hasText: title }).waitFor();
  assert.equal(await page.textContent('#confirm-yes'), action);
  await page.click('#confirm-yes');
  await tells(page, 'Changed.');
}

test('an admin hides and shows a user after a question; the timeline says it in words', async () => {
  const ana = await client(hub, 'ana');
  const vic = await client(hub, 'vic');
  const seen = [];
  vic.subscribe('ana', ({ state }) => seen.push(state));
  const page = await dashboard(browser, hub, '#/users/ana?range=hour');
  await page.locator('#user-hidden', { hasText: 'Not hidden' }).waitFor();
  await page.click('#hide-user');
  await page.click('#confirm-no');
  assert.equal((await api(hub, 'users/ana/visibility')).hidden, false, 'a question is no order');
  await page.click('#hide-user');
  await confirm(page, 'Hide ana?', 'Hide this user');
  await page.locator('#user-hidden', { hasText: 'Everybody else sees Offline. Hidden since' }).waitFor();
  await page.locator('#user-state', { hasText: 'Hidden' }).waitFor();
  await page.locator('#user-state', { hasText: 'Online' }).waitFor();
  assert.deepEqual([seen.at(-1), ana.state], ['Offline', 'connected']);
  await row(page, 'Changes', '[data-cause="visibility"]').filter({ hasText: 'hidden from everybody else, no viewer blocked' }).waitFor();
  await page.locator('.lane.user .mark[aria-label*="hidden from everybody else"]').waitFor();
  await page.locator('#hide-user', { hasText: 'Show this user again' }).click();
  await confirm(page, 'Show ana again?', 'Show this user again');
  await page.locator('#user-hidden', { hasText: 'Not hidden' }).waitFor();
  assert.equal(seen.at(-1), 'Online');
  await page.selectOption('#language', 'zh');
  await row(page, '变化', '[data-cause="visibility"]').filter({ hasText: '对其他所有人隐身' }).waitFor();
  await Promise.all([ana.logout(), vic.logout()]);
});

test('an admin blocks and unblocks viewers, and changes the watch list; others stay', async () => {
  await api(hub, 'status', { users: ['bea'] });
  const page = await dashboard(browser, hub, '#/users/bea');
  await page.getByText('No viewer is blocked.').waitFor();
  await page.getByText('The watch list is empty.').waitFor();
  for (const viewer of ['mallory', HOSTILE]) {
    await page.fill('#block_viewer', viewer);
    await page.press('#block_viewer', 'Enter');
    await confirm(page, `Block ${viewer} from seeing bea?`, 'Block');
    await page.locator('[data-list="blocked_viewers"] li', { hasText: viewer }).waitFor();
  }
  assert.deepEqual((await api(hub, 'users/bea/visibility')).blocked.sort(), [HOSTILE, 'mallory'].sort());
  await member(page, 'blocked_viewers', 'mallory').getByRole('button').click();
  await confirm(page, 'Unblock mallory?', 'Unblock');
  await member(page, 'blocked_viewers', 'mallory').waitFor({ state: 'detached' });
  assert.deepEqual((await api(hub, 'users/bea/visibility')).blocked, [HOSTILE]);
  for (const other of ['cy', 'dan']) {
    await page.fill('#watch_add_user', other);
    await page.press('#watch_add_user', 'Enter');
    await confirm(page, `Add ${other} to the watch list of bea?`, 'Add');
    await member(page, 'watch_list', other).waitFor();
  }
  await member(page, 'watch_list', 'cy').getByRole('button').click();
  await confirm(page, 'Remove cy from the watch list of bea?', 'Remove');
  await member(page, 'watch_list', 'cy').waitFor({ state: 'detached' });
  assert.deepEqual(await api(hub, 'users/bea/watch-list'), { users: ['dan'], count: 1 });
  await page.fill('#block_viewer', ' bad\u0001 ');
  await page.press('#block_viewer', 'Enter');
  await page.click('#confirm-yes');
  await tells(page, 'Failed: ');
  assert.equal(await page.locator('img').count(), 0);
  await member(page, 'watch_list', 'dan').locator('a').click();
  await page.locator('#user-name', { hasText: 'dan' }).waitFor();
  await go(page, '#/audit');
  await page.getByText('change the watch list').first().waitFor();
  await page.getByText('set who may see the user').first().waitFor();
});

test('an admin erases a user, whose id must be typed first', async () => {
  const eve = await client(hub, HOSTILE);
  const kicked = new Promise((done) => eve.on('kicked', done));
  const list = `users/${encodeURIComponent(HOSTILE)}`;
  for (const [path, body] of [['visibility', { hidden: true }], ['watch-list', { users: ['dan'] }]]) {
    const put = await fetch(`${hub.origin}/v1/${list}/${path}`, {
      method: 'PUT', headers: { 'X-API-Key': hub.adminKey }, body: JSON.stringify(body),
    });
    assert.equal(put.status, 200);
  }
  const page = await dashboard(browser, hub, `#/users/${encodeURIComponent(HOSTILE)}`);
  await member(page, 'watch_list', 'dan').waitFor();
  await page.click('#erase-user');
  await page.locator('#confirm-title', { hasText: `Erase ${HOSTILE}?` }).waitFor();
  assert.equal(await page.textContent('#confirm-yes'), 'Erase this user');
  assert.deepEqual(await barriers(page), []);
  for (const typed of ['', 'eve']) {
    await page.fill('#typed', typed);
    await page.click('#confirm-yes');
    await page.locator('#confirm-problem', { hasText: 'This is not the user ID.' }).waitFor();
  }
  await page.fill('#typed', HOSTILE);
  await page.click('#confirm-no');
  assert.equal((await api(hub, list)).state, 'Online', 'a question is no order');
  await page.click('#erase-user');
  assert.equal(await page.inputValue('#typed'), '', 'it is asked for each time');
  await page.fill('#typed', HOSTILE);
  await page.click('#confirm-yes');
  await tells(page, 'Erased. Sessions that ended: 1.');
  await kicked;
  await page.locator('#user-state', { hasText: 'Offline' }).waitFor();
  await page.getByText('The watch list is empty.').waitFor();
  assert.equal((await api(hub, `${list}/visibility`)).hidden, false);
  await page.selectOption('#language', 'zh');
  await page.click('#erase-user');
  await page.locator('#confirm-title', { hasText: `清除 ${HOSTILE}？` }).waitFor();
  await page.click('#confirm-no');
  await go(page, '#/audit');
  await page.getByText('清除用户').first().waitFor();
});

test('a long list is folded; a viewer key sees all of it and changes nothing', async () => {
  const users = Array.from({ length: 120 }, (_, n) => `u${String(n).padStart(3, '0')}`);
  const put = await fetch(`${hub.origin}/v1/users/long/watch-list`, {
    method: 'PUT', headers: { 'X-API-Key': hub.adminKey }, body: JSON.stringify({ users }),
  });
  assert.equal(put.status, 200);
  const page = await dashboard(browser, hub, '#/users/long', { key: VIEWER_KEY, viewport: { width: 380, height: 800 } });
  await member(page, 'watch_list', 'u049').waitFor();
  assert.equal(await page.locator('[data-list="watch_list"] li').count(), 50);
  await page.getByText('and 70 more').click();
  await member(page, 'watch_list', 'u119').waitFor();
  assert.equal(await page.locator('#erase-user').count(), 0);
  assert.equal(await page.locator('#user-visibility button:visible, #user-visibility form:visible').count(), 0);
  assert.ok((await overflow(page)) <= 0);
});

test('the page has no barriers', async () => {
  await api(hub, 'users/bea/kick', { all: true });
  for (const colorScheme of ['light', 'dark']) {
    const page = await dashboard(browser, hub, '#/users/bea', { colorScheme });
    await member(page, 'watch_list', 'dan').waitFor();
    assert.deepEqual(await barriers(page), []);
  }
});

test('the demo hides and blocks: a logout for others', async () => {
  const vic = await browser.demo(hub, { user: 'demo-vic', watch: 'demo-ana' });
  const ana = await browser.demo(hub, { user: 'demo-ana' });
  await sees(vic, 'demo-ana', 'Online');
  await ana.click('#invisible');
  await sees(vic, 'demo-ana', 'Offline');
  await ana.locator('#seen[data-hidden="true"]').waitFor();
  await ana.reload();
  await ana.locator('#seen[data-hidden="true"]').waitFor();
  await ana.click('#visible');
  await sees(vic, 'demo-ana', 'Online');
  await ana.fill('#viewer', 'demo-vic');
  await ana.click('#block');
  await ana.locator('#blocked [data-user="demo-vic"]').waitFor();
  await sees(vic, 'demo-ana', 'Offline');
  await ana.locator('#blocked [data-user="demo-vic"] button').click();
  await ana.locator('#blocked-none').waitFor();
  await sees(vic, 'demo-ana', 'Online');
  assert.deepEqual(await told(vic, 'demo-ana'), ['Offline', 'Online', 'Offline', 'Online', 'Offline', 'Online']);
});

test('where the hub does not let users hide, the demo says so', async () => {
  const strict = await startHub();
  try {
    const page = await browser.demo(strict, { user: 'demo-eve' });
    await page.locator('#self-service-off').waitFor();
    assert.deepEqual(await Promise.all(['#invisible', '#block', '#viewer'].map((it) => page.isDisabled(it))), [true, true, true]);
    assert.equal(await page.locator('#log [data-kind="error"]').count(), 0);
  } finally {
    await strict.stop();
  }
});
