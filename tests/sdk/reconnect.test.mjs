// SDK clients in Node, on a real hub, whose network comes and goes.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { startHub, startProxy, token } from './hub.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');
let hub;
let proxy;
let clients = [];

before(async () => {
  hub = await startHub({ 'liveness.web_close_grace': '100ms' });
  proxy = await startProxy(hub.port);
});

after(async () => {
  for (const client of clients) client.destroy();
  await proxy?.stop();
  await hub?.stop();
});

function client(user, device, place = hub, options = {}) {
  const it = new PresenceClient({
    url: `${place.origin.replace('http', 'ws')}/ws`, user, device, WebSocket, getToken: () => token(hub, user), minDelay: 20, maxDelay: 60, ...options,
  });
  it.count = { kicked: 0, superseded: 0 };
  for (const name of Object.keys(it.count)) it.on(name, () => it.count[name]++);
  clients.push(it);
  return it;
}

const until = (it, event, wanted = () => true) =>
  new Promise((done) => {
    const off = it.on(event, (value) => wanted(value) && (off(), done(value)));
  });
const state = (it, wanted) => (it.state === wanted ? Promise.resolve() : until(it, 'state', ({ state }) => state === wanted));
const watch = (it, user, wanted) =>
  new Promise((done) => {
    const end = it.subscribe(user, (status) => status.state === wanted && (queueMicrotask(() => end()), done(status)));
  });

test('two clients that reconnect automatically never kick each other', async () => {
  const first = client('alice', 'd1', proxy);
  const second = client('alice', 'd2', proxy, { platform: 'android' });
  await first.connect();
  await second.connect();
  await state(first, 'disconnected');
  assert.deepEqual(first.count, { kicked: 1, superseded: 0 });
  const session = second.session;
  for (let round = 0; round < 5; round++) {
    const lost = state(second, 'connecting');
    proxy.refuse();
    await lost;
    proxy.accept();
    await state(second, 'connected');
    assert.equal(second.session, session, 'resumed');
  }
  assert.equal(first.state, 'disconnected');
  assert.deepEqual([first.count, second.count], [{ kicked: 1, superseded: 0 }, { kicked: 0, superseded: 0 }]);
});

test('a client that resumes after another login is superseded, and kicks nobody', async () => {
  const watcher = client('watcher', 'd0');
  await watcher.connect();
  const first = client('bob', 'd1', proxy);
  await first.connect();
  await watch(watcher, 'bob', 'Online');
  proxy.refuse();
  await watch(watcher, 'bob', 'Offline');
  const second = client('bob', 'd2');
  await second.connect();
  proxy.accept();
  await until(first, 'superseded');
  assert.equal(first.state, 'disconnected');
  await second.query('bob'); // the connection lives
  assert.deepEqual(second.count, { kicked: 0, superseded: 0 });

  await first.loginHere();
  await state(second, 'disconnected');
  assert.deepEqual(second.count, { kicked: 1, superseded: 0 });
});

test('a reconnect within the window is not visible, and subscriptions continue', async () => {
  const carol = client('carol', 'd1', proxy, { platform: 'ios' });
  const dave = client('dave', 'd1');
  await Promise.all([carol.connect(), dave.connect()]);
  await watch(carol, 'dave', 'Online');
  const seen = [];
  carol.subscribe('dave', ({ custom }) => seen.push(custom));
  const back = until(carol, 'session');
  proxy.refuse();
  await dave.setStatus('while you were away');
  proxy.accept();
  assert.equal((await back).resumed, true);
  await until(carol, 'status', ({ custom }) => custom === 'while you were away');
  await dave.setStatus('and after');
  await until(carol, 'status', ({ custom }) => custom === 'and after');
  assert.deepEqual(seen, [null, 'while you were away', 'and after']);
});

test('statuses are stale while the hub is unreachable, and fresh after all were answered', async () => {
  const frank = client('frank', 'd1', proxy, { staleAfter: 50 });
  const grace = client('grace', 'd1');
  await Promise.all([frank.connect(), grace.connect()]);
  frank.subscribe('grace', () => {});
  await watch(frank, 'grace', 'Online');
  // On a busy machine connecting takes longer than `staleAfter`.
  if (frank.stale) await until(frank, 'stale');
  assert.equal(frank.stale, false);
  const told = [];
  frank.on('stale', (stale) => told.push([stale, frank.get('grace').custom]));
  proxy.refuse();
  await until(frank, 'stale');
  await grace.setStatus('busy');
  proxy.accept();
  await until(frank, 'stale');
  assert.deepEqual(told, [[true, null], [false, 'busy']]);
});

test('two tabs that hold the same session end side by side', async () => {
  const kept = new Map();
  const copy = () => {
    const items = new Map(kept);
    return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void (items.set(key, value), kept.set(key, value)) };
  };
  const first = client('erin', 'd1', hub, { adapter: { sessionStorage: copy() } });
  await first.connect();
  const duplicate = client('erin', 'd1', hub, { adapter: { sessionStorage: copy() } });
  const moved = until(first, 'session');
  assert.equal((await duplicate.connect()).resumed, true);
  assert.equal((await moved).resumed, false);
  assert.equal((await duplicate.sessions()).length, 2);
  assert.equal(first.count.kicked + duplicate.count.kicked, 0);
});
