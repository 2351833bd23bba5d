// The demo in real browser windows, on a real hub.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connection, logged, sees, startBrowser, told } from './browser.mjs';
import { startHub, startProxy } from './hub.mjs';

// The windows are short. The grace of a closed page keeps its default (1 s), because a reload must fit into it.
const SHORT = {
  'liveness.web_ping': '500ms', 'liveness.web_silence': '1500ms', 'liveness.background': '2s', 'liveness.exit': '500ms',
};
const NAMES = { web: 'Web', android: 'Android', ios: 'iOS', windows: 'Windows', ipad: 'iPad', miniprogram: 'Mini-program' };
let browser;
let hub;

before(async () => {
  hub = await startHub(SHORT);
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

test('two windows see each other live; a closed page is Offline within 2 s; a reload is not visible', async () => {
  const alice = await browser.demo(hub, { user: 'alice', watch: 'bob,carol' });
  await sees(alice, 'bob', 'Offline');
  const bob = await browser.demo(hub, { user: 'bob', watch: 'alice' });
  await Promise.all([sees(alice, 'bob', 'Online'), sees(bob, 'alice', 'Online')]);

  await bob.fill('#custom', 'in a meeting');
  await bob.click('#custom-set');
  await alice.locator('[data-user="bob"] .custom', { hasText: 'in a meeting' }).waitFor();

  const before = await told(alice, 'bob');
  const session = await bob.textContent('#session');
  await bob.reload();
  await connection(bob, 'connected');
  assert.equal(await bob.textContent('#session'), session, 'resumed');
  // Another page that closes after the reload is missed later than the reload would have been.
  const carol = await browser.demo(hub, { user: 'carol' });
  await sees(alice, 'carol', 'Online');
  const closed = Date.now();
  await carol.close();
  await sees(alice, 'carol', 'Offline');
  assert.ok(Date.now() - closed < 2000, `${Date.now() - closed} ms`);
  assert.deepEqual(await told(alice, 'bob'), before);
});

test('a log-out is visible at once, and no event follows it', async () => {
  const dave = await browser.demo(hub, { user: 'dave' });
  const watcher = await browser.demo(hub, { user: 'watcher', watch: 'dave' });
  await sees(watcher, 'dave', 'Online');
  await dave.click('#logout');
  await sees(watcher, 'dave', 'Offline');
  await connection(dave, 'disconnected');
  await dave.locator('#login:enabled').waitFor();
  assert.deepEqual(await told(dave, 'dave'), ['Online']);
});

test('a tab whose network is cut without a close is Offline after the window', async () => {
  const proxy = await startProxy(hub.port);
  try {
    const watcher = await browser.demo(hub, { user: 'watcher2', watch: 'erin,frank' });
    await browser.demo(hub, { user: 'erin' }, { place: proxy });
    const frank = await browser.demo(hub, { user: 'frank' });
    await Promise.all([sees(watcher, 'erin', 'Online'), sees(watcher, 'frank', 'Online')]);
    const since = Date.now();
    proxy.cut();
    await sees(watcher, 'erin', 'Offline');
    const took = Date.now() - since;
    // 1.5 s after it was last heard, which is one ping earlier at most, and up to a second late.
    assert.ok(took > 900 && took < 3500, `${took} ms`);

    await frank.click('#cut');
    await sees(watcher, 'frank', 'Offline');
  } finally {
    await proxy.stop();
  }
});

test('two tabs of a browser are one device: Online until the last is closed', async () => {
  const watcher = await browser.demo(hub, { user: 'watcher3', watch: 'gina' });
  const first = await browser.demo(hub, { user: 'gina' });
  const second = await browser.demo(hub, { user: 'gina' }, { beside: first });
  await first.close();
  await second.click('#refresh');
  await second.locator('#sessions tr').nth(0).waitFor();
  await sees(watcher, 'gina', 'Online');
  assert.equal(await logged(second, 'kicked').count(), 0);
  await second.close();
  await sees(watcher, 'gina', 'Offline');
  assert.deepEqual(await told(watcher, 'gina'), ['Offline', 'Online', 'Offline']);
});

test('a mini-program closed with its close button goes Offline, and is Online again in the foreground', async () => {
  const watcher = await browser.demo(hub, { user: 'watcher4', watch: 'hugo' });
  const hugo = await browser.demo(hub, { user: 'hugo', platform: 'miniprogram' });
  await sees(watcher, 'hugo', 'Online');
  await hugo.click('#exit');
  await sees(watcher, 'hugo', 'Offline');
  await connection(hugo, 'disconnected');
  await hugo.click('#foreground');
  await sees(watcher, 'hugo', 'Online');
});

test('watched users can change at any time; a query needs no watching; a new token can be sent', async () => {
  const jane = await browser.demo(hub, { user: 'jane', watch: 'kim' });
  await browser.demo(hub, { user: 'liam' });
  await sees(jane, 'kim', 'Offline');
  await jane.fill('#who', 'liam');
  await jane.click('#who-ask');
  await jane.locator('#log [data-kind="asked"][data-user="liam"][data-state="Online"]').waitFor();
  assert.equal(await jane.locator('#watched [data-user="liam"]').count(), 0);
  await jane.click('#who-watch');
  await sees(jane, 'liam', 'Online');
  await jane.locator('#watched [data-user="kim"] button').click();
  await jane.locator('#watched [data-user="kim"]').waitFor({ state: 'detached' });
  await jane.click('#renew');
  await logged(jane, 'renew').waitFor();
  await jane.reload();
  await sees(jane, 'liam', 'Online');
  assert.equal(await jane.locator('#watched [data-user]').count(), 1, 'a reload goes on watching them');
});

test('the page opens as alice, and one click opens bob beside it', async () => {
  const own = await startHub();
  try {
    const alice = await browser.open(own.demo);
    assert.deepEqual([await alice.inputValue('#name'), await alice.inputValue('#watch')], ['alice', 'bob']);
    await alice.click('#login');
    await connection(alice, 'connected');
    assert.equal(await alice.textContent('#other'), 'Open as bob');
    const [bob] = await Promise.all([alice.context().waitForEvent('page'), alice.click('#other')]);
    await connection(bob, 'connected');
    assert.match(await bob.title(), /^bob /);
    await Promise.all([sees(alice, 'bob', 'Online'), sees(bob, 'alice', 'Online')]);
    await logged(alice, 'status').filter({ hasText: 'bob: Offline → Online, on Web' }).waitFor();
    await bob.fill('#custom', 'in a meeting');
    await bob.click('#custom-set');
    await logged(alice, 'status').filter({ hasText: 'bob: custom status “in a meeting”' }).waitFor();
    await bob.click('#logout');
    await logged(alice, 'status').filter({ hasText: 'bob: Online → Offline, logged out or closed' }).waitFor();
  } finally {
    await own.stop();
  }
});

test('a second window whose name becomes bob watches alice, and the steps name its buttons', async () => {
  const page = await browser.open(hub.demo);
  assert.equal(await page.textContent('#step-open'), 'Click “Open as bob” for a second window, or “Open another device of alice” to try the login policy.');
  await page.fill('#name', 'bob');
  assert.equal(await page.inputValue('#watch'), 'alice');
  await page.fill('#watch', 'carol');
  await page.fill('#name', 'dave');
  assert.equal(await page.inputValue('#watch'), 'carol');
});

test('a device whose network is cut shows when the hub will detect it, and others see the silence', async () => {
  const watcher = await browser.demo(hub, { user: 'watcher5', watch: 'mona' });
  const mona = await browser.demo(hub, { user: 'mona' });
  await sees(watcher, 'mona', 'Online');
  assert.equal(await mona.locator('#countdown').isVisible(), false);
  await mona.click('#cut');
  await mona.locator('#countdown', { hasText: /detects it in [12] s/ }).waitFor();
  await sees(watcher, 'mona', 'Offline');
  await logged(watcher, 'status').filter({ hasText: /mona: Online → Offline, nothing heard for \d+ s/ }).waitFor();
  await mona.locator('#countdown').waitFor({ state: 'hidden' });
});

test('a kicked window shows no user as Online', async () => {
  const own = await startHub({ 'login.policy': 'single' });
  try {
    const nina = await browser.demo(own, { user: 'nina', watch: 'oscar', device: 'd1' });
    await browser.demo(own, { user: 'oscar' });
    await sees(nina, 'oscar', 'Online');
    await browser.demo(own, { user: 'nina', platform: 'ios', device: 'd2' });
    await connection(nina, 'disconnected');
    const oscar = nina.locator('#watched [data-user="oscar"]');
    await oscar.filter({ hasText: 'Unknown' }).filter({ hasText: 'was Online' }).waitFor();
    assert.equal(await nina.locator('[data-state="Online"].badge').count(), 0);
    await nina.locator('#stale', { hasText: 'Not connected' }).waitFor();
    await nina.locator('#foreground:disabled').waitFor();
    await logged(nina, 'kicked').filter({ hasText: 'logged in on another device' }).waitFor();
    await nina.click('#use-here');
    await sees(nina, 'oscar', 'Online');
    assert.equal(await nina.locator('#stale').isVisible(), false);
  } finally {
    await own.stop();
  }
});

test('a user can end another of their own sessions', async () => {
  const phone = await browser.demo(hub, { user: 'ines', device: 'd1' });
  const other = await browser.demo(hub, { user: 'ines', device: 'd1' });
  await other.click('#refresh');
  await other.locator('#sessions tr[data-current="false"] button').click();
  await connection(phone, 'disconnected');
  await phone.locator('#notice', { hasText: 'another of your devices' }).waitFor();
  await connection(other, 'connected');
});

describe('the login policy', () => {
  const table = [
    // policy, first login, second login, is the first kicked?
    ['single', 'web', 'android', true],
    ['single', 'ios', 'ios', true],
    ['dual', 'web', 'android', false],
    ['dual', 'windows', 'android', true],
    ['triple', 'windows', 'android', false],
    ['triple', 'ipad', 'android', true],
    ['multi', 'ios', 'android', false],
    ['multi', 'web', 'web', true],
    ['multi', 'web', 'miniprogram', true],
  ];
  for (const policy of new Set(table.map(([name]) => name))) {
    test(policy, async () => {
      const own = await startHub({ 'login.policy': policy });
      try {
        for (const [, one, two, kicked] of table.filter(([name]) => name === policy)) {
          const user = `${one}-${two}`;
          const first = await browser.demo(own, { user, platform: one, device: 'd1' });
          const second = await browser.demo(own, { user, platform: two, device: 'd2' });
          if (kicked) {
            await staysKicked(first, `${NAMES[two]} d2`);
            await useHere(first, second, `${NAMES[one]} d1`);
          } else {
            await second.click('#refresh');
            await second.locator('#sessions tr').nth(1).waitFor();
            await connection(first, 'connected');
          }
          await Promise.all([first.close(), second.close()]);
        }
      } finally {
        await own.stop();
      }
    });
  }

  async function staysKicked(page, by) {
    await connection(page, 'disconnected');
    await page.locator('#notice', { hasText: by }).waitFor();
    await page.reload();
    await page.locator('#notice', { hasText: by }).waitFor();
    await connection(page, 'disconnected');
    assert.equal(await logged(page, 'state').count(), 0, 'after the reload it did not even try');
  }

  async function useHere(page, other, by) {
    await page.click('#use-here');
    await connection(page, 'connected');
    await page.locator('#notice').waitFor({ state: 'hidden' });
    await other.locator('#notice', { hasText: by }).waitFor();
    await connection(other, 'disconnected');
  }
});
