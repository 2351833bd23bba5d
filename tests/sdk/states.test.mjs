// Whatever comes late, of a state that the client has left, is ignored; and what a state began ends with it. The test is the hub.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { record, settle, status, time, World } from './fake.mjs';

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

const pass = async (ms) => {
  time.tick(ms);
  await settle();
};

/** A client whose tokens come when the test says so, in any order. */
function asking(options) {
  const answers = [];
  const client = world.client({ getToken: () => new Promise((resolve, reject) => answers.push({ resolve, reject })), ...options });
  return { client, answers, events: record(client) };
}

async function loggedIn(options) {
  const client = world.client(options);
  client.connect();
  await world.login('s1');
  return client;
}

describe('a token that comes late', () => {
  test('after a log-out and another connect(): opens no socket beside the new attempt', async () => {
    const { client, answers } = asking();
    client.connect();
    await settle();
    client.logout();
    client.connect();
    await settle();
    answers[0].resolve('old');
    await settle();
    assert.equal(world.sockets.length, 0);
    answers[1].resolve('new');
    assert.equal((await world.open()).token, 'new');
    assert.equal(world.sockets.length, 1);
  });

  test('or not at all, after a log-out: no error, and no other attempt', async () => {
    const { client, answers, events } = asking();
    client.connect();
    await settle();
    client.logout();
    events.length = 0;
    answers[0].reject(new Error('no'));
    await pass(60_000);
    assert.deepEqual([client.state, events.names(), answers.length], ['disconnected', [], 1]);
  });

  test('after the page was left: the page asks again once it is shown', async () => {
    const { client, answers } = asking();
    client.connect();
    await settle();
    world.window.fire('pagehide', { persisted: true });
    answers[0].resolve('old');
    await pass(60_000);
    assert.deepEqual([client.state, world.sockets.length], ['connecting', 0]);
    world.window.fire('pageshow', { persisted: true });
    await settle();
    answers[1].resolve('new');
    assert.equal((await world.open()).token, 'new');
  });

  test('for a renewal, on the next connection: is not sent there', async () => {
    const { client, answers } = asking();
    client.connect();
    await settle();
    answers[0].resolve('first');
    await world.login('s1');
    await world.push({ type: 'token_expiring', expires_at: 99 });
    await world.close(1006);
    await pass(750);
    await world.login('s1');
    answers[1].resolve('late');
    await settle();
    assert.equal(world.sent('refresh'), undefined);
    assert.equal(client.state, 'connected');
  });
});

describe('a log-out', () => {
  test('during the back-off: no other attempt', async () => {
    const client = await loggedIn();
    await world.close(1006);
    await client.logout();
    world.window.fire('online');
    await pass(60_000);
    assert.deepEqual([client.state, world.sockets.length], ['disconnected', 1]);
  });

  test('from within the event of a lost connection: no other attempt, and no other event', async () => {
    const client = await loggedIn();
    client.on('state', ({ state }) => state === 'connecting' && client.logout());
    const events = record(client);
    await world.close(1006);
    await pass(60_000);
    assert.deepEqual(events.map(([name, { state }]) => [name, state]), [['state', 'disconnected']]);
    assert.equal(world.sockets.length, 1);
  });

  test('from within the event of a failed attempt: no other attempt', async () => {
    const client = world.client();
    client.on('error', () => client.logout());
    client.connect();
    await settle();
    await world.close(1006);
    await pass(60_000);
    assert.deepEqual([client.state, world.sockets.length], ['disconnected', 1]);
  });

  test('from within the first of several errors: the others are not told', async () => {
    const client = world.client();
    const told = [];
    client.subscribe(['bob', 'carol'], () => {});
    client.on('error', ({ user }) => (told.push(user), client.logout()));
    client.connect();
    await world.login();
    const errors = ['bob', 'carol'].map((user) => ({ user, code: 'forbidden' }));
    await world.reply(world.sent('subscribe').id, { statuses: [], errors });
    assert.deepEqual(told, ['bob']);
  });

  test('from within the event `kicked`: nothing is stale, as nothing is known', async () => {
    const client = await loggedIn();
    client.on('kicked', () => client.logout());
    await world.push({ type: 'kicked', reason: 'admin', by: null, at: 5 });
    await pass(60_000);
    assert.equal(client.stale, false);
  });

  test('from within the event `tokenExpiring`: no token is asked for', async () => {
    let asked = 0;
    const client = await loggedIn({ getToken: () => `T${++asked}` });
    client.on('tokenExpiring', () => client.logout());
    await world.push({ type: 'token_expiring', expires_at: 99 });
    assert.equal(asked, 1);
  });

  test('before the login is answered: the answer is ignored', async () => {
    const client = world.client();
    client.connect();
    const { id } = await world.open();
    client.logout();
    const events = record(client);
    await world.reply(id, { user: 'me', session: 's1', status: status('me', 1) });
    assert.deepEqual([client.state, client.session, client.user, events.names()], ['disconnected', null, null, []]);
    client.connect();
    assert.ok(!('resume' in (await world.open())));
  });

  test('is not why a later connect() is late', async () => {
    const client = await loggedIn();
    client.logout();
    const connected = assert.rejects(client.connect(), { code: 'timeout' });
    await settle();
    time.tick(10_000);
    await connected;
  });
});

describe('hidden and shown while it connects', () => {
  for (const doing of ['asks for a token', 'opens a socket']) {
    const connecting = async (options) => {
      const { client, answers } = asking(options);
      client.connect();
      await settle();
      if (doing === 'opens a socket') answers[0].resolve('T');
      await settle();
      return { client, answers };
    };

    test(`a mini-program hidden while it ${doing} says so after its login`, async () => {
      const { client, answers } = await connecting({ platform: 'miniprogram' });
      client.background('exit').catch(() => {});
      answers[0].resolve('T');
      await world.login();
      assert.equal(world.sent('background').reason, 'exit');
      assert.equal(world.sockets.length, 1);
    });

    test(`a mini-program hidden and shown again while it ${doing} has nothing to say`, async () => {
      const { client, answers } = await connecting({ platform: 'miniprogram' });
      client.background().catch(() => {});
      client.foreground();
      answers[0].resolve('T');
      await world.login();
      assert.deepEqual(world.last.sent.map(({ type }) => type), ['login']);
      assert.equal(world.sockets.length, 1);
    });

    test(`a page shown, online or thawed while it ${doing} makes no second attempt`, async () => {
      const { answers } = await connecting();
      for (const event of ['visibilitychange', 'online', 'resume', 'offline']) world.window.fire(event);
      answers[0].resolve('T');
      await world.login();
      assert.deepEqual([answers.length, world.sockets.length], [1, 1]);
      assert.deepEqual(world.last.sent.map(({ type }) => type), ['login']);
    });
  }

  test('a mini-program logged out while it is hidden stays away when it is shown', async () => {
    const client = await loggedIn({ platform: 'miniprogram' });
    client.background();
    await world.close(4003);
    await pass(60_000);
    client.logout();
    client.foreground();
    await pass(60_000);
    assert.deepEqual([client.state, world.sockets.length], ['disconnected', 1]);
  });
});

describe('a kick while a session is resumed', () => {
  const notice = { type: 'kicked', reason: 'login_elsewhere', by: { platform: 'ios', device: 'd2' }, at: 5 };

  async function resuming() {
    await loggedIn();
    const client = world.client();
    const events = record(client);
    const connected = assert.rejects(client.connect(), { close: 4501 });
    const login = await world.open();
    assert.equal(login.resume, 's1');
    return { client, events, connected, login };
  }

  test('told before the answer: ends it, and the answer is ignored', async () => {
    const { client, events, connected, login } = await resuming();
    await world.push(notice);
    await world.reply(login.id, { user: 'me', session: 's1', status: status('me', 1) });
    await world.close(4501);
    await connected;
    await pass(60_000);
    assert.deepEqual(events.of('kicked'), [notice]);
    assert.deepEqual(events.names(), ['state', 'state', 'kicked']);
    assert.deepEqual([client.state, client.session, world.sockets.length], ['disconnected', null, 2]);
  });

  test('told by the close code alone: ends it', async () => {
    const { client, events, connected } = await resuming();
    await world.close(4501);
    await connected;
    await pass(60_000);
    assert.deepEqual(events.of('kicked').map(({ reason }) => reason), ['session_over']);
    assert.deepEqual([client.state, world.sockets.length], ['disconnected', 2]);
  });
});

describe('timers', () => {
  test('each connection renews its token at once, when it is about to expire', async () => {
    let asked = 0;
    const client = world.client({ getToken: () => `T${++asked}` });
    client.connect();
    for (const token of ['T2', 'T3']) {
      await world.login('s1');
      await world.push({ type: 'token_expiring', expires_at: 99 });
      const { id, token: shown } = world.sent('refresh');
      assert.equal(shown, token);
      await world.reply(id, { expires_at: 99 });
      await world.close(1006);
      await pass(750);
    }
  });

  test('a token that is about to expire before the login is answered does not keep a silent attempt alive', async () => {
    const client = world.client({ getToken: () => 'T' });
    client.connect();
    await world.open();
    await world.push({ type: 'token_expiring', expires_at: 99 });
    await pass(10_000);
    assert.ok(world.last.closed);
  });

  test('it stops no timer but its own', async () => {
    const set = mock.method(globalThis, 'setTimeout', globalThis.setTimeout);
    const stopped = mock.method(globalThis, 'clearTimeout', globalThis.clearTimeout);
    const client = world.client({ getToken: () => 'T' });
    client.connect();
    for (let connection = 0; connection < 2; connection++) {
      await world.login('s1');
      for (let push = 0; push < 3; push++) await world.push({ type: 'token_expiring', expires_at: 99 });
      world.window.fire('online');
      await world.close(1006);
      await pass(750);
    }
    client.logout();
    const own = new Set(set.mock.calls.map(({ result }) => result));
    for (const { arguments: [timer] } of stopped.mock.calls) assert.ok(timer == null || own.has(timer), `stopped timer ${timer}`);
  });

  test('a log-out leaves none that would keep a program running', async () => {
    const running = new Set();
    for (const kind of ['Timeout', 'Interval']) {
      const [set, clear] = [globalThis[`set${kind}`], globalThis[`clear${kind}`]];
      mock.method(globalThis, `set${kind}`, (...how) => {
        const timer = set(...how);
        running.add(timer);
        return timer;
      });
      mock.method(globalThis, `clear${kind}`, (timer) => {
        running.delete(timer);
        clear(timer);
      });
    }
    const client = await loggedIn();
    client.query('bob').catch(() => {});
    world.window.fire('online');
    const gone = client.logout();
    await world.close(1000);
    await gone;
    assert.deepEqual([...running], []);
  });
});
