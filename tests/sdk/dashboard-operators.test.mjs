// Operators' tasks: filters that agree with the URL and the navigation, totals, the audit log, changed settings; and a
// layout that is not stretched, cut or broken at any width.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { startBrowser } from './browser.mjs';
import { SCREENS, VIEWER_KEY, api, client, dashboard, go } from './dashboard.mjs';
import { startHub } from './hub.mjs';

let browser;
let hub;
let clients;

before(async () => {
  hub = await startHub({
    'login.policy': 'multi',
    'auth.viewer_keys': `["${VIEWER_KEY}"]`,
    'liveness.exit': '3s',
    'limits.connection_burst': '1000',
  });
  browser = await startBrowser();
  clients = await Promise.all([
    client(hub, 'anna', 'web', 'd1', { app: 'shop 4.2' }),
    client(hub, 'hanna', 'ios', 'd1', { app: 'shop 4.3' }),
    client(hub, 'otto', 'mac', 'd1', { app: 'chat 1' }),
  ]);
  await clients[1].lost();
});

after(async () => {
  await Promise.all(clients?.map((it) => it.logout()) ?? []);
  await browser?.stop();
  await hub?.stop();
});

const row = (page, table, what = '') => page.locator(`[aria-label="${table}"] tbody tr${what}`);
const nav = (page, screen) => page.locator(`#screens a[data-screen="${screen}"]`);

test('a click on the navigation clears the filters on every screen', async () => {
  const page = await dashboard(browser, hub);
  const filters = [
    ['users', 'User id', 'prefix=nob'],
    ['sessions', 'User', 'user=nob'],
    ['feed', 'User id contains', 'user=nob'],
    ['refusals', 'User id contains', 'user=nob'],
    ['audit', 'Search the audit log', 'text=nob'],
    ['system', 'Search settings', null],
  ];
  for (const [screen, label, query] of filters) {
    await nav(page, screen).click();
    const input = page.getByRole('searchbox', { name: label, exact: true });
    // Once as the address has it, and once before the typing paused.
    for (const paused of [true, false]) {
      await input.fill('nob');
      if (paused && query) await page.waitForURL(`**#/${screen}?${query}`);
      await nav(page, screen).click();
      await page.waitForFunction(
        ({ label, hash }) => {
          const inputs = [...document.querySelectorAll('#screen input[type="search"]')];
          const input = inputs.find((it) => it.closest('label').textContent === label);
          return location.hash === hash && input?.value === '';
        },
        { label, hash: `#/${screen}` },
      );
    }
    // Text typed on one screen must not affect the next one.
    await input.fill('nob');
    await nav(page, 'overview').click();
    await page.waitForTimeout(400);
    assert.equal(new URL(page.url()).hash, '#/overview', screen);
  }
  await nav(page, 'policy').click();
  await page.getByRole('button', { name: 'One Linux more' }).or(page.getByRole('button', { name: 'One more Linux' })).click();
  await page.waitForURL('**#/policy?existing=*linux*');
  await nav(page, 'policy').click();
  // The address changes first, and the screen after it.
  await page.waitForFunction(() => location.hash === '#/policy' && document.querySelector('[data-existing="linux"]')?.value === '0');
});

test('users are found by any part of their ids, and lists show the total', async () => {
  const page = await dashboard(browser, hub, '#/users');
  const shown = page.locator('.pager .hint');
  await row(page, 'Users', '[data-user="otto"]').waitFor();
  await shown.filter({ hasText: '3 of 3 shown' }).waitFor();
  await page.fill('#search', 'nna');
  await page.click('#search-within');
  await page.waitForURL('**#/users?contains=nna');
  await row(page, 'Users', '[data-user="hanna"]').waitFor();
  assert.deepEqual(await row(page, 'Users').evaluateAll((all) => all.map(({ dataset }) => dataset.user)), ['anna', 'hanna']);
  await page.reload();
  await row(page, 'Users', '[data-user="hanna"]').waitFor();
  assert.equal(await row(page, 'Users').count(), 2, 'shareable');

  await go(page, '#/sessions');
  await shown.filter({ hasText: '3 of 3 shown' }).waitFor();
  await page.getByRole('searchbox', { name: 'App begins with' }).fill('shop 4');
  await row(page, 'Sessions', '[data-user="otto"]').waitFor({ state: 'detached' });
  assert.equal(await row(page, 'Sessions').count(), 2);
  await shown.filter({ hasText: /^2 shown$/ }).waitFor();
  await go(page, '#/sessions?state=PushOnline');
  await shown.filter({ hasText: '1 of 1 shown' }).waitFor();
});

test('the overview shows which addresses have the most connections', async () => {
  const page = await dashboard(browser, hub);
  await page.locator('[data-list="by_address"] [data-name="127.0.0.1"][data-value="2"] a').click();
  await row(page, 'Sessions', '[data-user="anna"]').waitFor();
  assert.match(page.url(), /#\/sessions\?address=127\.0\.0\.1$/);
});

test('admins can see and search the audit log', async () => {
  await api(hub, 'users/nobody/kick', { all: true, message: 'spam' });
  const page = await dashboard(browser, hub, '#/audit');
  const kick = row(page, 'Audit log', '[data-action="kick"]');
  await kick.filter({ hasText: 'nobody' }).filter({ hasText: '“spam”' }).waitFor();
  await row(page, 'Audit log', '[data-action="log in"]').first().waitFor();
  await page.getByRole('searchbox', { name: 'Search the audit log' }).fill('spam');
  await row(page, 'Audit log', '[data-action="log in"]').first().waitFor({ state: 'detached' });
  assert.equal(await kick.count(), 1);
  const viewer = await dashboard(browser, hub, '#/audit', { key: VIEWER_KEY });
  await viewer.locator('#audit-refused').waitFor();
});

test('refused logins are listed with user and reason, also on the user page', async () => {
  const answer = await fetch(`${hub.origin}/dev/token`, {
    method: 'POST',
    headers: { 'X-Dev-Key': hub.devKey },
    body: JSON.stringify({ user: 'eve', platform: 'ios' }),
  });
  const { token } = await answer.json();
  for (const said of [{ token, device: 'stolen' }, { token: 'x', device: 'd' }]) {
    const socket = new WebSocket(`ws://127.0.0.1:${hub.port}/ws`);
    socket.on('open', () => socket.send(JSON.stringify({ type: 'login', id: 1, platform: 'web', ...said })));
    await once(socket, 'close');
  }
  const page = await dashboard(browser, hub, '#/refusals');
  const refused = row(page, 'Refused logins');
  await refused.filter({ hasText: 'token is for another platform' }).filter({ hasText: 'stolen' }).waitFor();
  await refused.filter({ hasText: 'token not accepted' }).filter({ hasText: 'not readable' }).waitFor();
  await page.getByRole('combobox', { name: 'Reason' }).selectOption('platform_not_allowed');
  await refused.filter({ hasText: 'token not accepted' }).waitFor({ state: 'detached' });
  await refused.getByRole('link', { name: 'eve' }).click();
  await row(page, 'Refused logins').filter({ hasText: 'stolen' }).waitFor();
  assert.equal(await row(page, 'Refused logins').count(), 1);
});

test('changed settings are marked, and setting names break only between words', async () => {
  const page = await dashboard(browser, hub, '#/system', { viewport: { width: 900, height: 900 } });
  const setting = (name) => row(page, 'Configuration in effect', `[data-setting="${name}"]`);
  await setting('liveness.exit').filter({ hasText: 'changed' }).filter({ hasText: '"4s"' }).waitFor();
  await setting('auth.viewer_keys').filter({ hasText: 'changed' }).waitFor();
  assert.equal(await setting('liveness.web_ping').getAttribute('data-changed'), 'false');
  const broken = await page.locator('.setting-name').evaluateAll((all) =>
    all
      .filter((it) =>
        [...it.childNodes].some((node) => {
          const range = document.createRange();
          range.selectNodeContents(node);
          return node.nodeType === Node.TEXT_NODE && new Set([...range.getClientRects()].map(({ top }) => top)).size > 1;
        }),
      )
      .map((it) => it.textContent),
  );
  assert.deepEqual(broken, []);
  await page.getByLabel('Changed only').check();
  await setting('liveness.web_ping').waitFor({ state: 'detached' });
  await setting('liveness.exit').waitFor();
  const config = await api(hub, 'config');
  assert.ok(!('defaults' in config));
});

/** What is cut off at the side of its own box, or sticks out of the window, though nothing scrolls there. */
const faults = (page) =>
  page.evaluate(() => {
    const name = (it) => `${it.tagName.toLowerCase()}.${it.className} "${(it.textContent ?? '').slice(0, 30)}"`;
    const all = [...document.querySelectorAll('body *')].filter((it) => it instanceof HTMLElement && it.offsetParent !== null);
    const wide = all.filter((it) => {
      if (it.closest('.scroll, nav, .skip, select, thead')) return false;
      const { left, right } = it.getBoundingClientRect();
      return right > innerWidth + 1 || left < -1;
    });
    const chips = all.filter((it) => it.matches('button, .button, .badge, .chip, .segment, h1, h2, h3, .mark-word'));
    const cut = chips.filter((it) => it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).display !== 'inline');
    return [...new Set([...wide, ...cut])].map(name);
  });

for (const width of [375, 768, 1280, 1920]) {
  test(`no text is stretched or cut at ${width} px`, async () => {
    for (const locale of ['en', 'zh']) {
      const how = { locale, viewport: { width, height: 1000 } };
      const form = await browser.open(`${hub.origin}/static/`, how);
      await form.locator('#key-form').waitFor();
      const { height } = await form.locator('#key-form').boundingBox();
      assert.ok(height < 330, `the form is ${height} px high`);
      assert.deepEqual(await faults(form), [], 'the form');
      const demo = await browser.open(hub.demo, how);
      await demo.locator('#platform option', { hasText: 'iPad' }).waitFor({ state: 'attached' });
      assert.deepEqual(await faults(demo), [], 'the demo');
      await demo.close();

      const page = await dashboard(browser, hub, '#/overview', how);
      for (const address of [...SCREENS.map((screen) => `#/${screen}`), '#/users/anna']) {
        await go(page, address);
        await page
          .locator('#screen')
          .getByText(/anna|[●○✓]|refused|拒绝/)
          .first()
          .waitFor();
        assert.deepEqual(await faults(page), [], `${address} ${locale}`);
        const lefts = await page
          .locator('#screen > section > .card > h2, #screen > section > .card > .title > h2')
          .evaluateAll((all) => all.map((it) => Math.round(it.getBoundingClientRect().left)));
        if (!['#/overview', '#/system'].includes(address)) assert.ok(new Set(lefts).size <= 1, `${address}: ${lefts}`);
      }
      await form.close();
      await page.close();
    }
  });
}
