// The dashboard in a real browser, on a real hub with real sessions: access, counts and users.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { HOSTILE, SCREENS, VIEWER_KEY, client, count, cut, dashboard, go } from './dashboard.mjs';
import { startHub } from './hub.mjs';

let browser;
let hub;

before(async () => {
  hub = await startHub({
    'login.policy': 'triple',
    'auth.viewer_keys': `["${VIEWER_KEY}"]`,
    'liveness.web_ping': '500ms',
    'liveness.web_silence': '2s',
  });
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

const form = (page) => page.locator('#key-form');
const row = (page, table, what) => page.locator(`[aria-label="${table}"] tbody tr${what}`);

test('a key is exchanged for a cookie that scripts cannot read; without a cookie the form is shown', async () => {
  const page = await browser.open(`${hub.origin}/static/`);
  await form(page).waitFor();
  await page.fill('#key', 'a-key-that-is-wrong');
  await page.click('#key-use');
  await page.locator('#key-problem', { hasText: 'does not accept' }).waitFor();
  await page.fill('#key', hub.adminKey);
  await page.click('#key-use');
  await page.locator('#screen h1', { hasText: 'Overview' }).waitFor();
  assert.equal(await page.evaluate(() => document.cookie), '');
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!stored.includes(hub.adminKey));
  await page.reload();
  await page.locator('#screen h1', { hasText: 'Overview' }).waitFor();

  // The hub ends the login: the form replaces the screen.
  await page.evaluate(() => fetch('/v1/admin/session', { method: 'DELETE' }));
  await page.locator('#key-problem', { hasText: 'has ended' }).waitFor();
  assert.equal(await page.locator('#screen > *').count(), 0);
});

test('the printed link logs in and its key is removed from the address bar; a log-out holds', async () => {
  const page = await browser.open(hub.dashboard);
  await page.locator('#screen h1', { hasText: 'Overview' }).waitFor();
  assert.ok(!page.url().includes('key='));
  const other = await browser.open(`${hub.origin}/static/#/system`, { beside: page });
  await other.locator('#screen h1', { hasText: 'System' }).waitFor();
  await page.click('#logout');
  await Promise.all([form(page).waitFor(), form(other).waitFor()]);
  await page.reload();
  await form(page).waitFor();
  assert.equal(await page.locator('#key-problem').isVisible(), false);
});

test('the overview counts live, and its charts can be read by keyboard', async () => {
  const page = await dashboard(browser, hub);
  await count(page, 'connections', 0);
  const alice = await client(hub, 'alice', 'web');
  const phone = await client(hub, 'bob', 'ios', 'phone');
  alice.subscribe(['bob', 'carol'], () => {});
  await Promise.all([
    count(page, 'connections', 2),
    count(page, 'Online', 2),
    count(page, 'subscriptions', 2),
    count(page, 'logins', 2),
  ]);
  await phone.lost();
  await Promise.all([count(page, 'connections', 1), count(page, 'PushOnline', 1)]);
  await page.locator('[data-list="by_platform"] [data-name="ios"][data-value="1"]').waitFor();
  await page.locator('[data-list="closes_by_reason"] [data-value]').first().waitFor();
  await page.locator('.attention-list', { hasText: 'Nothing needs attention' }).waitFor();

  const chart = page.locator('[data-chart="chart_users"] [role="slider"]');
  await page.waitForFunction(() =>
    /PushOnline 1/.test(document.querySelector('[data-chart="chart_users"] [role="slider"]').ariaValueText),
  );
  assert.match(await chart.getAttribute('aria-valuetext'), /^\d+:\d+:\d+, Online 1, PushOnline 1$/);
  await chart.focus();
  await page.keyboard.press('Home');
  assert.match(await chart.getAttribute('aria-valuetext'), /Online 0, PushOnline 0$/);
  assert.ok((await page.locator('[data-chart="chart_users"] path.line').count()) >= 2);
  await alice.logout();
  await count(page, 'connections', 0);
});

test('users are found by a prefix of the id, in pages, or by the full id', async () => {
  const all = await Promise.all(Array.from({ length: 53 }, (_, i) => client(hub, `page-${String(i).padStart(2, '0')}`)));
  const page = await dashboard(browser, hub, '#/users');
  const users = row(page, 'Users', '');
  await page.fill('#search', 'page-');
  await row(page, 'Users', '[data-user="page-49"]').waitFor();
  await page.locator('tr[data-user="alice"]').waitFor({ state: 'detached' });
  assert.equal(await users.count(), 50);
  assert.match(page.url(), /#\/users\?prefix=page-$/, 'shareable');
  await page.getByRole('button', { name: 'Next' }).click();
  await row(page, 'Users', '[data-user="page-52"]').waitFor();
  assert.equal(await users.count(), 3);
  await page.getByRole('button', { name: 'Previous' }).click();
  await row(page, 'Users', '[data-user="page-00"]').waitFor();

  await page.fill('#search', 'page-07');
  await row(page, 'Users', '[data-user="page-08"]').waitFor({ state: 'detached' });
  assert.equal(await users.count(), 1);
  await page.locator('tr[data-user="page-07"] a').click();
  await page.locator('#user-name', { hasText: 'page-07' }).waitFor();
  await go(page, '#/users');
  await page.fill('#search', 'nobody at all');
  await page.press('#search', 'Enter');
  await page.locator('#user-state', { hasText: 'Offline' }).waitFor();
  await page.getByText('The hub does not remember this user.').waitFor();
  await Promise.all(all.map((it) => it.logout()));
});

test('the timeline shows each device and the user, with the causes', async () => {
  const phone = await client(hub, 'dora', 'ios', 'phone');
  const tab = await client(hub, 'dora', 'web', 'tab');
  const fan = await client(hub, 'fan', 'web');
  fan.subscribe('dora', () => {});
  const page = await dashboard(browser, hub, '#/users/dora?range=hour');
  await page.locator('.lane[data-lane="ios phone"]').waitFor();
  await page.locator('.lane[data-lane="web tab"]').waitFor();
  await page.locator('[data-fact="platforms"]', { hasText: 'iOS · Web' }).waitFor();
  await row(page, 'Watched by', '[data-user="fan"]').waitFor();

  await cut(hub, tab);
  const silence = page.locator('.lane[data-lane="web tab"] .mark[aria-label*="Offline: nothing heard for 2 s"]');
  const changes = row(page, 'Changes', '');
  await changes.filter({ hasText: 'nothing heard for 2 s' }).waitFor();
  await tab.logout(); // or it comes back by itself
  const tablet = await client(hub, 'dora', 'ipad', 'tablet');
  await changes.filter({ hasText: 'kicked by the newer login of iPad tablet' }).waitFor();
  await changes.filter({ hasText: 'logged in, and kicked iOS phone' }).waitFor();
  await tablet.lost();
  await page.locator('#user-state', { hasText: 'PushOnline' }).waitFor();
  const closed = page.locator('.lane.user .mark[aria-label*="PushOnline: the connection ended without a close frame"]');
  await changes.filter({ hasText: 'the connection ended without a close frame' }).waitFor();

  // Changes that are close together share one mark, which describes the last of them.
  assert.ok((await closed.count()) + (await silence.count()) >= 1);
  for (const lane of ['user', 'ios phone', 'web tab', 'ipad tablet']) {
    assert.ok((await page.locator(`[data-lane="${lane}"] .piece`).count()) >= 1, lane);
    const mark = page.locator(`[data-lane="${lane}"] .mark[tabindex="0"]`);
    await mark.focus();
    assert.ok((await page.textContent('hub-timeline .detail')).length > 20);
  }
  await page.keyboard.press('ArrowUp');
  assert.notEqual(await page.evaluate(() => document.activeElement.closest('.lane').dataset.lane), 'ipad tablet');
  await page.getByRole('button', { name: 'Week' }).click();
  assert.match(page.url(), /range=week/);
  await page.getByRole('button', { name: 'Earlier' }).click();
  assert.match(page.url(), /end=\d+/);
  await Promise.all([phone.logout(), tab.logout(), fan.logout()]);
});

test('a kick reaches the client with its reason; a kick of all refuses older tokens', async () => {
  const phone = await client(hub, 'erin', 'ios', 'phone');
  const desk = await client(hub, 'erin', 'mac', 'desk');
  const page = await dashboard(browser, hub, '#/users/erin');
  const kick = row(page, 'Devices and sessions', '[data-device="phone"]').getByRole('button', { name: 'Kick' });
  await kick.click();
  assert.equal(await page.textContent('#confirm-yes'), 'Kick this session');
  await page.click('#confirm-no');
  await kick.click();
  await page.fill('#reason', 'x'.repeat(257));
  await page.click('#confirm-yes');
  await page.locator('#confirm-problem', { hasText: '256' }).waitFor();
  await page.fill('#reason', 'Please come to the desk');
  await page.click('#confirm-yes');
  assert.deepEqual([(await phone.told).reason, (await phone.told).message], ['admin', 'Please come to the desk']);
  await row(page, 'Devices and sessions', '[data-device="phone"]').waitFor({ state: 'detached' });
  assert.equal(desk.state, 'connected');

  await page.click('#kick-all');
  assert.equal(await page.textContent('#confirm-yes'), 'Kick all 1 and revoke tokens');
  await page.fill('#reason', 'bye');
  await page.press('#reason', 'Enter');
  assert.equal((await desk.told).message, 'bye');
  await page.locator('.outcome', { hasText: 'Older tokens' }).waitFor();
  await page.locator('#user-state', { hasText: 'Offline' }).waitFor();
  await row(page, 'Changes', '').filter({ hasText: 'kicked by the back end: “bye”' }).waitFor();
});

test('a viewer can read everything and change nothing', async () => {
  const phone = await client(hub, 'gina', 'ios', 'phone');
  const page = await dashboard(browser, hub, '#/users/gina', { key: VIEWER_KEY });
  await row(page, 'Devices and sessions', '[data-device="phone"]').waitFor();
  assert.equal(await page.getByRole('button', { name: /Kick/ }).count(), 0);
  await go(page, '#/sessions');
  await row(page, 'Sessions', '[data-user="gina"]').waitFor();
  assert.equal(await page.getByRole('button', { name: /Kick/ }).count(), 0);
  await go(page, '#/webhooks');
  await page.locator('#webhook-state', { hasText: 'off' }).waitFor();
  assert.equal(await page.getByRole('button', { name: /Retry|Drop|test/ }).count(), 0);
  await go(page, '#/system');
  await page.locator('#config-refused').waitFor();
  await go(page, '#/policy');
  await page.locator('[data-pair="ios ipad"][data-verdict="kicked"]').waitFor();
  // The hub also refuses the request itself.
  const status = await page.evaluate(() =>
    fetch('/v1/users/gina/kick', { method: 'POST', headers: { 'X-Presence-Hub': 'dashboard' } }).then((it) => it.status),
  );
  assert.equal(status, 403);
  assert.equal(phone.state, 'connected');
  await phone.logout();
});

test('hostile names are shown as text on every screen', async () => {
  const evil = await client(hub, HOSTILE, 'web', HOSTILE, { app: HOSTILE });
  await evil.setStatus(HOSTILE);
  evil.subscribe(HOSTILE, () => {});
  const page = await dashboard(browser, hub, '#/feed');
  await page.locator('#feed-rate', { hasText: 'in the last second' }).waitFor();
  await evil.setStatus(`${HOSTILE} again`);
  await row(page, 'Feed', '')
    .filter({ hasText: `${HOSTILE} again` })
    .waitFor();
  for (const screen of SCREENS) {
    if (screen !== 'feed') await go(page, `#/${screen}`);
    if (screen === 'users' || screen === 'sessions') await page.locator(`#screen a`, { hasText: HOSTILE }).first().waitFor();
    assert.equal(await page.locator('img').count(), 0, screen);
  }
  await go(page, `#/users/${encodeURIComponent(HOSTILE)}`);
  await row(page, 'Devices and sessions', '').waitFor();
  assert.equal(await page.textContent('#user-name'), HOSTILE);
  await page.locator('hub-timeline .mark').last().hover();
  await page.click('#kick-all');
  assert.ok((await page.textContent('#confirm-title')).includes(HOSTILE));
  await page.fill('#reason', HOSTILE);
  await page.click('#confirm-yes');
  assert.equal((await evil.told).message, HOSTILE);
  await row(page, 'Changes', '[data-cause="kicked"]')
    .filter({ hasText: `“${HOSTILE}”` })
    .waitFor();
  assert.equal(await page.locator('img').count(), 0);
  assert.ok(!(await page.title()).startsWith('owned'));
});

test('the page supports both languages, and remembers the language and the theme', async () => {
  const page = await dashboard(browser, hub);
  await page.selectOption('#language', 'zh');
  await page.locator('h1', { hasText: '总览' }).waitFor();
  assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.click('#theme');
  const light = await ground();
  await page.click('#theme');
  assert.notEqual(await ground(), light);
  const dark = await ground();
  await page.reload();
  await page.locator('h1', { hasText: '总览' }).waitFor();
  assert.equal(await ground(), dark);
  await page.click('#demo-link');
  await page.locator('#login', { hasText: '登录' }).waitFor();
  assert.equal(await ground(), dark);
});
