// The watch list, hiding and blocking: the SDK in Node, against a real hub.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createRequire } from 'node:module';
import WebSocket from 'ws';
import { startHub, startProxy, token } from './hub.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');
const LIMIT_MS = 15_000;
let hub;
let proxy;
const clients = [];

before(async () => {
  hub = await startHub({ 'visibility.self_service': 'true', 'auth.default_watch': '["friend-*"]', 'limits.connections_per_address_per_second': '1000' });
  proxy = await startProxy(hub.port);
});

after(async () => {
  await Promise.all(clients.map((client) => client.destroy()));
  await proxy?.stop();
  await hub?.stop();
});

async function until(what, found) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function call(method, path, body) {
  const answer = await fetch(`${hub.origin}/v1/users/${path}`, {
    method,
    headers: { Authorization: `Bearer ${hub.adminKey}`, Connection: 'close' },
    body: body && JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

/** A client of this user, and what its watch list and its events tell. */
async function login(user, { origin = hub.origin, follows = false, ...options } = {}) {
  const url = `${origin.replace('http', 'ws')}/ws`;
  const client = new PresenceClient({ url, token: await token(hub, user), device: `${user}'s`, minDelay: 50, WebSocket, ...options });
  clients.push(client);
  const news = [];
  const unwatched = [];
  client.on('unwatched', ({ users }) => unwatched.push(...users));
  if (follows) client.contacts((it) => news.push(it));
  await client.connect();
  return { client, news, unwatched };
}

const states = (statuses) => Object.fromEntries(statuses.map(({ user, state }) => [user, state]));

describe('the watch list', { concurrency: false }, () => {
  test('all pages, changes of statuses and of the list', async () => {
    const many = Array.from({ length: 260 }, (_, n) => `c${String(n).padStart(3, '0')}`);
    await Promise.all(many.slice(0, 230).map((user) => login(user)));
    await call('PUT', 'list-owner/watch-list', { users: many });
    const { client, news } = await login('list-owner', { follows: true });
    const [whole] = await until('the list', () => news.length && news);
    assert.equal(whole.whole, true);
    assert.deepEqual(whole.statuses.map(({ user }) => user), many.slice(0, 230));
    const offline = await login('c240');
    await until('a contact comes Online', () => news.some(({ statuses }) => states(statuses).c240 === 'Online'));
    await offline.client.destroy();
    await until('and leaves', () => client.get('c240').state === 'Offline');
    await call('PATCH', 'list-owner/watch-list', { add: ['zoe', 'c001'], remove: ['c000', 'c001'] });
    const { added, removed } = await until('the change', () => news.find(({ added }) => added.length));
    assert.deepEqual([states(added), removed], [{ zoe: 'Offline' }, ['c000', 'c001']]);
    assert.equal(client.get('c000'), null);
    assert.equal(client.get('c002').state, 'Online');
  });

  test('a reconnect finds what has changed meanwhile', async () => {
    const [ann, bob] = [await login('re-ann'), await login('re-bob')];
    await call('PUT', 're-owner/watch-list', { users: ['re-ann', 're-bob', 're-eve', 're-out'] });
    await login('re-out');
    const { client, news } = await login('re-owner', { follows: true, origin: proxy.origin });
    await until('the list', () => news.length);
    assert.deepEqual(states(news[0].statuses), { 're-ann': 'Online', 're-bob': 'Online', 're-out': 'Online' });
    proxy.refuse();
    await until('the loss', () => client.state !== 'connected');
    await ann.client.destroy();
    await login('re-eve');
    await call('PATCH', 're-owner/watch-list', { remove: ['re-out'] });
    proxy.accept();
    const again = await until('the list again', () => news.slice(1).find(({ whole }) => whole));
    assert.deepEqual(states(again.statuses), { 're-bob': 'Online', 're-eve': 'Online' });
    assert.equal(client.get('re-ann').state, 'Offline');
    await bob.client.destroy();
    await until('changes go on', () => states(news.at(-1).statuses)['re-bob'] === 'Offline');
  });

  test('the list gives the right to subscribe, and its end is told as unwatched', async () => {
    await login('un-ann');
    await call('PUT', 'un-owner/watch-list', { users: ['un-ann'] });
    const { client, unwatched } = await login('un-owner');
    const seen = [];
    client.subscribe(['un-ann', 'friend-1'], ({ user, state }) => seen.push(`${user} ${state}`));
    await until('both', () => seen.length === 2);
    await call('PUT', 'un-owner/watch-list', { users: [] });
    await until('unwatched', () => unwatched.length);
    assert.deepEqual(unwatched, ['un-ann']);
    assert.deepEqual([client.get('un-ann'), client.get('friend-1').state], [null, 'Offline']);
    const { errors } = await client.query('un-ann');
    assert.deepEqual(errors, [{ user: 'un-ann', code: 'forbidden' }]);
  });

  test('after its end, names are still watched', async () => {
    await call('PUT', 'end-owner/watch-list', { users: ['end-ann'] });
    const { client, news } = await login('end-owner');
    const seen = [];
    client.subscribe('friend-2', ({ state }) => seen.push(state));
    const end = client.contacts((it) => news.push(it));
    await until('the list', () => news.length);
    end();
    await client.query('friend-2'); // the hub has the end
    await login('end-ann');
    const friend = await login('friend-2');
    await until('the friend', () => seen.at(-1) === 'Online');
    assert.deepEqual([news.length, client.get('end-ann')], [1, null]);
    await friend.client.destroy();
  });
});

describe('hide and block', { concurrency: false }, () => {
  test('hidden: a logout for all others, and the truth for oneself', async () => {
    const viewer = await login('hide-viewer');
    const seen = [];
    viewer.client.subscribe('friend-h', (status) => seen.push(status));
    const { client } = await login('friend-h');
    await until('Online', () => seen.at(-1)?.state === 'Online');
    const own = await client.hide();
    assert.deepEqual([own.state, own.hidden, client.get('friend-h').hidden], ['Online', true, true]);
    const left = await until('Offline', () => seen.at(-1).state === 'Offline' && seen.at(-1));
    assert.deepEqual([left.hidden, left.since === left.last_seen], [undefined, true]);
    assert.equal((await call('GET', 'friend-h/visibility')).hidden, true);
    assert.equal((await client.hide(false)).hidden, undefined);
    await until('Online again', () => seen.at(-1).state === 'Online');
  });

  test('blocked: one viewer sees a logout, until unblocked', async () => {
    const [vic, wen] = [await login('block-vic'), await login('block-wen')];
    const { client } = await login('friend-b');
    const seen = (viewer) => viewer.client.get('friend-b')?.state;
    for (const viewer of [vic, wen]) viewer.client.subscribe('friend-b', () => {});
    await until('both see it', () => seen(vic) === 'Online' && seen(wen) === 'Online');
    assert.equal(await client.block(['block-vic', 'nobody']), 2);
    await until('vic does not', () => seen(vic) === 'Offline');
    assert.equal(seen(wen), 'Online');
    assert.deepEqual(await client.blocked(), ['block-vic', 'nobody']);
    assert.equal(await client.unblock('block-vic'), 1);
    await until('vic does again', () => seen(vic) === 'Online');
    const many = Array.from({ length: 200 }, (_, n) => `v${n}`);
    await assert.rejects(client.block(many), { code: 'too_many' });
    assert.deepEqual(await client.blocked(), ['nobody']);
  });
});
