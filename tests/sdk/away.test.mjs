// A7: when a page says that nobody is at it, and that somebody is back. The test is the hub, the browser and the clock.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { FakeWindow, settle, status, time, World } from './fake.mjs';

const TICK = 20_000;
const MINUTE = 60_000;

let world;

beforeEach(() => {
  time.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1e12 });
  mock.method(Math, 'random', () => 0.5);
  world = new World();
});

afterEach(() => {
  time.reset();
  mock.restoreAll();
});

/** The words of a socket, each with its time without input. */
const words = (socket = world.last) =>
  socket.sent.filter(({ type }) => type === 'idle' || type === 'active').map(({ type, for_ms }) => (type === 'idle' ? [type, for_ms] : [type]));

/** Answers what the socket has asked and was not answered, as a hub does that accepts it. */
async function answer(socket = world.last) {
  socket.answered ??= new Set();
  for (const { type, id } of socket.sent) {
    if (type === 'login' || socket.answered.has(id)) continue;
    socket.answered.add(id);
    await world.push({ type: 'reply', id, ok: type === 'background' ? { deadline: null } : { statuses: [], errors: [] } }, socket);
  }
}

/** Moves the time on, tick by tick; the hub answers at once. */
async function pass(ms, socket = world.last) {
  for (let left = ms; left > 0; left -= TICK) {
    time.tick(Math.min(left, TICK));
    await settle();
    await answer(socket);
  }
}

async function connected(options, more) {
  const client = world.client(options);
  client.connect();
  await world.login('s1', more);
  await answer();
  return client;
}

async function input(type = 'keydown', window = world.window) {
  window.fire(type);
  await settle();
  await answer();
}

async function turn(visibilityState) {
  world.window.document.visibilityState = visibilityState;
  world.window.fire('visibilitychange');
  await settle();
  await answer();
}

describe('a visible page', () => {
  for (const type of ['pointerdown', 'pointermove', 'keydown', 'touchstart', 'wheel', 'scroll']) {
    test(`is idle five minutes after the last ${type}, once, and active at the next one`, async () => {
      await connected();
      await pass(MINUTE);
      await input(type);
      await pass(5 * MINUTE - TICK);
      assert.deepEqual(words(), []);
      await pass(TICK);
      assert.deepEqual(words(), [['idle', 5 * MINUTE]]);
      await pass(60 * MINUTE);
      assert.equal(words().length, 1, 'said once');
      await input(type);
      await input(type);
      assert.deepEqual(words(), [['idle', 5 * MINUTE], ['active']]);
    });
  }

  test('that is used is never idle, and says nothing', async () => {
    await connected();
    for (let minutes = 0; minutes < 60; minutes += 4) {
      await pass(4 * MINUTE);
      await input('pointermove');
    }
    assert.deepEqual(words(), []);
  });

  test('takes other times, and says idle at most every 30 s', async () => {
    await connected({ away: { after: '5s' } });
    await pass(TICK);
    await input();
    await pass(TICK);
    assert.deepEqual(words(), [['idle', TICK], ['active']], '20 s after the last');
    await pass(TICK);
    assert.deepEqual(words(), [['idle', TICK], ['active'], ['idle', 2 * TICK]]);
  });

  test('counts from connect(), not from when it was loaded', async () => {
    const client = world.client();
    await pass(60 * MINUTE, { sent: [] });
    client.connect();
    await world.login();
    await pass(5 * MINUTE - TICK);
    assert.deepEqual(words(), []);
  });

  test('that slept is idle when it wakes, for as long as it slept', async () => {
    await connected();
    time.setTime(Date.now() + 120 * MINUTE);
    await pass(TICK);
    assert.deepEqual(words(), [['idle', 120 * MINUTE + TICK]]);
  });

  test('whose clock was set back counts from then', async () => {
    await connected();
    await input();
    const { now } = Date;
    mock.method(Date, 'now', () => now() - 60 * MINUTE);
    await pass(5 * MINUTE + TICK);
    assert.equal(words().length, 1);
    assert.ok(words()[0][1] >= 5 * MINUTE && words()[0][1] <= 5 * MINUTE + TICK);
  });
});

describe('a hidden page', () => {
  test('is idle a minute after it was hidden, and active at an input, not when it is shown', async () => {
    await connected();
    await pass(4 * MINUTE);
    await turn('hidden');
    await pass(MINUTE - TICK);
    assert.deepEqual(words(), []);
    await pass(TICK);
    assert.deepEqual(words(), [['idle', MINUTE]]);
    await turn('visible');
    await pass(10 * MINUTE);
    assert.equal(words().length, 1);
    await input();
    assert.deepEqual(words().at(-1), ['active']);
  });

  test('has no timer of its own: with throttled timers it is at most a minute late', async () => {
    const timers = mock.method(globalThis, 'setTimeout');
    await connected();
    const before = timers.mock.callCount();
    await turn('hidden');
    await input('visibilitychange');
    await pass(10 * MINUTE);
    const own = timers.mock.calls.slice(before).filter(({ arguments: [, ms] }) => ms > TICK);
    assert.deepEqual(own, []);
  });
});

describe('a resume', () => {
  test('of a page without input leaves the session as it was; the first input is told', async () => {
    await connected({}, { resumed: true });
    await pass(MINUTE);
    assert.deepEqual(words(), []);
    await input();
    await input();
    assert.deepEqual(words(), [['active']]);
  });

  test('bears how long an idle page was not touched, and nothing is said again', async () => {
    await connected();
    await pass(5 * MINUTE);
    await world.close(1006);
    await pass(MINUTE, { sent: [] });
    const login = await world.open();
    assert.deepEqual([login.resume, login.idle_ms], ['s1', 6 * MINUTE]);
    await world.login('s1', { resumed: true });
    await pass(10 * MINUTE);
    assert.deepEqual(words(), []);
    await input();
    assert.deepEqual(words(), [['active']]);
  });

  test('of a page that became idle meanwhile bears it, too', async () => {
    await connected();
    await world.close(1006);
    time.setTime(Date.now() + 30 * MINUTE);
    time.tick(1000);
    assert.ok((await world.open()).idle_ms >= 30 * MINUTE);
    await world.login('s2', { resumed: false });
    await pass(MINUTE);
    assert.deepEqual(words(), []);
  });

  test('of a page that was idle and is used again: active at once', async () => {
    await connected();
    await pass(5 * MINUTE);
    await world.close(1006);
    world.window.fire('keydown');
    await pass(TICK, { sent: [] });
    assert.equal((await world.open()).idle_ms, undefined);
    await world.login('s1', { resumed: true });
    assert.deepEqual(words(), [['active']]);
  });

  test('of a page in use says nothing', async () => {
    await connected();
    await input();
    await world.close(1006);
    await pass(TICK, { sent: [] });
    assert.equal((await world.open()).idle_ms, undefined);
    await world.login('s1', { resumed: true });
    await input();
    assert.deepEqual(words(), []);
  });

  test('after a word that the hub did not get says it again', async () => {
    await connected();
    await pass(5 * MINUTE);
    world.window.fire('keydown');
    await settle();
    assert.deepEqual(words().at(-1), ['active']);
    await world.close(1006);
    await pass(TICK, { sent: [] });
    await world.open();
    await world.login('s1', { resumed: true });
    assert.deepEqual(words(), [['active']]);
  });
});

test('a login never bears how long the page was idle', async () => {
  const client = await connected();
  await pass(5 * MINUTE);
  client.logout();
  client.connect();
  assert.equal('idle_ms' in (await world.open()), false);
});

test('a word that the hub refuses is said again at the next tick, not at each input', async () => {
  await connected();
  await pass(5 * MINUTE);
  const tried = () => words().filter(([type]) => type === 'active').length;
  for (let n = 0; n < 50; n++) {
    world.window.fire('pointermove');
    await settle();
    if (n === 0) await world.refuse(world.sent('active').id, 'rate_limited');
  }
  assert.equal(tried(), 1);
  time.tick(TICK);
  await settle();
  assert.equal(tried(), 2);
  await answer();
  await pass(MINUTE);
  assert.equal(tried(), 2);
});

test('input while `idle` is under way is told when it is answered', async () => {
  await connected();
  await pass(5 * MINUTE - TICK);
  time.tick(TICK);
  await settle();
  world.window.fire('keydown');
  await settle();
  assert.equal(words().length, 1);
  await answer();
  assert.deepEqual(words().at(-1), ['active']);
});

describe('without', () => {
  test('`away: false` listens to no input, and says nothing', async () => {
    const heard = mock.method(world.window, 'addEventListener');
    await connected({ away: false });
    assert.ok(!heard.mock.calls.some(({ arguments: [type] }) => /key|pointer|touch|wheel|scroll/.test(type)));
    await turn('hidden');
    await pass(60 * MINUTE);
    await input();
    assert.deepEqual(words(), []);
  });

  test('a document, as in Node, it says nothing, and opens no channel', async () => {
    world.window.document = undefined;
    world.window.BroadcastChannel = class {
      constructor() {
        assert.fail('a channel');
      }
    };
    await connected();
    await pass(60 * MINUTE);
    assert.deepEqual(words(), []);
  });
});

test('its listeners are gone after a log-out', async () => {
  const [added, removed] = [mock.method(world.window, 'addEventListener'), mock.method(world.window, 'removeEventListener')];
  const client = await connected();
  client.logout();
  const keys = ({ mock }) => mock.calls.map(({ arguments: [type, , { capture }] }) => `${type} ${capture}`).sort();
  assert.deepEqual(keys(removed), keys(added));
  assert.ok(keys(added).includes('keydown true'));
});

describe('the tabs of a browser', () => {
  /** The channel of a browser, without one of its tabs. */
  function browser() {
    const channels = new Set();
    let posts = 0;
    class BroadcastChannel {
      constructor(name) {
        Object.assign(this, { name });
        channels.add(this);
      }
      postMessage(data) {
        assert.ok(channels.has(this), 'not closed');
        posts += 1;
        for (const other of channels) {
          if (other !== this && other.name === this.name) other.onmessage({ type: 'message', data });
        }
      }
      close() {
        channels.delete(this);
      }
    }
    const tab = async () => {
      world = new World();
      world.window = Object.assign(new FakeWindow(), { BroadcastChannel });
      await connected();
      return world;
    };
    return { tab, channels, posts: () => posts };
  }

  const use = async (tab, type = 'keydown') => {
    tab.window.fire(type);
    await settle();
  };

  test('share input: a hidden tab is as active as the one in use', async () => {
    const { tab, posts } = browser();
    const [hidden, shown] = [await tab(), await tab()];
    hidden.window.document.visibilityState = 'hidden';
    for (let at = 0; at < 10 * MINUTE; at += TICK) {
      for (let n = 0; n < 20; n++) await use(shown, 'pointermove');
      time.tick(TICK);
      await settle();
    }
    assert.deepEqual([words(hidden.last), words(shown.last)], [[], []]);
    assert.ok(posts() <= 20, `${posts()} messages in ten minutes: each wakes a tab`);
    // Both are idle in the end, and come back together.
    for (let at = 0; at < 6 * MINUTE; at += TICK) {
      time.tick(TICK);
      await settle();
      await answer(hidden.last);
      await answer(shown.last);
    }
    assert.deepEqual([words(hidden.last).length, words(shown.last).length], [1, 1]);
    await use(shown);
    assert.deepEqual([words(hidden.last).at(-1), words(shown.last).at(-1)], [['active'], ['active']]);
  });

  test('stop sharing when a connection ends', async () => {
    const { tab, channels } = browser();
    const only = await tab();
    assert.equal(channels.size, 1);
    await only.close(1006, only.last);
    assert.equal(channels.size, 0);
    only.window.fire('keydown');
  });

  test('need no channel: one that throws is done without', async () => {
    world.window.BroadcastChannel = class {
      constructor() {
        throw new Error('SecurityError');
      }
    };
    await connected();
    await pass(5 * MINUTE);
    await input();
    assert.deepEqual(words(), [['idle', 5 * MINUTE], ['active']]);
  });
});

describe('an app that says `background` and `foreground` itself', () => {
  const app = { platform: 'ios' };

  test('is idle and active by these, without other words', async () => {
    world.window.document = undefined;
    const client = await connected(app);
    client.background();
    await settle();
    await answer();
    await pass(10 * MINUTE);
    client.foreground();
    await settle();
    await answer();
    await pass(10 * MINUTE);
    const sent = world.last.sent.map(({ type }) => type).filter((type) => type !== 'ping');
    assert.deepEqual(sent, ['login', 'background', 'foreground']);
  });

  test('that comes back by a resume says `active`, as the resume left it idle', async () => {
    world.window.document = undefined;
    const client = await connected(app);
    client.background();
    await settle();
    await answer();
    await world.close(1006);
    await pass(TICK, { sent: [] });
    client.foreground();
    await world.open();
    await world.login('s1', { resumed: true });
    assert.deepEqual(words(), [['active']]);
  });

  test('a page that says so is still idle or active by its input', async () => {
    const client = await connected();
    client.background();
    client.foreground();
    await settle();
    await answer();
    await pass(5 * MINUTE);
    await input();
    assert.deepEqual(words(), [['idle', 5 * MINUTE], ['active']]);
  });
});

test('a status of somebody who left the watch list silently is not away', async () => {
  const client = await connected();
  const told = [];
  client.contacts((news) => told.push(...news.statuses));
  await settle();
  const page = (statuses) => world.reply(world.sent('subscribe').id, { statuses, count: statuses.length, next: null });
  await page([{ ...status('bob', 5), away: true }]);
  await world.close(1006);
  await pass(TICK, { sent: [] });
  await world.open();
  await world.login('s1', { resumed: true });
  await settle();
  await page([]);
  assert.deepEqual([told.at(0).away, client.get('bob')?.away ?? false], [true, false]);
});
