// What the bindings share: who connects a client, and what they tell of it. The hub is the one in memory.

import assert from 'node:assert/strict';
import { setTimeout as later } from 'node:timers/promises';
import { afterEach, beforeEach, test } from 'node:test';
import { hold, kickedOf, selfOf, statusesOf } from '../../static/bindings.mjs';
import { TestHub } from '../../static/test.mjs';
import { until } from './embed.mjs';

let hub;
let me;

beforeEach(() => {
  hub = new TestHub();
  me = hub.client('me');
});
afterEach(() => hub.close());

const logins = () => hub.requests.filter(({ type }) => type === 'login').length;
/** Timers of the same length fire in their order, so those of what was released before have. */
const released = () => later(0);
const connected = () => until('connected', () => me.state === 'connected');

test('two roots that hold one client make one connection, which ends with the second', async () => {
  const [one, other] = [hold(me), hold(me)];
  await connected();
  one();
  await released();
  assert.equal(me.state, 'connected');
  other();
  await until('logged out', () => me.state === 'disconnected');
  assert.equal(logins(), 1);
});

test('held again at once, it goes on; held again later, it connects again', async () => {
  hold(me)();
  const end = hold(me);
  await connected();
  assert.equal(logins(), 1);
  end();
  await until('logged out', () => me.state === 'disconnected');
  const again = hold(me);
  await connected();
  assert.equal(logins(), 2);
  again();
});

test('a client that was connected before is left as it is', async () => {
  await me.connect();
  hold(me)();
  await released();
  assert.equal(me.state, 'connected');
  assert.deepEqual(hub.requests.map(({ type }) => type), ['login']);
});

test('a notice is there for who asks later, until the session goes on or the client is logged out', async () => {
  const end = hold(me);
  await connected();
  hub.kick('me', { reason: 'admin', message: 'bye' });
  await until('stale', () => me.stale);
  const { reason, message, loginHere } = kickedOf(me).get();
  assert.deepEqual([reason, message], ['admin', 'bye']);
  await loginHere();
  assert.equal(kickedOf(me).get(), null);
  hub.supersede('me');
  await until('superseded', () => kickedOf(me).get()?.reason === 'superseded');
  await me.logout();
  assert.equal(kickedOf(me).get(), null);
  end();
});

test('a value is the same object until something changed', async () => {
  await me.connect();
  const [list, self] = [statusesOf(me, ['bob', null, 'carol']), selfOf(me)];
  let changes = 0;
  const ends = [list.listen(() => (changes += 1)), self.listen(() => {})];
  await until('known', () => list.get().size === 2 && self.get().status);
  const [statuses, own] = [list.get(), self.get()];
  assert.deepEqual([list.get() === statuses, self.get() === own], [true, true]);
  changes = 0;
  hub.set('bob', 'Online');
  assert.deepEqual([changes, list.get() === statuses, self.get() === own], [1, false, true]);
  for (const end of ends) end();
  hub.set('bob', 'Offline');
  assert.equal(changes, 1);
  assert.deepEqual([me._watched.size > 0, [...me._listeners.values()].every(({ size }) => size === 0)], [true, true]);
  await until('nobody is watched', () => me._watched.size === 0);
});

test('without a client nothing is known', () => {
  assert.equal(statusesOf(null, 'bob').get(), null);
  assert.equal(statusesOf(null, ['bob']).get().size, 0);
  assert.deepEqual(selfOf(null).get(), { user: null, connection: 'disconnected', stale: false, status: null });
  assert.equal(kickedOf(null).get(), null);
  for (const store of [statusesOf(null, null), selfOf(null), kickedOf(null)]) store.listen(() => assert.fail('news'))();
});
