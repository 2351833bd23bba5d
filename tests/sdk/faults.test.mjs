// Faults around the SDK: tokens, storage, clocks, addresses, an unreachable or restored hub. The test plays the hub.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import vm from 'node:vm';
import { FakeStorage, record, settle, status, time, World } from './fake.mjs';

const source = readFileSync(new URL('../../static/presence.js', import.meta.url), 'utf8');
const DAY = 86_400_000;
let world;

beforeEach(() => {
  time.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  time.setTime(100 * DAY);
  mock.method(Math, 'random', () => 0.5);
  world = new World();
});

afterEach(() => {
  time.reset();
  mock.restoreAll();
});

const pass = async (ms) => {
  time.tick(ms);
  await settle();
};

/** A client whose tokens are T1, T2, …, with how each was asked for. */
function counting(options = {}) {
  const asked = [];
  const client = world.client({ token: undefined, getToken: async (how) => `T${asked.push(how)}`, ...options });
  return { client, asked, events: record(client) };
}

/** Refuses the login of the newest socket. */
async function refuseLogin(code, close) {
  const { id, token } = await world.open();
  await world.refuse(id, code);
  await world.close(close);
  return token;
}

describe('what getToken answers', () => {
  const wrong = [
    ['nothing', () => undefined, 'undefined'],
    ['null', () => null, 'null'],
    ['an empty text', async () => '', '""'],
    ['white space', async () => ' \n', '" \\n"'],
    ['a number', () => 42, '42'],
    ['an object', async () => ({ token: 'T' }), '[object Object]'],
    ['the page of a login', async () => '<!doctype html>\n<title>Log in', '"<!doctype html>\\n<title>Log in"'],
    ['JSON', async () => '"T"', '"\\"T\\""'],
  ];
  for (const [what, answer, shown] of wrong) {
    test(`${what}: error \`token\`, and a retry with back-off`, async () => {
      let asked = 0;
      const client = world.client({ getToken: () => (++asked < 3 ? answer() : 'T3') });
      const events = record(client);
      client.connect();
      await settle();
      for (const wait of [750, 1000]) {
        assert.equal(client.state, 'connecting');
        await pass(wait - 1);
        const before = asked;
        await pass(1);
        assert.equal(asked, before + 1);
      }
      const message = `PresenceClient: the answer of getToken, or option token, is ${shown}; expected a JWT as text`;
      assert.deepEqual(events.of('error').map((error) => [error.code, error.message]), [['token', message], ['token', message]]);
      assert.equal((await world.open()).token, 'T3');
    });
  }

  for (const [what, getToken] of [['throws', () => { throw new Error('no'); }], ['rejects', () => Promise.reject(new Error('no'))],
    ['rejects with text', () => Promise.reject('no')], ['rejects as wx does', () => Promise.reject({ errMsg: 'no' })]]) {
    test(`${what}: an error \`token\` with its message`, async () => {
      const client = world.client({ getToken });
      const events = record(client);
      client.connect();
      await settle();
      assert.deepEqual(events.of('error').map(({ code, message }) => [code, message]), [['token', 'no']]);
      assert.equal(client.state, 'connecting');
    });
  }

  test('never: given up after `timeout` with an error, and retried', async () => {
    let asked = 0;
    const client = world.client({ getToken: () => (++asked === 1 ? new Promise(() => {}) : 'T2') });
    const events = record(client);
    client.connect();
    await pass(10_000);
    assert.equal(events.of('error')[0].message, 'getToken: no answer within 10000 ms');
    await pass(750);
    assert.equal((await world.open()).token, 'T2');
  });

  test('never, in a renewal: retried, and the current token stays in use', async () => {
    let asked = 0;
    const client = world.client({ getToken: () => (++asked === 2 ? new Promise(() => {}) : `T${asked}`) });
    const events = record(client);
    client.connect();
    await world.login();
    await world.push({ type: 'token_expiring', expires_at: 99 });
    await pass(10_000);
    assert.deepEqual(events.of('error').map(({ code, message }) => [code, message]), [['token', 'getToken: no answer within 10000 ms']]);
    await pass(10_000);
    assert.equal(world.sent('refresh').token, 'T3');
    assert.equal(client.state, 'connected');
  });

  test('late, after logout(): ignored', async () => {
    let answer;
    const client = world.client({ getToken: () => new Promise((resolve) => (answer = resolve)) });
    client.connect();
    await settle();
    client.logout();
    answer('T');
    await pass(60_000);
    assert.equal(world.sockets.length, 0);
    assert.equal(client.state, 'disconnected');
  });

  test('white space around it is removed', async () => {
    world.client({ getToken: async () => ' T1\r\n' }).connect();
    assert.equal((await world.open()).token, 'T1');
    const other = world.client({ token: 'T2\n' });
    await other.refresh('\tT3 ');
    other.connect();
    assert.equal((await world.open()).token, 'T3');
  });
});

describe('a refused token', () => {
  for (const code of ['invalid_token', 'token_revoked']) {
    test(`that was reused (${code}): another is fetched, once, after a random moment`, async () => {
      const { client, asked, events } = counting();
      client.connect();
      await world.login('s1');
      await world.close(1006);
      await pass(750);
      assert.equal(await refuseLogin(code, 4502), 'T1');
      assert.deepEqual(asked, [{ expired: false }]);
      await pass(249);
      assert.equal(asked.length, 1);
      await pass(1);
      const login = await world.open();
      assert.deepEqual([login.token, login.resume], ['T2', 's1']);
      assert.deepEqual(asked, [{ expired: false }, { expired: true }]);
      await world.login('s1');
      assert.equal(client.state, 'connected');
      assert.deepEqual(events.of('error').map((error) => error.code), [code]);
    });
  }

  test('a close without its reply counts as well', async () => {
    const { client, asked } = counting();
    client.connect();
    await world.login('s1');
    await world.close(4502);
    await pass(250);
    assert.equal((await world.open()).token, 'T2');
    await world.login('s1');
    assert.equal(asked.length, 2);
  });

  test('that was fetched for this attempt: no further attempt', async () => {
    const { client, asked, events } = counting();
    const connected = assert.rejects(client.connect(), { code: 'invalid_token', close: 4502 });
    await refuseLogin('invalid_token', 4502);
    await connected;
    await pass(60_000);
    assert.equal(client.state, 'disconnected');
    assert.equal(asked.length, 1);
    assert.equal(events.of('error').length, 1);
  });

  test('reused, and the new token is refused too: no further attempt', async () => {
    const { client, asked } = counting();
    client.connect();
    await world.login('s1');
    await world.close(1006);
    await pass(750);
    assert.equal(await refuseLogin('invalid_token', 4502), 'T1');
    await pass(250);
    assert.equal(await refuseLogin('invalid_token', 4502), 'T2');
    await pass(60_000);
    assert.deepEqual([client.state, asked.length], ['disconnected', 2]);
  });

  test('fresh but revoked: another is fetched once, after the leeway', async () => {
    const { client, asked } = counting();
    const connected = client.connect();
    assert.equal(await refuseLogin('token_revoked', 4502), 'T1');
    await pass(6249);
    world.window.fire('online'); // does not shorten the wait
    await settle();
    assert.equal(asked.length, 1);
    await pass(1);
    assert.equal((await world.open()).token, 'T2');
    await world.login('s1');
    assert.equal((await connected).session, 's1');
  });

  test('fresh but revoked, twice: no further attempt', async () => {
    const { client, asked } = counting();
    client.connect();
    await refuseLogin('token_revoked', 4502);
    await pass(6250);
    await refuseLogin('token_revoked', 4502);
    await pass(60_000);
    assert.deepEqual([client.state, asked.length], ['disconnected', 2]);
    client.connect();
    assert.equal(await refuseLogin('token_revoked', 4502), 'T3');
    assert.equal(client.state, 'connecting', 'a user who tries again may wait again');
  });

  test('without getToken: no further attempt', async () => {
    const client = world.client();
    client.connect();
    await world.login('s1');
    await world.close(1006);
    await pass(750);
    await refuseLogin('invalid_token', 4502);
    assert.equal(client.state, 'disconnected');
  });

  test('a conflict or a forbidden platform fetches no new token', async () => {
    for (const [code, close] of [['login_conflict', 4505], ['bad_request', 4504]]) {
      const { client, asked } = counting({ user: code });
      client.connect();
      await refuseLogin(code, close);
      await pass(60_000);
      assert.deepEqual([client.state, asked.length], ['disconnected', 1]);
    }
  });
});

describe('storage', () => {
  const KEY = 'presence-hub ws://hub/ws  web d1';
  const DEVICE = 'presence-hub device';
  const broken = ['{"session":', 'null', '5', '"s1"', '[]', '{"session":5}', '{"session":{"a":1}}', '{"kicked":true}', '{"kicked":"x"}', '{"kicked":{}}',
    JSON.stringify({ session: 's'.repeat(100_000) }), 'undefined', '%'];
  for (const text of broken) {
    test(`${text.slice(0, 30)}: treated as empty, and overwritten`, async () => {
      world.window.sessionStorage.setItem(KEY, text);
      const client = world.client({ device: 'd1' });
      client.connect();
      assert.ok(!('resume' in (await world.open())));
      await world.login('s2');
      assert.equal(world.window.sessionStorage.getItem(KEY), '{"session":"s2"}');
      client.logout();
    });
  }

  test('an invalid stored device id is replaced', () => {
    for (const device of ['', 'x'.repeat(129), '\ud83d', 'd1']) {
      const localStorage = new FakeStorage();
      localStorage.setItem(DEVICE, device);
      // A page of its own, which remembers nothing yet.
      const page = vm.createContext({ document: {}, localStorage });
      vm.runInContext(source, page);
      const used = vm.runInContext('new PresenceHub.PresenceClient({ url: "ws://hub/ws" }).device', page);
      assert.match(used, device === 'd1' ? /^d1$/ : /^\w+\.\w+$/);
      assert.equal(localStorage.getItem(DEVICE), used);
    }
  });

  test("any content of a mini-program's storage is tolerated", async () => {
    for (const kept of [null, undefined, 5, { session: 's1' }, [], '{', () => {}]) {
      const host = { connectSocket: () => new Promise(() => {}), getStorageSync: () => kept, setStorageSync() { throw new Error('full'); } };
      const client = world.client({ adapter: host });
      assert.match(client.device, /^\S{1,128}$/);
      client.connect();
      client.logout();
    }
  });

  test('a storage that refuses every call is tolerated', async () => {
    const refuse = () => { throw new DOMException('denied', 'SecurityError'); };
    for (const storage of [null, {}, { getItem: refuse, setItem: refuse }, { getItem: () => null, setItem: refuse }]) {
      const client = world.client({ adapter: { localStorage: storage, sessionStorage: storage } });
      client.connect();
      await world.login('s1');
      await world.close(1006);
      await pass(750);
      assert.equal((await world.open()).resume, 's1');
      client.logout();
    }
  });
});

describe('the clock', () => {
  for (const [what, by] of [['an hour', 3_600_000], ['30 days', 30 * DAY]]) {
    test(`set back by ${what} after a renewal: the next renewal is not delayed`, async () => {
      const { client, asked } = counting();
      client.connect();
      await world.login();
      await world.push({ type: 'token_expiring', expires_at: 99 });
      await world.reply(world.sent('refresh').id, { expires_at: 99 });
      time.setTime(Date.now() - by);
      await world.push({ type: 'token_expiring', expires_at: 99 });
      assert.equal(asked.length, 2);
      await pass(10_000);
      assert.equal(asked.length, 3);
    });
  }

  test('set back in a page: the client pings once', async () => {
    world.client().connect();
    await world.login();
    const { now } = Date;
    mock.method(Date, 'now', () => now.call(Date) - DAY);
    await pass(20_000);
    await world.reply(world.sent('ping').id, { now: 1 });
    const count = world.last.sent.length;
    await pass(20_000);
    assert.equal(world.last.sent.length, count);
  });

  test('no timer exceeds the maximum of setTimeout, whatever the hub answers', async () => {
    const longest = 2 ** 31 - 1;
    const set = mock.method(globalThis, 'setTimeout', globalThis.setTimeout);
    const client = world.client();
    client.connect();
    for (const reconnect_ms of [1e12, 2 ** 40, -5, 'soon', null]) {
      await world.login();
      await world.push({ type: 'closing', reason: 'drain', reconnect_ms });
      await world.close(1001);
      assert.equal(client.state, 'connecting');
      world.window.fire('online');
      await settle();
    }
    for (const { arguments: [, ms] } of set.mock.calls) assert.ok(ms >= 0 && ms <= longest, `${ms} ms`);
  });
});

describe('a connection that never opens', () => {
  test('the error says what to check: the address, the hub, the origin', async () => {
    world.window.location = { origin: 'https://app.example.com' };
    const client = world.client();
    const events = record(client);
    const connected = assert.rejects(client.connect(), { code: 'unreachable' });
    await settle();
    await world.close(1006);
    const [error] = events.of('error');
    assert.equal(error.code, 'unreachable');
    assert.equal(error.message, 'ws://hub/ws cannot be reached: check this address, that the hub runs, and that server.allowed_origins has "https://app.example.com"');
    for (let waited = 0; waited < 10_000; waited += 500) {
      await pass(500);
      if (!world.last.failed) await world.close(1006, Object.assign(world.last, { failed: true }));
    }
    await connected;
  });

  test('the error has what the host reports', async () => {
    const client = world.client();
    const events = record(client);
    client.connect();
    await settle();
    world.last.onerror({ message: 'Unexpected server response: 403' });
    await world.close(1006);
    assert.equal(events.of('error')[0].message, 'ws://hub/ws cannot be reached (Unexpected server response: 403): check this address, that the hub runs');
  });

  test('hangs: the same, after `timeout`', async () => {
    const client = world.client();
    const events = record(client);
    client.connect();
    await settle();
    await pass(10_000);
    assert.ok(world.last.closed);
    assert.equal(events.of('error')[0].code, 'unreachable');
    assert.match(events.of('error')[0].message, /^ws:\/\/hub\/ws cannot be reached \(no answer within 10000 ms\): check/);
  });

  test('a connection that opens but gets no answer is a timeout', async () => {
    const client = world.client();
    const events = record(client);
    client.connect();
    await world.open();
    await pass(10_000);
    assert.deepEqual(events.of('error').map(({ code, message }) => [code, message]), [['timeout', 'no answer within 10000 ms']]);
  });

  test('a lost connection is `disconnected`', async () => {
    const client = world.client();
    client.connect();
    await world.login();
    const asked = assert.rejects(client.query('bob'), { code: 'disconnected' });
    await world.close(1006);
    await asked;
  });
});

test('an unreadable message is ignored', async () => {
  const client = world.client();
  client.connect();
  await world.login();
  for (const data of ['', '{', 'null', '5', '[]', '"text"', new Uint8Array(3)]) world.last.onmessage({ data });
  await settle();
  assert.equal(client.state, 'connected');
});

describe('stale', () => {
  async function watching(options) {
    const client = world.client(options);
    const told = [];
    client.on('stale', (stale) => told.push([stale, client.stale]));
    client.subscribe('bob', () => {});
    client.connect();
    await world.login();
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1)] });
    return { client, told };
  }

  test('true after 5 s without a connection, false once all subscriptions are answered', async () => {
    const { client, told } = await watching();
    assert.deepEqual([told, client.stale], [[], false]);
    await world.close(1006);
    for (let waited = 0; waited < 4999; waited += 1) {
      time.tick(1);
      if (waited % 500 === 0) await settle();
    }
    assert.deepEqual(told, []);
    await pass(1);
    assert.deepEqual(told, [[true, true]]);
    assert.equal(client.get('bob').state, 'Online');
    await world.login('s1');
    assert.deepEqual(told, [[true, true]]);
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1)] });
    assert.deepEqual(told, [[true, true], [false, false]]);
  });

  test('a reconnect within `staleAfter` causes no event', async () => {
    const { told } = await watching();
    await world.close(1006);
    await pass(750);
    await world.login('s1');
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1)] });
    await pass(60_000);
    assert.deepEqual(told, []);
  });

  test('a hub that is unreachable from the start', async () => {
    const client = world.client({ staleAfter: 100 });
    client.connect();
    await pass(100);
    assert.equal(client.stale, true);
    await world.login();
    assert.equal(client.stale, false, 'nobody is watched');
  });

  test('true at once when the client stays disconnected; false after logout', async () => {
    for (const code of [4501, 4502, 4503, 4505, 4999]) {
      const { client, told } = await watching({ user: `user${code}` });
      await world.close(code);
      assert.deepEqual(told, [[true, true]], code);
      client.logout();
      assert.equal(client.stale, false);
    }
    const { client, told } = await watching({ user: 'out' });
    client.logout();
    await pass(60_000);
    assert.deepEqual([told, client.stale], [[], false]);
  });

  test('true while the browser is offline, until the connection answers', async () => {
    const { told } = await watching();
    world.window.fire('offline');
    await pass(5000);
    assert.deepEqual(told, [[true, true]]);
    world.window.fire('online');
    await world.reply(world.sent('ping').id, { now: 1 });
    assert.deepEqual(told, [[true, true], [false, false]]);
  });

  test('stays true while subscriptions are refused for now', async () => {
    const { client, told } = await watching();
    await world.close(1006);
    await pass(750);
    await pass(5000);
    assert.equal(client.stale, true);
    await world.login('s1');
    await world.refuse(world.sent('subscribe').id, 'rate_limited');
    assert.equal(client.stale, true);
    await pass(750);
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 1)] });
    assert.deepEqual(told, [[true, true], [false, false]]);
  });
});

describe('a hub whose data was restored', () => {
  test('its lower versions are accepted on a new connection', async () => {
    const seen = [];
    const client = world.client();
    client.subscribe('bob', ({ state, version }) => seen.push(`${state} ${version}`));
    client.connect();
    await world.login();
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 900)] });
    const old = world.last;
    await world.close(1006);
    await pass(750);
    await world.login('s2', { status: status('me', 1) });
    await world.push({ type: 'status', ...status('bob', 950) }, old); // late, of the lost connection
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 500, 'Offline')] });
    assert.equal(client.get('bob').state, 'Offline');
    for (const version of [499, 500, 501]) await world.push({ type: 'status', ...status('bob', version) });
    assert.deepEqual(seen, ['Online 900', 'Offline 500', 'Online 501']);
    assert.equal(client.get('me').version, 1);
  });

  test('a forgotten user is Offline with the version that the connection has seen', async () => {
    const seen = [];
    const client = world.client();
    client.subscribe('bob', ({ state, version }) => seen.push(`${state} ${version}`));
    client.connect();
    await world.login();
    await world.reply(world.sent('subscribe').id, { statuses: [status('bob', 900)] });
    client.query('bob');
    await world.reply(world.sent('query').id, { statuses: [status('bob', 900, 'Offline')] });
    assert.deepEqual(seen, ['Online 900', 'Offline 900']);
  });
});
