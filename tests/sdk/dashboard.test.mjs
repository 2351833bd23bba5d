// The dashboard in a real browser, on a real hub.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connection, startBrowser } from './browser.mjs';
import { startHub } from './hub.mjs';

const HOSTILE = '<img src=x onerror="document.title=\'owned\'">';
let browser;
let hub;

before(async () => {
  hub = await startHub({ 'login.policy': 'multi' });
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

const count = (page, name, value) => page.locator(`[data-count="${name}"] [data-value="${value}"]`).waitFor();

async function find(page, user) {
  await page.fill('#user', user);
  await page.click('#find-button');
  await page.locator('#found').filter({ hasText: user }).waitFor();
}

async function confirm(page, message) {
  if (message) await page.fill('#message', message);
  await page.click('#confirm-yes');
}

test('shows the counts, live', async () => {
  const page = await browser.open(hub.dashboard);
  assert.ok(!page.url().includes('key='), 'the key leaves the address bar');
  await count(page, 'connections', 0);
  const alice = await browser.demo(hub, { user: 'alice', watch: 'bob,carol' });
  await Promise.all([count(page, 'connections', 1), count(page, 'Online', 1), count(page, 'subscriptions', 2)]);
  await page.locator('#by-platform [data-platform="web"][data-value="1"]').waitFor();
  assert.equal(await page.locator('#nodes tr').count(), 1);
  await alice.click('#logout');
  await Promise.all([count(page, 'connections', 0), count(page, 'Online', 0)]);
  await page.reload();
  await count(page, 'connections', 0); // the tab keeps the key
});

test('finds a user, follows the devices, and kicks one of them', async () => {
  const page = await browser.open(hub.dashboard);
  await find(page, 'bob');
  await page.locator('#result[data-state="Offline"]').waitFor();
  await page.locator('#unknown').waitFor();
  const phone = await browser.demo(hub, { user: 'bob', platform: 'ios', device: 'phone' });
  const desk = await browser.demo(hub, { user: 'bob', platform: 'mac', device: 'desk' });
  await page.locator('#result[data-state="Online"]').waitFor();
  await page.locator('#terminals [data-device="desk"]').waitFor();

  await page.locator('#terminals [data-device="phone"] button').click();
  await page.click('#confirm-no');
  await page.locator('#terminals [data-device="phone"] button').click();
  await confirm(page, 'Please come to the desk');
  await connection(phone, 'disconnected');
  await phone.locator('#notice', { hasText: 'Please come to the desk' }).waitFor();
  await page.locator('#terminals [data-device="phone"]').waitFor({ state: 'detached' });
  await connection(desk, 'connected');

  await page.click('#kick-all');
  await confirm(page);
  await connection(desk, 'disconnected');
  await page.locator('#outcome', { hasText: 'Older tokens' }).waitFor();
  await page.locator('#result[data-state="Offline"]').waitFor();
});

test('a hostile user id is text', async () => {
  const page = await browser.open(hub.dashboard);
  const user = await browser.demo(hub, { user: HOSTILE, watch: HOSTILE, device: HOSTILE });
  await user.fill('#custom', HOSTILE);
  await user.click('#custom-set');
  await user.locator('#watched .custom').waitFor();
  await find(page, HOSTILE);
  await page.locator('[data-fact="custom"]', { hasText: HOSTILE }).waitFor();
  await page.locator('#terminals tr').waitFor();
  await page.click('#kick-all');
  assert.equal(await page.textContent('#found'), HOSTILE);
  assert.ok((await page.textContent('#confirm-title')).includes(HOSTILE));
  for (const it of [page, user]) {
    assert.equal(await it.locator('img').count(), 0);
    assert.notEqual(await it.title(), 'owned');
  }
  await confirm(page, HOSTILE);
  await user.locator('#notice', { hasText: HOSTILE }).waitFor();
  assert.equal(await user.locator('img').count(), 0);
});

test('asks for a key where there is none, or a wrong one', async () => {
  const page = await browser.open(`${hub.origin}/static/`);
  await page.fill('#key', 'a-key-that-is-wrong');
  await page.locator('#key-form button').click();
  await page.locator('#notice', { hasText: 'does not accept' }).waitFor();
  await page.fill('#key', hub.adminKey);
  await page.locator('#key-form button').click();
  await page.locator('#tiles').waitFor();
  await page.click('#key-forget');
  await page.locator('#key-form').waitFor();
  await page.reload();
  await page.locator('#key-form').waitFor();
});

test('speaks both languages, and remembers which', async () => {
  const page = await browser.open(hub.dashboard);
  await page.locator('h1', { hasText: 'Overview' }).waitFor();
  await page.selectOption('#language', 'zh');
  await page.locator('h1', { hasText: '总览' }).waitFor();
  await page.click('nav a[href="demo.html"]');
  await page.locator('#login', { hasText: '登录' }).waitFor();
  assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
});
