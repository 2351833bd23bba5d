// A7, A8 in real pages: input, tabs, a reload, and what the demo shows of it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { sees, startBrowser } from './browser.mjs';
import { barriers, client, dashboard, go } from './dashboard.mjs';
import { startHub } from './hub.mjs';

const WAIT_MS = 15_000;
let browser;
let hub;

before(async () => {
  hub = await startHub();
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

/** A page with a client that is idle after two seconds: a text, as it runs no script of its own. */
async function open(user, { beside } = {}) {
  const page = await browser.open(`${hub.origin}/static/presence.js`, { beside });
  await start(page, user);
  return page;
}

const start = (page, user) =>
  page.evaluate(
    async ([user, key]) => {
      const { PresenceClient } = await import('/static/presence.mjs');
      const getToken = async () => {
        const body = JSON.stringify({ user, platform: 'web', ttl: '1h' });
        const headers = { 'Content-Type': 'application/json', 'X-Dev-Key': key };
        return (await (await fetch('/dev/token', { method: 'POST', headers, body })).json()).token;
      };
      const url = location.origin.replace('http', 'ws') + '/ws';
      globalThis.ours = new PresenceClient({ url, user, getToken, away: { after: '2s', hidden: '2s' }, heartbeat: 200 });
      return (await globalThis.ours.connect()).resumed;
    },
    [user, hub.devKey],
  );

const detail = async (user) => (await fetch(`${hub.origin}/v1/users/${user}`, { headers: { 'X-API-Key': hub.adminKey } })).json();

/** Waits until the hub says this of a user; returns what it says. */
async function until(user, what, is) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const now = await detail(user);
    if (is(now)) return now;
    assert.ok(Date.now() < deadline, `${what}: ${JSON.stringify(now)}`);
    await setTimeout(50);
  }
}

const untilAway = (user) => until(user, 'away', ({ away }) => away);
const untilBack = (user) => until(user, 'back', ({ away }) => !away);

const INPUTS = {
  'a pointer': (page) => page.mouse.move(100 + Math.random() * 100, 100),
  'a click': (page) => page.mouse.click(50, 50),
  'a key': (page) => page.keyboard.press('a'),
  'a wheel': (page) => page.mouse.wheel(0, 200),
  'a scroll': (page) => page.evaluate(() => scrollBy(0, 100)),
};

for (const [what, act] of Object.entries(INPUTS)) {
  test(`a page is away two seconds after its last input, and back at ${what}`, async () => {
    const user = `ana-${what.replace(' ', '-')}`;
    const page = await open(user);
    const { terminals: [terminal] } = await untilAway(user);
    assert.ok(Date.now() - terminal.active_at >= 2000, 'not touched for two seconds');
    assert.equal(terminal.activity, 'idle');
    await act(page);
    const { terminals: [again] } = await untilBack(user);
    assert.equal(again.activity, 'active');
    await page.close();
  });
}

test('a reload of an idle page brings nobody back; the first input does', async () => {
  const page = await open('bo');
  const { since } = await untilAway('bo');
  await page.reload();
  assert.equal(await start(page, 'bo'), true, 'resumed');
  await setTimeout(1000);
  const now = await detail('bo');
  assert.deepEqual([now.away, now.since], [true, since]);
  await page.keyboard.press('a');
  await untilBack('bo');
  await page.close();
});

test('the tabs of a browser share input', async () => {
  const first = await open('cy');
  const second = await open('cy', { beside: first });
  for (let n = 0; n < 10; n++) {
    await second.mouse.move(100 + n, 100);
    await setTimeout(500);
  }
  const { terminals } = await until('cy', 'both tabs', ({ terminals }) => terminals.length === 2);
  assert.deepEqual(terminals.map(({ activity }) => activity), ['active', 'active']);
  await untilAway('cy');
  await second.keyboard.press('a');
  await until('cy', 'both tabs to be back', ({ terminals }) => terminals.every(({ activity }) => activity === 'active'));
  await first.close();
  await second.close();
});

test('the demo shows who is away by shape and word, and says when', async () => {
  const watcher = await browser.demo(hub, { user: 'watcher', watch: 'dee' });
  const page = await open('dee');
  await sees(watcher, 'dee', 'Online');
  const mark = watcher.locator('#watched [data-user="dee"] .absence');
  await mark.waitFor();
  assert.equal(await mark.textContent(), '☾ Away');
  await watcher.locator('#log [data-user="dee"]', { hasText: 'away' }).waitFor();
  await page.keyboard.press('a');
  await mark.waitFor({ state: 'detached' });
  await page.close();
});

test('the dashboard shows who is away and which device is idle, by shape and word, in both languages', async () => {
  const phone = await client(hub, 'eve', 'ios');
  const busy = await client(hub, 'fay', 'ios');
  await phone.background();
  for (const [locale, away, idle] of [['en-US', '☾ Away', '☾ Idle'], ['zh-CN', '☾ 离开', '☾ 闲置']]) {
    const page = await dashboard(browser, hub, '#/users/eve', { locale });
    await page.locator('#screen .absence', { hasText: away }).first().waitFor();
    await page.locator('#screen table .absence', { hasText: idle }).waitFor();
    assert.deepEqual(await barriers(page), []);
    await go(page, '#/users');
    await page.locator('[data-user="eve"] .absence', { hasText: away }).waitFor();
    assert.equal(await page.locator('[data-user="fay"] .absence').count(), 0);
    await go(page, '#/sessions');
    await page.locator('[data-user="eve"] .absence', { hasText: idle }).waitFor();
    await go(page, '#/overview');
    await page.locator('[data-count="Online"] [data-away]', { hasText: away }).waitFor();
    assert.deepEqual(await barriers(page), []);
    await page.close();
  }
  const page = await dashboard(browser, hub, '#/users/eve');
  await page.locator('#screen .absence').first().waitFor();
  await phone.foreground();
  await page.locator('#screen .absence').first().waitFor({ state: 'detached' });
  await page.getByText('a device is in use again').first().waitFor();
  await Promise.all([phone.logout(), busy.logout()]);
});
