// presence-hub/test: the hub in memory answers as the real one does.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { TestHub } from '../../static/test.mjs';
import { until } from './embed.mjs';
import { startHub, token } from './hub.mjs';

const { PresenceClient, PresenceError } = createRequire(import.meta.url)('../../static/presence.js');
const TYPES = readFileSync(new URL('../../static/presence.d.ts', import.meta.url), 'utf8');
const METHODS = Object.keys(PresenceClient.prototype).filter((name) => !name.startsWith('_'));
const EVENTS = TYPES.match(/interface Events \{(.*?)\n\}/s)[1].match(/^ {2}(?=\w)\w+/gm).map((name) => name.trim());
/** What a test must see as it is; of all else, only the kind counts. */
const EXACT = /^(user|state|away|activity|platforms?|custom|code|reason|resumed|hidden|current|whole|removed|count|previous|close|message|name)$/;

/** What the SDK's types say of a value, as both hubs should answer it: `since: 'number'`. */
function shape(value, key = '') {
  if (value === null || EXACT.test(key)) return key === 'message' ? typeof value : value;
  if (Array.isArray(value)) return value.map((it) => shape(it));
  if (typeof value !== 'object') return typeof value;
  const documented = Object.entries(value).filter(([name]) => new RegExp(`\\b${name}\\??: `).test(TYPES));
  return Object.fromEntries(documented.sort().map(([name, it]) => [name, shape(it, name)]));
}

/** All methods and events of the SDK, one after another, as they are answered. */
async function live(world) {
  const log = [];
  const called = new Set();
  const events = [];
  const all = [];
  const make = (user, options) => {
    const client = world.client(user, { minDelay: 1, maxDelay: 50, staleAfter: 20, ...options });
    all.push(client);
    return new Proxy(client, {
      get(target, name) {
        if (METHODS.includes(name)) called.add(name);
        const it = target[name];
        return typeof it === 'function' ? it.bind(target) : it;
      },
    });
  };
  const answer = async (what, promise) => {
    const failure = (error) => ['rejected', shape({ ...error, code: error.code ?? error.name })];
    log.push([what, await promise.then((value) => shape(value), failure)]);
  };
  const me = make('me', { app: 'test' });
  const bob = make('bob', { platform: 'mac' });
  for (const name of EVENTS) me.on(name, (value) => events.push(name === 'error' || name === 'superseded' ? [name, value.code] : [name, shape(value)]));
  const happened = (name) => until(name, () => events.some(([it]) => it === name));
  const sees = (user, state) => until(`${user} ${state}`, () => me.get(user)?.state === state);

  await answer('query, not connected', me.query('bob'));
  const news = [];
  const end = me.subscribe(['bob', 'carol'], (status) => news.push(shape(status)));
  const endContacts = me.contacts((it) => news.push(shape(it)));
  await answer('connect', me.connect());
  await sees('carol', 'Offline');
  await answer('connect bob', bob.connect());
  await sees('bob', 'Online');
  for (const text of ['lunch', null]) {
    await answer('setStatus', bob.setStatus(text));
    await until('a custom status', () => me.get('bob').custom === text);
  }
  await answer('query', me.query(['bob', 'dave']));
  await answer('hide', bob.hide());
  await sees('bob', 'Offline');
  log.push(['hidden', me.get('bob').platforms, shape(bob.get('bob'))]);
  await answer('hide(false)', bob.hide(false));
  await sees('bob', 'Online');
  await answer('block', bob.block(['me', 'zoe']));
  await sees('bob', 'Offline');
  await answer('blocked', bob.blocked());
  await answer('unblock', bob.unblock(['me']));
  await sees('bob', 'Online');
  await answer('sessions', me.sessions());
  await answer('background', me.background());
  await answer('foreground', me.foreground());
  await answer('refresh', me.refresh(await world.token('me')));
  await answer('setStatus, too long', me.setStatus('x'.repeat(300)));
  await answer('block nobody', me.block([]));

  await world.watchList('me', ['bob', 'zoe']);
  await until('contacts', () => news.some(({ added }) => added?.length === 2));
  await world.watchList('me', ['bob']);
  await until('contacts', () => news.some(({ removed }) => removed?.[0] === 'zoe'));
  endContacts();

  const second = make('me', { platform: 'ios' });
  const kicked = new Promise((done) => second.on('kicked', done));
  await answer('connect me again', second.connect());
  await answer('kick', me.kick(second.session));
  log.push(['kicked', shape(await kicked)]);
  await answer('connect, kicked', second.connect());
  await answer('loginHere', second.loginHere());
  await answer('destroy', second.destroy());

  await answer('logout bob', bob.logout());
  await sees('bob', 'Offline');
  events.length = 0;
  await world.lose();
  await happened('session');
  log.push(['lost', events.filter(([name]) => /^(state|session)$/.test(name))]);
  end();
  events.length = 0;
  await world.kick('me');
  await happened('kicked');
  await until('stale', () => me.stale);
  log.push(['admin', events]);
  me.off('kicked', () => {});
  await answer('logout', me.logout());
  assert.deepEqual(METHODS.filter((name) => !called.has(name)), [], 'methods that no hub was asked by');
  log.push(['news', news]);
  await Promise.all(all.map((client) => client.logout()));
  return log;
}

describe('beside a real hub', () => {
  let hub;

  before(async () => {
    hub = await startHub({ 'login.policy': 'multi', 'visibility.self_service': 'true' });
  });
  after(() => hub?.stop());

  test('every method is answered the same, and the events are the same', async () => {
    const memory = new TestHub();
    const inMemory = await live({
      client: (user, options) => memory.client(user, options),
      token: () => 'T',
      watchList: (user, users) => memory.watchList(user, users),
      kick: (user) => memory.kick(user, { reason: 'admin', message: 'bye' }),
      lose() {
        memory.disconnect();
        memory.reconnect();
      },
    });

    const sockets = [];
    class Socket extends WebSocket {
      constructor(...how) {
        super(...how);
        sockets.push(this);
      }
    }
    const call = async (path, method, body) => {
      const answer = await fetch(`${hub.origin}/v1/users/${path}`, { method, headers: { 'X-API-Key': hub.adminKey, Connection: 'close' }, body: JSON.stringify(body) });
      assert.ok(answer.ok, `${path}: ${answer.status}`);
    };
    let made = 0;
    const inReality = await live({
      client: (user, options) => new PresenceClient({
        url: `ws://127.0.0.1:${hub.port}/ws`, device: `d${++made}`, WebSocket: Socket, adapter: { sessionStorage: null },
        getToken: () => token(hub, user), ...options,
      }),
      token: (user) => token(hub, user),
      watchList: (user, users) => call(`${user}/watch-list`, 'PUT', { users }),
      kick: (user) => call(`${user}/kick`, 'POST', { platform: 'web', message: 'bye' }),
      lose() {
        for (const socket of sockets) socket.terminate();
      },
    });
    assert.deepEqual(inMemory, inReality);
  });
});

describe('what a test can make happen', () => {
  let hub;
  let me;
  const heard = [];

  beforeEach(async () => {
    hub = new TestHub();
    me = hub.client();
    heard.length = 0;
    for (const name of EVENTS) me.on(name, (value) => heard.push([name, value]));
    await me.connect();
  });
  afterEach(() => hub.close());
  const happened = (name) => until(name, () => heard.some(([it]) => it === name));

  test('a client is that of the SDK', () => {
    assert.ok(me instanceof PresenceClient);
    assert.deepEqual([me.user, me.state, me.get('me').state], ['me', 'connected', 'Online']);
  });

  test('every event', async () => {
    me.subscribe(['bob', 'carol'], () => {});
    hub.set('bob', 'Online');
    await until('bob', () => me.get('bob'));
    hub.expireToken('me');
    hub.unwatch('me', ['bob']);
    hub.refuse('subscribe', 'forbidden');
    me.subscribe('dave', () => {});
    await happened('error');
    hub.kick('me');
    assert.deepEqual(heard.findLast(([name]) => name === 'kicked')[1].by, { platform: 'ios', device: 'phone' });
    await until('stale', () => me.stale);
    await me.loginHere();
    hub.supersede('me');
    await happened('superseded');
    assert.deepEqual([...new Set(heard.map(([name]) => name))].sort(), [...EVENTS].sort());
  });

  test('a status is told before set() returns, if it is news', async () => {
    const told = [];
    me.subscribe('bob', ({ state, custom }) => told.push(`${state} ${custom}`));
    await until('the first', () => told.length === 1);
    hub.set('bob', { state: 'PushOnline', custom: 'later' });
    assert.deepEqual(told, ['Offline null', 'PushOnline later']);
    hub.set('bob', {});
    hub.set('bob', 'Offline');
    assert.deepEqual(told.slice(2), ['Offline null']);
    assert.equal(hub.get('bob').state, 'Offline');
    hub.set('bob', { state: 'Online', away: true });
    assert.deepEqual([me.get('bob').away, me.get('bob').platforms], [true, ['web']]);
  });

  test('a request is refused once', async () => {
    hub.refuse('set', 'rate_limited');
    await assert.rejects(me.setStatus('x'), (error) => error instanceof PresenceError && error.code === 'rate_limited');
    assert.equal((await me.setStatus('x')).custom, 'x');
    assert.deepEqual(hub.requests.filter(({ type }) => type === 'set').map(({ custom }) => custom), ['x', 'x']);
  });

  test('a login is refused for good', async () => {
    hub.refuse('login', 'login_conflict');
    const other = hub.client('other');
    await assert.rejects(other.connect(), ({ code, close }) => code === 'login_conflict' && close === 4505);
  });

  test('without a network, statuses become stale; the session goes on afterwards', async () => {
    const { session } = me;
    me.subscribe('bob', () => {});
    await until('bob', () => me.get('bob'));
    hub.disconnect();
    await until('stale', () => me.stale);
    hub.set('bob', 'Online');
    assert.equal(me.get('bob').state, 'Offline');
    hub.reconnect();
    await until('fresh', () => !me.stale);
    assert.deepEqual([me.session, me.get('bob').state], [session, 'Online']);
  });

  test('two clients of one hub see each other', async () => {
    const bob = hub.client('bob', { platform: 'ios' });
    await bob.connect();
    me.subscribe('bob', () => {});
    await until('bob', () => me.get('bob')?.platforms[0] === 'ios');
    await bob.logout();
    assert.equal(me.get('bob').state, 'Offline');
  });
});
