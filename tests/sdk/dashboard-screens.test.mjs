// The dashboard's lists, feed, policy, webhooks and system, on a real hub with real sessions; and a hub that restarts.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { api, client, count, dashboard, go } from './dashboard.mjs';
import { advance, startHub } from './hub.mjs';

// Webhook retries come at growing intervals.
const PATIENT = { timeout: 30_000 };
let browser;
let receiver;
let hub;

before(async () => {
  receiver = await startReceiver();
  hub = await startHub({
    'login.policy': 'dual',
    'webhook.url': `${receiver.url}?secret=hidden`,
    'webhook.secrets': '["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]',
    'webhook.give_up_after': '1s',
    'limits.connection_burst': '1000',
  });
  browser = await startBrowser();
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
  receiver?.stop();
});

/** A back end that refuses the events of users called `refused-…`, and everything while `isDown`. */
async function startReceiver() {
  const it = { isDown: false, refuses: /^refused-/, tests: 0 };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { events } = JSON.parse(body);
    if (!events.length) it.tests++;
    const isRefused = events.some(({ user }) => it.refuses.test(user));
    response.writeHead(it.isDown ? 503 : isRefused ? 422 : 204).end(isRefused && !it.isDown ? `no such user, request ${Math.random()}` : undefined);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  it.url = `http://127.0.0.1:${server.address().port}/hook`;
  it.stop = () => server.close();
  return it;
}

const row = (page, table, what = '') => page.locator(`[aria-label="${table}"] tbody tr${what}`);

test('the hub filters and pages sessions', async () => {
  const all = await Promise.all([
    ...Array.from({ length: 51 }, (_, i) => client(hub, `s-${String(i).padStart(2, '0')}`, 'web')),
    client(hub, 'tim', 'android', 'pixel', { app: 'shop 4.2' }),
    client(hub, 'una', 'ios', 'phone'),
  ]);
  await all[52].lost();
  const page = await dashboard(browser, hub, '#/sessions');
  await row(page, 'Sessions', '[data-user="s-49"]').waitFor();
  assert.equal(await row(page, 'Sessions').count(), 50);
  await page.getByRole('button', { name: 'Next' }).click();
  await row(page, 'Sessions', '[data-user="tim"]').waitFor();
  assert.equal(await row(page, 'Sessions').count(), 3);
  const cells = await row(page, 'Sessions', '[data-user="tim"]').locator('td').allTextContents();
  assert.deepEqual(cells.slice(0, 4), ['tim', 'Android', 'pixel', '● Online']);
  assert.deepEqual(cells.slice(5, 7), ['127.0.0.1', 'shop 4.2']);

  const only = async (label, value, user) => {
    await page.getByRole('combobox', { name: label }).selectOption(value);
    await page.waitForFunction((user) => {
      const rows = [...document.querySelectorAll('[aria-label="Sessions"] tbody tr')];
      return rows.length === 1 && rows[0].dataset.user === user;
    }, user);
    await page.getByRole('combobox', { name: label }).selectOption('');
    await row(page, 'Sessions', '[data-user="s-00"]').waitFor();
  };
  await only('Platform', 'android', 'tim');
  await only('State', 'PushOnline', 'una');
  const { nodes } = await api(hub, 'nodes');
  await page.getByRole('combobox', { name: 'Node' }).selectOption(nodes[0].id);
  await row(page, 'Sessions', '[data-user="s-00"]').waitFor();
  await page.getByRole('searchbox', { name: 'Address' }).fill('192.0.2.1');
  await page.getByText('No sessions.').waitFor();
  await page.getByRole('searchbox', { name: 'Address' }).fill('no address');
  await page.locator('.problem', { hasText: 'Failed' }).waitFor();

  await go(page, '#/sessions?platform=android');
  await row(page, 'Sessions', '[data-user="tim"]').getByRole('button', { name: 'Kick' }).click();
  await page.fill('#reason', 'stolen phone');
  await page.click('#confirm-yes');
  assert.equal((await all[51].told).message, 'stolen phone');
  await row(page, 'Sessions').waitFor({ state: 'detached' });
  await Promise.all(all.map((it) => it.logout()));
});

test('the feed shows events live, filters them, and can be paused', async () => {
  const page = await dashboard(browser, hub, '#/feed');
  await page.locator('#feed-rate', { hasText: 'in the last second' }).waitFor();
  const vera = await client(hub, 'vera', 'mac', 'desk');
  await row(page, 'Feed', '[data-user="vera"][data-cause="login"]').waitFor();
  await page.click('#feed-pause');
  await vera.setStatus('busy');
  await page.locator('#feed-rate', { hasText: 'Paused; 1 new' }).waitFor();
  assert.equal(await row(page, 'Feed', '[data-cause="custom"]').count(), 0);
  await page.click('#feed-pause');
  await row(page, 'Feed', '[data-cause="custom"]').filter({ hasText: 'custom status is now “busy”' }).waitFor();
  await page.getByLabel('Cause').selectOption('logout');
  await row(page, 'Feed', '[data-cause="login"]').waitFor({ state: 'detached' });
  await vera.logout();
  await row(page, 'Feed', '[data-user="vera"][data-cause="logout"]').filter({ hasText: 'Online' }).waitFor();
  assert.match(page.url(), /#\/feed\?cause=logout$/);
});

test('the feed shows fifty rows a second, and says how many it left out', async () => {
  const page = await dashboard(browser, hub, '#/feed?user=burst-');
  await page.locator('#feed-rate', { hasText: 'in the last second' }).waitFor();
  await page.click('#feed-pause');
  const users = await Promise.all(Array.from({ length: 40 }, (_, i) => client(hub, `burst-${i}`, 'web')));
  for (let round = 0; round < 5; round++) await Promise.all(users.map((it) => it.setStatus(`round ${round}`)));
  await page.locator('#feed-rate', { hasText: 'Paused; 240 new' }).waitFor();
  // All at once: no second has more, however long the clients took.
  await page.click('#feed-pause');
  await page.locator('#feed-sampled', { hasText: 'at most 50 rows a second are shown, 190 were left out' }).waitFor();
  assert.equal(await row(page, 'Feed').count(), 50);
  await Promise.all(users.map((it) => it.logout()));
});

test('the policy table and the simulator show the answers of the hub', async () => {
  const page = await dashboard(browser, hub, '#/policy?existing=web,android:2&login=ios');
  await page.locator('#policy-name', { hasText: 'dual' }).waitFor();
  const verdict = (pair) => page.getAttribute(`[data-pair="${pair}"]`, 'data-verdict');
  assert.deepEqual(await Promise.all(['ios android', 'mac ios', 'web ios', 'web miniprogram', 'linux windows'].map(verdict)), [
    'kicked',
    'kicked',
    'stays',
    'kicked',
    'kicked',
  ]);
  const kicked = (policy) =>
    page
      .locator(`[data-policy="${policy}"] .victim`)
      .evaluateAll((all) => all.map(({ dataset }) => `${dataset.platform}:${dataset.count}`));
  await page.locator('[data-policy="in-force"] .victim').waitFor();
  assert.deepEqual(await Promise.all(['in-force', 'single', 'multi'].map(kicked)), [['android:2'], ['android:2', 'web:1'], []]);
  await page.getByRole('button', { name: 'One Android fewer' }).click();
  await page.locator('[data-policy="in-force"] [data-count="1"]').waitFor();
  await page.getByLabel('Mac', { exact: true }).last().check();
  await page.waitForURL(/login=mac/);
  await page.locator('[data-setting="liveness.web_silence"]', { hasText: '60 s' }).waitFor();
  await page.locator('[data-setting="liveness.push_online_ttl"]', { hasText: '7 d' }).waitFor();
});

test('webhooks with a name are chosen from a list, and the last days are a table', async () => {
  const own = await startReceiver();
  const secrets = '["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]';
  const one = (name) => `{ name = "${name}", url = "${own.url}/${name}", secrets = ${secrets} }`;
  const other = await startHub({ webhooks: `[${['orders', 'search'].map(one)}]` });
  try {
    const page = await dashboard(browser, other, '#/webhooks');
    const url = (name) => page.locator('[data-fact="webhook_url"] dd', { hasText: `${own.url}/${name}` }).waitFor();
    // The one without a name is not configured.
    await url('orders');
    await page.getByLabel(/^Webhook/).last().selectOption('search');
    await url('search');
    await page.locator('#webhook-state', { hasText: 'up' }).waitFor();
    const tests = own.tests;
    await page.click('#webhook-test');
    await page.locator('.outcome', { hasText: 'accepted the test event' }).waitFor();
    assert.equal(own.tests, tests + 1);

    await client(other, 'alice', 'web');
    const counted = async () => (await api(other, 'figures')).days.at(-1)?.logins === 1;
    for (let n = 0; n < 300 && !(await counted()); n += 1) await new Promise((done) => setTimeout(done, 100));
    await go(page, '#/overview');
    await page.locator('#days tbody tr').getByText('1', { exact: true }).first().waitFor();
    assert.equal(await page.locator('#days tbody tr').count(), (await api(other, 'figures')).days.length);
    await page.close();
  } finally {
    await other.stop();
    own.stop();
  }
});

test('webhook failures are shown; test, retry and drop work', async () => {
  const page = await dashboard(browser, hub, '#/webhooks');
  await page.locator('#webhook-state', { hasText: 'up' }).waitFor();
  assert.equal(await page.textContent('[data-fact="webhook_url"] dd'), receiver.url, 'what may be a secret is left out');
  await page.click('#webhook-test');
  await page.locator('.outcome', { hasText: 'accepted the test event' }).waitFor();
  assert.equal(receiver.tests, 1);

  const refused = await Promise.all(['a', 'b', 'c'].map((name) => client(hub, `refused-${name}`, 'web')));
  // Given up while other events are accepted.
  const others = setInterval(
    () =>
      client(hub, 'wally', 'web', `d${Math.random()}`).then(
        (it) => it.logout(),
        () => {},
      ),
    300,
  );
  const dead = row(page, 'Dead letters');
  await page.waitForFunction(() => document.querySelectorAll('[aria-label="Dead letters"] tbody tr').length === 3, null, PATIENT);
  clearInterval(others);
  await row(page, 'Last failures').first().filter({ hasText: '422' }).filter({ hasText: 'no such user' }).waitFor();
  assert.equal(await row(page, 'Last failures').count(), 1, 'those that say the same are one');
  assert.ok(Number(await row(page, 'Last failures').getAttribute('data-requests')) >= 3);
  await dead.filter({ hasText: 'refused-a' }).getByRole('checkbox').check();
  assert.equal(await page.textContent('[data-order="drop"][data-of="all"]'), 'Drop all 3');
  await page.locator('[data-order="drop"][data-of="all"]').click();
  assert.equal(await page.textContent('#confirm-yes'), 'Drop all 3');
  await page.click('#confirm-no');
  await page.locator('[data-order="drop"][data-of="chosen"]').click();
  assert.equal(await page.textContent('#confirm-yes'), 'Drop 1 chosen');
  await page.click('#confirm-yes');
  await page.locator('.outcome', { hasText: 'Dropped: 1' }).waitFor();
  await dead.filter({ hasText: 'refused-a' }).waitFor({ state: 'detached' });
  receiver.refuses = /^nobody$/;
  await page.locator('[data-order="retry"][data-of="all"]').click();
  assert.equal(await page.textContent('#confirm-yes'), 'Retry all 2');
  await page.click('#confirm-yes');
  await page.locator('.outcome', { hasText: 'Will be sent again: 2' }).waitFor();
  await page.getByText('No dead letters.').waitFor();
  assert.deepEqual((await api(hub, 'webhooks/dead')).dead, []);

  receiver.isDown = true;
  const more = await client(hub, 'xena', 'web');
  await page.locator('#webhook-state', { hasText: /failing|down/ }).waitFor();
  await page.click('#webhook-test');
  await page.locator('.outcome.problem', { hasText: '503' }).waitFor();
  await go(page, '#/overview');
  await page.locator('[data-attention^="attention_webhook"]').waitFor();
  await page.locator('#screens .attention', { hasText: /[1-9]/ }).waitFor();
  await page.locator('[data-attention^="attention_webhook"] a').click();
  await page.locator('h1', { hasText: 'Webhooks' }).waitFor();
  receiver.isDown = false;
  await page.locator('#webhook-state', { hasText: 'up' }).waitFor(PATIENT);
  await Promise.all([...refused, more].map((it) => it.logout()));
});

test('the system screen shows nodes, store and configuration, without secrets', async () => {
  const page = await dashboard(browser, hub, '#/system');
  const {
    nodes: [node],
  } = await api(hub, 'nodes');
  const cells = await row(page, 'Nodes', `[data-node="${node.id}"]`).locator('td').allTextContents();
  assert.deepEqual(cells.slice(0, 4), [node.id, '✓ up', node.version, node.address]);
  await row(page, 'Configuration in effect', '[data-setting="login.policy"]').filter({ hasText: 'dual' }).waitFor();
  await page.locator('[data-fact="disk"]', { hasText: /free of/ }).waitFor();
  await page.locator('[data-fact="open_files"]', { hasText: /\d/ }).waitFor();
  await page.getByLabel('Search settings').fill('secret');
  await row(page, 'Configuration in effect', '[data-setting="login.policy"]').waitFor({ state: 'detached' });
  await row(page, 'Configuration in effect', '[data-setting="auth.secret"]').waitFor();
  assert.ok(!(await page.textContent('#screen')).includes(hub.adminKey));
});

test('moments are told by the clock of the hub, and fit beside long device ids', async () => {
  const own = await startHub({ 'login.policy': 'multi' });
  const phone = await client(own, 'zoe', 'android', '0b6a3f0e-7d0c-4f3c-9b1e-5a2f6d8c9e10');
  const web = await client(own, 'zoe', 'web', '5d1f0c2a-93b4-4e8e-8a51-0c7e2b9d4f66');
  try {
    const page = await dashboard(browser, own, '#/users/zoe', { viewport: { width: 1200, height: 900 } });
    await Promise.all([web.lost(), phone.lost()]);
    await page.locator('#user-state', { hasText: 'PushOnline' }).waitFor();
    await advance(own, '2h');
    await page.locator('[data-fact="since"]', { hasText: '2h ago' }).waitFor();
    const changes = page.locator('.scroll', { has: page.locator('tr[data-cause="login"]') });
    await changes.getByText('PushOnline').first().waitFor();
    assert.equal(await changes.evaluate((it) => it.scrollWidth - it.clientWidth), 0, 'the table is wider than its card');
  } finally {
    await own.stop();
  }
});

test('the dashboard says when the hub is unreachable, and recovers', async () => {
  const page = await dashboard(browser, hub, '#/overview');
  const feed = await dashboard(browser, hub, '#/feed');
  await feed.locator('#feed-rate', { hasText: 'in the last second' }).waitFor();
  await hub.restart('SIGKILL', async () => {
    await Promise.all([page, feed].map((it) => it.locator('#away', { hasText: 'has not answered' }).waitFor()));
    await page.locator('#link[data-link="away"]').waitFor();
  });
  await Promise.all([page, feed].map((it) => it.locator('#away').waitFor({ state: 'hidden' })));
  await count(page, 'connections', 0);
  const back = await client(hub, 'yuri', 'web');
  await count(page, 'connections', 1);
  await row(feed, 'Feed', '[data-user="yuri"]').waitFor();
  await back.logout();
});
