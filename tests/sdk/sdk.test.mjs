// The SDK alone, against a hub that the test plays.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import vm from 'node:vm';
import { gzipSync } from 'node:zlib';
import { record, settle, status, time, World } from './fake.mjs';

const source = readFileSync(new URL('../../static/presence.js', import.meta.url), 'utf8');
let world;

beforeEach(() => {
  time.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  mock.method(Math, 'random', () => 0.5);
  world = new World();
});

afterEach(() => {
  time.reset();
  mock.restoreAll();
});

/** Lets the client's next timer come that late, as after a sleep. */
const late = async (ms) => {
  time.setTime(Date.now() + ms - 20_000);
  await pass(20_000);
};

/** Moves the time on, in which the newest attempt to connect fails or not. */
const pass = async (ms) => {
  time.tick(ms);
  await settle();
};

describe('packaging', () => {
  test('is one file of at most 8.4 KiB, compressed', () => {
    const size = gzipSync(source, { level: 9 }).length;
    assert.ok(size <= 8.4 * 1024, `${size} bytes`);
  });

  test('works from a script tag, by require and by import', async () => {
    const page = vm.createContext({});
    vm.runInContext(source, page);
    assert.equal(vm.runInContext('typeof PresenceHub.PresenceClient', page), 'function');
    const required = createRequire(import.meta.url)('../../static/presence.js');
    const imported = await import('../../static/presence.mjs');
    assert.equal(imported.PresenceClient, required.PresenceClient);
    assert.equal(imported.default.PresenceError, required.PresenceError);
  });

  test('evaluates no text as code', () => {
    assert.doesNotMatch(source, /\beval\b|new Function|innerHTML/);
  });
});

describe('login', () => {
  test('the first message logs in; the promise has the answer', async () => {
    const client = world.client({ platform: 'ios', device: 'd1', app: 'test' });
    const events = record(client);
    const connected = client.connect();
    assert.equal(client.state, 'connecting');
    const login = await world.open();
    assert.deepEqual(login, { type: 'login', id: login.id, token: 'T', platform: 'ios', device: 'd1', app: 'test' });
    assert.equal(world.last.protocol, 'presence-hub.v1');
    await world.reply(login.id, { user: 'me', session: 's1', status: status('me', 1) });
    assert.equal((await connected).session, 's1');
    assert.equal(client.session, 's1');
    assert.deepEqual(events.names(), ['state', 'state', 'session', 'status']);
  });

  test('a reload of the tab resumes its session, on the same device', async () => {
    const first = world.client();
    first.connect();
    await world.login('s1');
    const again = world.client();
    again.connect();
    const login = await world.open();
    assert.equal(login.resume, 's1');
    assert.equal(login.device, first.device);
  });

  test('other accounts and platforms in the tab have sessions of their own', async () => {
    world.client({ user: 'alice' }).connect();
    await world.login('s1');
    for (const options of [{ user: 'bob' }, { user: 'alice', platform: 'ios' }]) {
      world.client(options).connect();
      assert.ok(!('resume' in (await world.open())));
    }
  });

  test('an automatic reconnect never logs in without resume', async () => {
    const client = world.client();
    client.connect();
    assert.ok(!('resume' in (await world.open())));
    await world.close(1006);
    await pass(20000);
    assert.equal((await world.open()).resume, '');
    await world.close(1006);
    client.connect(); // while it tries: no new login
    assert.equal((await world.open()).resume, '');
  });

  test('an attempt that fails before its login is sent uses up the right to kick', async () => {
    world.client().connect();
    await settle();
    await world.close(1006);
    await pass(20000);
    assert.equal((await world.open()).resume, '');
  });

  test('without storage, the page keeps session and device in memory', async () => {
    const refuse = () => { throw new Error('refused'); };
    const adapter = { get sessionStorage() { return refuse(); }, localStorage: { getItem: refuse, setItem: refuse } };
    const client = world.client({ adapter });
    client.connect();
    await world.login('s1');
    await world.close(1006);
    await pass(20000);
    assert.equal((await world.open()).resume, 's1');
    assert.equal(world.client({ adapter }).device, client.device);
  });

  test('an attempt that hangs is given up, at the token, the socket or the answer', async () => {
    const client = world.client({ getToken: () => new Promise(() => {}) });
    const events = record(client);
    const connected = client.connect();
    await pass(10000);
    await assert.rejects(connected, { code: 'timeout' });
    assert.equal(client.state, 'connecting');
    assert.equal(events.of('error')[0].code, 'timeout');

    const other = world.client({ user: 'b' });
    other.connect();
    await world.open();
    await pass(10000);
    assert.ok(world.last.closed);
    await pass(20000);
    assert.equal(world.sockets.length, 2);
  });

  test('a failed token request is retried', async () => {
    let asked = 0;
    const client = world.client({ getToken: async () => { if (++asked === 1) throw new Error('no'); return 'T2'; } });
    const events = record(client);
    client.connect();
    await settle();
    assert.deepEqual(events.of('error').map(({ code, message }) => [code, message]), [['token', 'no']]);
    await pass(20000);
    assert.equal((await world.open()).token, 'T2');
  });
});

test('a listener may call connect() inside the event that ended the session', async () => {
  const client = world.client();
  client.on('state', ({ state, code }) => state === 'disconnected' && code === 4502 && (again = client.connect()));
  let again;
  const first = assert.rejects(client.connect(), { code: 'invalid_token' });
  const { id } = await world.open();
  await world.refuse(id, 'invalid_token');
  await world.close(4502);
  await first;
  await world.login('s2');
  assert.equal((await again).session, 's2');
});

describe('back-off', () => {
  async function delays(random, count) {
    mock.method(Math, 'random', () => random);
    world.client().connect();
    const found = [];
    for (let n = 0; n < count; n++) {
      await settle();
      const before = world.sockets.length;
      await world.close(1006);
      let waited = 0;
      while (world.sockets.length === before) await pass((waited += 50, 50));
      found.push(waited);
    }
    return found;
  }

  test('is full jitter: at least 0.5 s', async () => {
    assert.deepEqual(await delays(0, 5), [500, 500, 500, 500, 500]);
  });

  test('grows to 20 s at most', async () => {
    assert.deepEqual(await delays(1, 8), [1000, 1500, 2500, 4500, 8500, 16500, 20000, 20000]);
  });

  test('restarts after a login', async () => {
    mock.method(Math, 'random', () => 1);
    world.client().connect();
    await settle();
    for (const wait of [1000, 1500, 2500]) {
      await world.close(1006);
      await pass(wait);
    }
    await world.login();
    const before = world.sockets.length;
    await world.close(1006);
    await pass(999);
    assert.equal(world.sockets.length, before);
    await pass(1);
    assert.equal(world.sockets.length, before + 1);
  });
});

describe('close codes', () => {
  const again = { again: true, resume: 's1' };
  const table = {
    1000: again, 1001: again, 1002: again, 1005: again, 1006: again, 1007: again, 1009: again, 1011: again, 1012: again, 1013: again, 3000: again,
    4000: again, 4002: again, 4004: again, 4005: again, 4006: again, 4007: { again: true, resume: '' }, 4499: again, 5000: again,
    4001: { event: 'error', resume: 's1' }, // without getToken there is no newer token
    4500: { event: 'error', resume: 's1' },
    4501: { event: 'kicked' },
    4502: { event: 'error' },
    4503: { event: 'superseded' },
    4504: { event: 'error', resume: 's1' },
    4505: { event: 'error' },
    4999: { event: 'error', resume: 's1' },
  };
  for (const [code, expected] of Object.entries(table)) {
    test(`${code}: ${expected.again ? 'connects again' : `stays away, ${expected.event}`}`, async () => {
      const client = world.client();
      const events = record(client);
      client.connect();
      await world.login('s1');
      events.length = 0;
      await world.close(Number(code));
      assert.equal(events[0][1].code, Number(code));
      await pass(20000);
      if (!expected.again) {
        assert.deepEqual(events.names(), ['state', expected.event]);
        assert.equal(client.state, 'disconnected');
        assert.equal(world.sockets.length, 1);
        world.window.fire('online');
        assert.equal(world.sockets.length, 1);
        client.connect({ force: true });
      }
      assert.equal((await world.open()).resume, expected.resume);
    });
  }

  test('1001 after `closing`: comes back when the hub said, then with back-off', async () => {
    world.client().connect();
    await world.login();
    await world.push({ type: 'closing', reason: 'drain', reconnect_ms: 7000 });
    await world.close(1001);
    await pass(6999);
    assert.equal(world.sockets.length, 1);
    await pass(1);
    assert.equal(world.sockets.length, 2);
    await world.close(1006);
    await pass(750);
    assert.equal(world.sockets.length, 3);
  });

  test('4001 with a fixed token: the error says what to do', async () => {
    const client = world.client();
    const events = record(client);
    client.connect();
    await world.login();
    await world.close(4001);
    const [{ close, message }] = events.of('error');
    assert.deepEqual([close, message], [4001, 'the token has expired: use a new token, or option getToken']);
  });

  test('4001: asks for another token and comes back at once', async () => {
    const asked = [];
    world.client({ getToken: async (how) => `T${asked.push(how)}` }).connect();
    await world.login('s1');
    await world.close(4001);
    await pass(0);
    const login = await world.open();
    assert.deepEqual(asked, [{ expired: false }, { expired: true }]);
    assert.deepEqual([login.token, login.resume], ['T2', 's1']);
    // Refused as expired before it was logged in: with back-off.
    await world.refuse(login.id, 'token_expired');
    await world.close(4001);
    await pass(499);
    assert.equal(world.sockets.length, 2);
    await pass(20000);
    assert.equal(asked.length, 3);
  });

  test('a reconnect uses the token that it has, connect() a new one', async () => {
    let tokens = 0;
    const client = world.client({ getToken: () => `T${++tokens}` });
    client.connect();
    await world.login();
    await world.close(1006);
    await pass(20000);
    assert.equal((await world.open()).token, 'T1');
    await world.close(4502);
    client.connect();
    assert.equal((await world.open()).token, 'T2');
  });

  test('4003: reconnects in the foreground, not before', async () => {
    const client = world.client({ platform: 'miniprogram' });
    client.connect();
    await world.login('s1');
    client.background('exit');
    assert.deepEqual(world.last.sent.at(-1).reason, 'exit');
    await world.close(4003);
    await pass(60000);
    world.window.fire('online');
    assert.equal(client.state, 'disconnected');
    assert.equal(world.sockets.length, 1);
    const back = client.foreground();
    assert.equal((await world.open()).resume, 's1');
    await world.reply(world.last.sent[0].id, { user: 'me', session: 's1', status: status('me', 2) });
    await back;
  });

  test('a mini-program in the background does not reconnect, because a resume counts as the foreground', async () => {
    const client = world.client({ platform: 'miniprogram' });
    client.connect();
    await world.login('s1');
    client.background();
    await world.close(1006);
    await pass(60000);
    assert.equal(world.sockets.length, 1);
    client.foreground();
    assert.equal((await world.open()).resume, 's1');
  });

  test('a mini-program that goes to the background while waiting does not reconnect', async () => {
    const client = world.client({ platform: 'miniprogram' });
    client.connect();
    await world.login('s1');
    await world.close(1006);
    client.background().catch(() => {});
    await pass(60000);
    assert.equal(client.state, 'disconnected');
    assert.equal(world.sockets.length, 1);
    client.foreground();
    assert.equal((await world.open()).resume, 's1');
  });

  test('4003 after it was shown again: reconnects', async () => {
    const client = world.client({ platform: 'miniprogram' });
    client.connect();
    await world.login('s1');
    client.background();
    client.foreground();
    await world.close(4003);
    await pass(1000);
    assert.equal((await world.open()).resume, 's1');
  });

  test('other platforms reconnect, and repeat that they are in the background', async () => {
    const client = world.client({ platform: 'ios' });
    client.connect();
    await world.login();
    client.background();
    await world.close(1006);
    await pass(20000);
    await world.login();
    assert.equal(world.sent('background').reason, 'hide');
  });
});

test('an invalid address is an error', async () => {
  const client = world.client({ WebSocket: class { constructor() { throw new SyntaxError('bad address'); } } });
  const events = record(client);
  client.connect();
  await settle();
  assert.deepEqual(events.of('error').map(({ code, message }) => [code, message]), [['transport', 'bad address']]);
});

describe('kicks', () => {
  const notice = { type: 'kicked', reason: 'login_elsewhere', by: { platform: 'ios', device: 'd2' }, at: 5 };

  test('the notice ends the session, even if the Close frame is lost', async () => {
    const client = world.client();
    const events = record(client);
    client.connect();
    await world.login();
    await world.push(notice);
    await world.close(1006);
    await pass(60000);
    assert.deepEqual(events.of('kicked'), [notice]);
    assert.equal(client.state, 'disconnected');
    assert.equal(world.sockets.length, 1);
  });

  test('a kicked tab stays out over reloads, until it is forced', async () => {
    const client = world.client();
    client.connect();
    await world.login();
    await world.push(notice);
    const reloaded = world.client();
    const events = record(reloaded);
    await assert.rejects(reloaded.connect(), { code: 'kicked' });
    assert.deepEqual(events.of('kicked'), [notice]);
    assert.equal(world.sockets.length, 1);
    reloaded.connect({ force: true });
    assert.ok(!('resume' in (await world.open())));
    await world.login('s2');
    assert.equal(reloaded.state, 'connected');
  });

  for (const [code, close, event] of [['kicked', 4501, 'kicked'], ['superseded', 4503, 'superseded']]) {
    test(`a resume that is refused as ${code} asks the user; "use here instead" logs in`, async () => {
      world.client().connect();
      await world.login('old');
      const client = world.client();
      const events = record(client);
      const connected = client.connect();
      const login = await world.open();
      assert.equal(login.resume, 'old');
      await world.refuse(login.id, code);
      await world.close(close);
      await assert.rejects(connected, { code });
      await pass(60000);
      assert.equal(events.of(event).length, 1);
      assert.equal(client.state, 'disconnected');
      const before = world.sockets.length;
      client.loginHere();
      assert.ok(!('resume' in (await world.open())));
      assert.equal(world.sockets.length, before + 1);
    });
  }

  test('login_conflict names the devices in the way', async () => {
    const client = world.client();
    const connected = client.connect();
    const { id } = await world.open();
    await world.refuse(id, 'login_conflict', { devices: [{ platform: 'ios', device: 'd2' }] });
    await world.close(4505);
    await assert.rejects(connected, { code: 'login_conflict', close: 4505, devices: [{ platform: 'ios', device: 'd2' }] });
  });
});

test('an undefined option counts as absent', async () => {
  world.client({ minDelay: undefined, maxDelay: undefined, timeout: undefined }).connect();
  await settle();
  await world.close(1006);
  await pass(749);
  assert.equal(world.sockets.length, 1);
  await pass(1);
  assert.equal(world.sockets.length, 2);
});

test('two clients in one tab each resume their own session', async () => {
  const sockets = [];
  for (const session of ['s1', 's2']) {
    world.client().connect();
    await world.login(session);
    sockets.push(world.last);
  }
  for (const [n, session] of ['s1', 's2'].entries()) {
    await world.close(1006, sockets[n]);
    await pass(1000);
    assert.equal((await world.open()).resume, session);
  }
});

describe('statuses', () => {
  async function watching(...users) {
    const client = world.client();
    const seen = [];
    const end = client.subscribe(users, ({ user, version }) => seen.push(`${user} ${version}`));
    client.connect();
    await world.login();
    return { client, seen, end };
  }
  const snapshot = (...statuses) => world.reply(world.sent('subscribe').id, { statuses, errors: [] });

  test('all subscriptions of a turn go in one message, or in batches of 200', async () => {
    const client = world.client();
    client.connect();
    await world.login();
    client.subscribe('a', () => {});
    client.subscribe(['b', 'a'], () => {});
    await settle();
    assert.deepEqual(world.sent('subscribe').users, ['a', 'b']);
    client.subscribe(Array.from({ length: 201 }, (_, n) => `u${n}`), () => {});
    await settle();
    assert.deepEqual(world.last.sent.filter(({ type }) => type === 'subscribe').map(({ users }) => users.length), [2, 200, 1]);
  });

  test('duplicate, numeric and missing user ids', async () => {
    const client = world.client();
    client.connect();
    await world.login();
    const seen = [];
    client.subscribe(['bob', 'bob', 42, null, undefined], ({ user }) => seen.push(user));
    client.subscribe(undefined, () => assert.fail('of nobody'));
    await settle();
    assert.deepEqual(world.sent('subscribe').users, ['bob', '42']);
    await snapshot(status('bob', 1), status('42', 1));
    client.subscribe(['bob', 'bob'], ({ user }) => seen.push(user));
    await settle();
    assert.deepEqual(seen, ['bob', '42', 'bob']);
  });

  test('never an older version after a newer one, and no version twice', async () => {
    const { seen } = await watching('bob');
    await world.push({ type: 'status', ...status('bob', 7) });
    await snapshot(status('bob', 5));
    for (const version of [6, 7, 9, 8]) await world.push({ type: 'status', ...status('bob', version) });
    assert.deepEqual(seen, ['bob 7', 'bob 9']);
  });

  test('version 0 (nothing remembered) is shown once, and nothing older after it', async () => {
    const { client, seen } = await watching('bob');
    await snapshot(status('bob', 7));
    for (const version of [0, 0, 6, 8]) {
      client.query('bob');
      await world.reply(world.sent('query').id, { statuses: [status('bob', version, version ? 'Online' : 'Offline')] });
    }
    assert.deepEqual(seen, ['bob 7', 'bob 0', 'bob 8']);
  });

  test('the answer of a query is passed to subscribers, because it will not be pushed', async () => {
    const { client, seen } = await watching('bob');
    await snapshot(status('bob', 1));
    const asked = client.query(['bob', 'eve']);
    await world.reply(world.sent('query').id, { statuses: [status('bob', 2), status('eve', 1)] });
    assert.equal((await asked).statuses.length, 2);
    assert.deepEqual(seen, ['bob 1', 'bob 2']);
  });

  test('a reconnect subscribes again, and reports only changes', async () => {
    const { seen } = await watching('bob', 'carol');
    await snapshot(status('bob', 1), status('carol', 1));
    await world.close(1006);
    await pass(20000);
    await world.login();
    assert.deepEqual(world.sent('subscribe').users, ['bob', 'carol']);
    await snapshot(status('bob', 1), status('carol', 2));
    assert.deepEqual(seen, ['bob 1', 'carol 1', 'carol 2']);
  });

  test('a second subscriber gets the known status; the last one to leave unsubscribes', async () => {
    const { client, seen, end } = await watching('bob');
    await snapshot(status('bob', 3));
    const second = [];
    const endSecond = client.subscribe('bob', ({ version }) => second.push(version));
    await settle();
    assert.deepEqual(second, [3]);
    assert.equal(world.last.sent.filter(({ type }) => type === 'subscribe').length, 1);
    end();
    await world.push({ type: 'status', ...status('bob', 4) });
    assert.deepEqual([seen, second], [['bob 3'], [3, 4]]);
    assert.equal(world.sent('unsubscribe'), undefined);
    endSecond();
    await world.push({ type: 'status', ...status('bob', 5) });
    assert.deepEqual(world.sent('unsubscribe').users, ['bob']);
    assert.deepEqual(second, [3, 4]);
    assert.equal(client.get('bob'), null);
  });

  test('unsubscribing and subscribing in one turn sends nothing and loses nothing', async () => {
    const { client, end } = await watching('bob');
    await snapshot(status('bob', 3));
    const count = world.last.sent.length;
    const seen = [];
    end();
    client.subscribe('bob', ({ version }) => seen.push(version));
    await settle();
    assert.equal(world.last.sent.length, count);
    assert.deepEqual(seen, [3]);
  });

  test('a refused user is an error event; a refused request is sent again', async () => {
    const { client } = await watching('bob', 'eve');
    const events = record(client);
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1)], errors: [{ user: 'eve', code: 'forbidden' }] });
    assert.deepEqual(events.of('error').map(({ code, user }) => [code, user]), [['forbidden', 'eve']]);
    client.subscribe('carol', () => {});
    await settle();
    await world.refuse(world.sent('subscribe').id, 'rate_limited');
    await pass(1000);
    assert.deepEqual(world.sent('subscribe').users, ['carol']);
    assert.equal(world.last.sent.filter(({ type }) => type === 'subscribe').length, 3);
  });

  test('a listener that throws stops neither the others nor the client', async () => {
    const { client, seen } = await watching('bob');
    client.on('status', () => { throw new Error('the page'); });
    await world.push({ type: 'status', ...status('bob', 2) });
    assert.deepEqual(seen, ['bob 2']);
    assert.throws(() => time.tick(1), /the page/);
  });
});

describe('destroy', () => {
  test('logs out, forgets the session, and calls nothing back', async () => {
    const client = world.client();
    client.subscribe('bob', () => seen.push('callback'));
    client.connect();
    await world.login('s1');
    const seen = record(client);
    const waiting = assert.rejects(client.query('bob'), { code: 'logged_out' });
    const gone = client.destroy();
    assert.equal(world.last.sent.at(-1).type, 'logout');
    assert.ok(world.last.closed);
    await waiting;
    assert.deepEqual(seen.names(), ['state']); // within the call itself
    seen.length = 0;
    await world.push({ type: 'status', ...status('bob', 9) });
    await world.push({ type: 'kicked', reason: 'admin' });
    await world.close(1000);
    await gone;
    world.window.fire('online');
    await pass(60000);
    assert.deepEqual(seen.names(), []);
    assert.equal(world.sockets.length, 1);
    world.client().connect();
    assert.ok(!('resume' in (await world.open())));
  });

  test('inside a callback: the other listeners of the event are not called', async () => {
    const client = world.client();
    const seen = [];
    client.subscribe('bob', () => { seen.push(1); client.destroy(); });
    client.subscribe('bob', () => seen.push(2));
    client.subscribe('carol', () => seen.push(3));
    client.connect();
    await world.login();
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1), status('carol', 1)] });
    assert.deepEqual(seen, [1]);

    const other = world.client({ user: 'b' });
    other.on('state', ({ state }) => { seen.push(state); if (state === 'connected') other.destroy(); });
    other.on('state', ({ state }) => seen.push(`${state} too`));
    other.on('session', () => seen.push('session'));
    other.on('status', () => seen.push('status'));
    seen.length = 0;
    other.connect();
    await world.login();
    assert.deepEqual(seen, ['connecting', 'connecting too', 'connected', 'disconnected', 'disconnected too']);
  });

  test('inside the first event of an attempt: no token is requested', async () => {
    let asked = 0;
    const client = world.client({ getToken: () => Promise.reject(new Error(`no ${++asked}`)) });
    client.on('state', ({ state }) => state === 'connecting' && client.destroy());
    client.connect().catch(() => {});
    await pass(60000);
    assert.deepEqual([asked, client.state], [0, 'disconnected']);
  });

  test('a kicked tab stays out, even if its client was destroyed', async () => {
    const client = world.client();
    client.connect();
    await world.login();
    await world.push({ type: 'kicked', reason: 'admin', by: null, at: 5 });
    await client.destroy();
    await assert.rejects(world.client().connect(), { code: 'kicked' });
  });

  test('a login that is still pending is logged out', async () => {
    const client = world.client({ platform: 'ios' });
    client.connect();
    await world.open();
    client.destroy();
    assert.deepEqual(world.last.sent.map(({ type }) => type), ['login', 'logout']);
  });

  test('ends the client in every state and at every step', async () => {
    const never = world.client();
    await never.destroy();
    for (const step of [async () => {}, settle, () => world.open(), async () => { await settle(); await world.close(1006); }]) {
      const client = world.client();
      const connected = client.connect();
      await step();
      const events = record(client);
      client.destroy();
      await assert.rejects(connected, { code: 'logged_out' });
      const before = world.sockets.length;
      await pass(60000);
      assert.equal(world.sockets.length, before);
      assert.deepEqual(events.names(), ['state']);
    }
  });
});

describe('requests', () => {
  test('settle by the answer, a refusal, a timeout, or the end of the connection', async () => {
    const client = world.client();
    await assert.rejects(client.sessions(), { code: 'disconnected' });
    client.connect();
    await world.login();
    const sessions = client.sessions();
    await world.reply(world.sent('sessions').id, { sessions: [{ session: 's1' }] });
    assert.deepEqual(await sessions, [{ session: 's1' }]);
    const set = assert.rejects(client.setStatus('x'), { code: 'rate_limited', name: 'PresenceError' });
    await world.refuse(world.sent('set').id, 'rate_limited');
    await set;
    const kick = assert.rejects(client.kick('s9'), { code: 'disconnected' });
    assert.equal(world.sent('kick').session, 's9');
    await world.close(1006);
    await kick;
    await pass(20000);
    await world.login();
    const silent = assert.rejects(client.query('bob'), { code: 'timeout' });
    await pass(10000);
    await silent;
    assert.ok(world.sent('ping'), 'silence makes it ask whether the connection lives');
  });

  test('a token that is about to expire is replaced', async () => {
    const client = world.client({ getToken: ({ expired }) => (expired ? 'new' : 'old') });
    const events = record(client);
    client.connect();
    await world.login();
    await world.push({ type: 'token_expiring', expires_at: 99 });
    assert.equal(events.of('tokenExpiring')[0].expires_at, 99);
    assert.equal(world.sent('refresh').token, 'new');
  });

  test('tokens that always expire soon are fetched at intervals, not in a loop', async () => {
    let asked = 0;
    const client = world.client({ getToken: () => `T${++asked}` });
    client.connect();
    await world.login();
    for (let push = 0; push < 5; push++) {
      await world.push({ type: 'token_expiring', expires_at: 99 });
      await world.reply(world.sent('refresh').id, { expires_at: 99 });
    }
    assert.equal(asked, 2);
    await pass(9_999);
    assert.equal(asked, 2);
    await pass(1);
    assert.equal(asked, 3);
  });

  test('a token given while disconnected is used for the next login', async () => {
    const client = world.client({ token: 'old' });
    await client.refresh('new');
    client.connect();
    assert.equal((await world.open()).token, 'new');
    client.logout();
    assert.equal(client.state, 'disconnected');
  });

  test('a refused new token is fetched again, and the current one is kept', async () => {
    const tokens = ['old', 'refused', 'new'];
    const client = world.client({ getToken: () => tokens.shift() });
    const events = record(client);
    client.connect();
    await world.login('s1');
    await world.push({ type: 'token_expiring', expires_at: 99 });
    await world.refuse(world.sent('refresh').id, 'invalid_token');
    assert.equal(events.of('error').at(-1).code, 'token');
    await world.close(1006);
    await pass(60000);
    assert.equal((await world.open()).token, 'old');
  });
});

describe('the page', () => {
  test('page left: the socket is closed; back from the cache: resumed', async () => {
    const client = world.client();
    client.connect();
    await world.login('s1');
    world.window.document.visibilityState = 'hidden';
    world.window.fire('pagehide', { persisted: true });
    world.window.fire('visibilitychange');
    assert.ok(world.last.closed);
    await pass(60000);
    assert.equal(world.sockets.length, 1);
    world.window.document.visibilityState = 'visible';
    world.window.fire('pageshow', { persisted: true });
    world.window.fire('visibilitychange');
    assert.equal((await world.open()).resume, 's1');
    assert.equal(world.sockets.length, 2);
  });

  for (const type of ['online', 'visibilitychange', 'resume', 'foreground']) {
    test(`${type}: pings; without an answer, reconnects at once`, async () => {
      const client = world.client();
      client.connect();
      await world.login('s1');
      const wake = () => (type === 'foreground' ? client.foreground() : world.window.fire(type));
      wake();
      wake();
      assert.equal(world.last.sent.filter((message) => message.type === 'ping').length, 1);
      await world.reply(world.sent('ping').id, { now: 1 });
      await pass(60000);
      assert.equal(world.sockets.length, 1);
      wake();
      await pass(5000);
      await pass(0);
      assert.ok(world.sockets[0].closed);
      assert.equal((await world.open()).resume, 's1');
    });
  }

  test('online: a waiting attempt starts at once', async () => {
    world.client().connect();
    await settle();
    await world.close(1006);
    world.window.fire('online');
    await settle();
    assert.equal(world.sockets.length, 2);
  });

  test('late events of an old socket are ignored', async () => {
    const client = world.client();
    client.subscribe('bob', () => assert.fail('an old socket spoke'));
    client.connect();
    await world.login();
    const old = world.last;
    world.window.fire('online');
    await pass(5000);
    await pass(0);
    await world.login();
    await world.push({ type: 'status', ...status('bob', 5) }, old);
    await world.push({ type: 'kicked', reason: 'admin' }, old);
    await world.close(4501, old);
    assert.equal(client.state, 'connected');
  });

  test('an idle client sends nothing, also in a hidden tab with throttled timers', async () => {
    world.client({ away: false }).connect();
    await world.login();
    const count = world.last.sent.length;
    for (let minute = 0; minute < 60; minute++) await late(60_000);
    assert.equal(world.last.sent.length, count);
  });

  test('a jump of the clock after sleep: pings; without an answer, reconnects at once', async () => {
    world.client().connect();
    await world.login('s1');
    await late(90_000);
    assert.ok(world.sent('ping'));
    await pass(5000);
    await pass(0);
    assert.ok(world.sockets[0].closed);
    assert.equal((await world.open()).resume, 's1');
  });

  test('a connection that dies during the ping is replaced at once, but a draining hub sets the time', async () => {
    world.client().connect();
    await world.login('s1');
    world.window.fire('online');
    await world.close(1006);
    await pass(0);
    assert.equal((await world.open()).resume, 's1');
    await world.login('s1');
    world.window.fire('online');
    await world.push({ type: 'closing', reason: 'drain', reconnect_ms: 7000 });
    await world.close(1001);
    await pass(6999);
    assert.equal(world.sockets.length, 2);
    await pass(1);
    assert.equal(world.sockets.length, 3);
  });
});
