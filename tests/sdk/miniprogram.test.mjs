// The SDK in simulated mini-program hosts, on a real hub: what users do with their phones, and
// what the hub makes of it. The phones' time runs ten times as fast, and the hub's windows are ten times shorter.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { alipay, douyin, taro, uniApp } from './hosts.mjs';
import { startHub, token } from './hub.mjs';
import { follow, get } from './log.mjs';
import { Phone } from './phone.mjs';
import { weChat } from './wx.mjs';

const SPEED = 10;
const PING_MS = 2000;
const SILENCE_MS = 6000;
// Longer than a tenth, so that a client can reconnect in time on a busy machine.
const BACKGROUND_MS = 4000;
const EXIT_MS = 800;
const AT_ONCE_MS = 1000;
const LATE_MS = 1000;
const TOGETHER = { concurrency: 12, timeout: 60_000 };
// A tenth of the SDK's own value would be too short on a busy machine.
const PATIENCE = { timeout: 100_000, probeTimeout: 10_000 };
// Two clocks that both count whole milliseconds.
const ROUNDING_MS = 2;

const WINDOWS = {
  'liveness.web_ping': `${PING_MS}ms`, 'liveness.web_silence': `${SILENCE_MS}ms`,
  'liveness.background': `${BACKGROUND_MS}ms`, 'liveness.exit': `${EXIT_MS}ms`,
};

let hub;
let log;
let users = 0;
const phones = [];

before(async () => {
  hub = await startHub(WINDOWS);
  log = await follow(hub);
});

after(async () => {
  for (const phone of phones) phone.stop();
  await log?.stop();
  await hub?.stop();
});

function newPhone(how) {
  const phone = new Phone({ speed: SPEED, ...how });
  phones.push(phone);
  return phone;
}

/** Starts a mini-program and logs in. */
async function open(how) {
  const it = await start(how);
  const since = Date.now();
  const { session } = await it.client.connect();
  return { ...it, since, session };
}

/** Starts a mini-program, which does not connect yet. */
async function start({ user = `user${++users}`, host = weChat, phone = newPhone(), options = {}, old = false } = {}) {
  const program = phone.launch(host);
  const { PresenceClient } = program.require({ old });
  const { Taro, uni } = program.globals;
  const url = `${hub.origin.replace('http', 'ws')}/ws`;
  const client = new PresenceClient({ url, token: await token(hub, user), adapter: Taro ?? uni, ...PATIENCE, ...options });
  return { user, phone, host, program, client };
}

const happens = (client, event, wanted = () => true) =>
  new Promise((done) => {
    const off = client.on(event, (value) => wanted(value) && (off(), done(value)));
  });

const reaches = async ({ client }, state) => client.state === state || happens(client, 'state', (it) => it.state === state);

const hidden = async ({ program }, reason) => {
  const suspended = once(program, 'suspended');
  program.hide(reason);
  await suspended;
};

/** Waits until the windows of all earlier background messages have passed. */
async function backgroundWindowPasses() {
  const marker = await open();
  marker.program.hide();
  await log.until(marker.user, 'background');
}

function isOffline(event) {
  assert.equal(event.state.to, 'Offline');
  assert.equal(event.terminal.to, null);
}

function soonAfter(event, since) {
  const took = event.at - since;
  assert.ok(took >= -ROUNDING_MS && took < AT_ONCE_MS, `after ${took} ms`);
}

/** Within a second after the deadline, which was `window` after something that happened between `from` and `to`. */
function keptDeadline(event, window, from, to) {
  const { deadline } = event.evidence;
  assert.ok(deadline >= from + window - ROUNDING_MS && deadline <= to + window + ROUNDING_MS, `${deadline - from} ms after`);
  assert.ok(event.at >= deadline && event.at <= deadline + LATE_MS, `late by ${event.at - deadline} ms`);
}

async function historyOf(user) {
  const { events } = await get(hub, `/v1/users/${user}/history`);
  return events.map(({ cause }) => cause).reverse();
}

const OTHERS = { Alipay: alipay, Douyin: douyin, 'Taro in WeChat': taro, 'uni-app in WeChat': uniApp };

// One after the other, so that an immediate event is not delayed by other tests.
describe('at once', () => {
  describe('WeChat', atOnceInWeChat);
  for (const [name, host] of Object.entries(OTHERS)) describe(name, () => atOnceInAnother(host));
});

describe('in time', TOGETHER, () => {
  describe('WeChat', TOGETHER, inWeChat);
  for (const [name, host] of Object.entries(OTHERS)) describe(name, TOGETHER, () => inAnother(host));

  test('a removed listener gets no more host events', async () => {
    for (const host of [weChat, ...Object.values(OTHERS)]) {
      const it = await open({ host });
      await it.client.destroy();
      for (const event of ['AppHide', 'AppShow', 'NetworkStatusChange']) assert.equal(it.program.listenerCount(event), 0, event);
    }
  });
});

function atOnceInWeChat() {
  test('T1: a login is Online at once', async () => {
    const { user, since } = await open();
    const event = await log.until(user, 'login');
    assert.equal(event.state.to, 'Online');
    assert.equal(event.terminal.platform, 'miniprogram');
    soonAfter(event, since);
  });

  test('T2: destroy is Offline at once', async () => {
    const { user, client } = await open();
    const since = Date.now();
    await client.destroy();
    const event = await log.until(user, 'logout');
    isOffline(event);
    soonAfter(event, since);
  });

  for (const end of ['fin', 'rst']) {
    test(`T3: WeChat killed in the foreground (${end}) is Offline at once`, async () => {
      const { user, program } = await open();
      const since = Date.now();
      program.kill(end);
      const event = await log.until(user, 'close');
      isOffline(event);
      soonAfter(event, since);
    });
  }
}

function atOnceInAnother(host) {
  test('logs in, watches, and logs out at once', async () => {
    const friend = await open();
    const it = await open({ host });
    const seen = [];
    const gone = new Promise((done) => {
      it.client.subscribe(friend.user, ({ state }) => { seen.push(state); if (state === 'Offline') done(); });
    });
    await happens(it.client, 'status', ({ user }) => user === friend.user);
    friend.program.kill();
    await gone;
    assert.deepEqual(seen, ['Online', 'Offline']);

    assert.equal((await log.until(it.user, 'login')).terminal.platform, 'miniprogram');
    const since = Date.now();
    await it.client.destroy();
    const event = await log.until(it.user, 'logout');
    isOffline(event);
    soonAfter(event, since);
  });

  test('killed in the foreground is Offline at once; the device survives', async () => {
    const it = await open({ host });
    const since = Date.now();
    it.program.kill();
    const event = await log.until(it.user, 'close');
    isOffline(event);
    soonAfter(event, since);
    assert.equal((await open(it)).client.device, it.client.device);
  });
}

function inWeChat() {
  test('T5: a network lost without a close is Offline after the window, never early', async () => {
    const it = await open();
    const since = Date.now();
    it.phone.lose();
    const event = await log.until(it.user, 'silence');
    isOffline(event);
    const heard = event.evidence.last_heard;
    assert.ok(heard <= since + ROUNDING_MS && heard >= it.since, `heard ${heard - since} ms after the cut`);
    const silent = event.at - heard;
    assert.ok(silent >= SILENCE_MS && silent <= SILENCE_MS + LATE_MS, `after ${silent} ms`);
    it.phone.find();
    await reaches(it, 'connected');
    assert.deepEqual(await historyOf(it.user), ['login', 'silence', 'login']);
  });

  test('T5: a network that returns within the window is not visible', async () => {
    const it = await open();
    it.phone.lose();
    await reaches(it, 'connecting'); // its own ping finds it out
    it.phone.find();
    await reaches(it, 'connected');
    assert.equal(it.client.session, it.session);
    assert.deepEqual(await historyOf(it.user), ['login']);
  });

  test('T6: in the background it is Offline after the window', async () => {
    const it = await open();
    const since = Date.now();
    await hidden(it);
    const event = await log.until(it.user, 'background');
    isOffline(event);
    keptDeadline(event, BACKGROUND_MS, since, since + AT_ONCE_MS);
    it.program.show();
    await reaches(it, 'connected');
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'background', 'login']);
  });

  test('T6: also if it keeps running: the hub closes it, and it reconnects when it is shown', async () => {
    const it = await open();
    it.program.playing = true;
    it.program.hide();
    await reaches(it, 'disconnected');
    isOffline(await log.until(it.user, 'background'));
    it.program.show();
    await reaches(it, 'connected');
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'background', 'login']);
  });

  test('T6: shown before the deadline: away, and back', async () => {
    const it = await open();
    it.program.hide();
    it.program.show();
    await backgroundWindowPasses();
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'active']);
    assert.equal(it.client.session, it.session);
  });

  test('T7: closed with its close button it is Offline after the window', async () => {
    const it = await open();
    const since = Date.now();
    it.program.hide(0);
    const event = await log.until(it.user, 'exit');
    isOffline(event);
    keptDeadline(event, EXIT_MS, since, since + AT_ONCE_MS);
  });

  test('T7: back before the deadline: away, and back', async () => {
    const it = await open();
    it.program.hide(0);
    it.program.show();
    await backgroundWindowPasses();
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'active']);
  });

  test('T15: closed with its close button after it was hidden: the earlier deadline counts', async () => {
    const it = await open();
    const since = Date.now();
    it.program.hide(3);
    it.program.hide(0);
    const event = await log.until(it.user, 'exit');
    keptDeadline(event, EXIT_MS, since, since + AT_ONCE_MS);
    assert.deepEqual(it.program.sent.filter(({ type }) => type === 'background').map(({ reason }) => reason), ['hide', 'exit']);
  });

  for (const cut of ['fin', 'rst', 'nothing']) {
    for (const heldFirst of [true, false]) {
      const order = heldFirst ? 'what was held first' : 'onAppShow first';
      test(`T17: its socket cut (${cut}) while hidden, back before the deadline (${order}): away, and back`, async () => {
        const it = await open({ phone: newPhone({ cut, heldFirst }) });
        const other = await open();
        await hidden(it);
        await other.client.query(it.user); // the hub has had time to see the cut
        const back = happens(it.client, 'session');
        it.program.show();
        assert.equal((await back).resumed, true);
        assert.equal(it.client.session, it.session);
        await backgroundWindowPasses();
        assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'active']);
      });
    }
  }

  test('T17: killed while hidden: the deadline stands', async () => {
    const it = await open();
    const since = Date.now();
    await hidden(it);
    it.program.kill();
    keptDeadline(await log.until(it.user, 'background'), BACKGROUND_MS, since, since + AT_ONCE_MS);
  });

  test('works in an old WeChat without globalThis', async () => {
    const it = await open({ old: true });
    assert.equal(it.client.platform, 'miniprogram');
    await it.client.destroy();
    isOffline(await log.until(it.user, 'logout'));
  });

  test('pings while it is shown, and never while it is hidden', async () => {
    const everyMs = 1000;
    const it = await open({ options: { heartbeat: everyMs } });
    const pings = () => it.program.sent.filter(({ type }) => type === 'ping').length;
    const since = Date.now();
    while (pings() < 5) await once(it.program, 'sent');
    assert.ok(Date.now() - since >= 4 * (everyMs / SPEED), `5 pings in ${Date.now() - since} ms`);
    const before = pings();
    await hidden(it);
    await log.until(it.user, 'background');
    assert.equal(pings(), before);
    it.program.show();
    while (pings() < before + 2) await once(it.program, 'sent');
  });

  test('the network returns: a waiting client connects at once', async () => {
    const it = await open({ options: { minDelay: 600_000, maxDelay: 600_000 } });
    it.phone.online = false;
    await reaches(it, 'connecting');
    it.phone.online = true;
    await reaches(it, 'connected');
    assert.equal(it.client.session, it.session);
    assert.deepEqual(await historyOf(it.user), ['login']);
  });

  test('a change of network: the client pings, then replaces the connection, never with too many sockets', async () => {
    const it = await open();
    for (let round = 0; round < 6; round++) {
      const back = happens(it.client, 'session');
      it.phone.roam();
      assert.equal((await back).resumed, true);
      assert.equal(it.program.connections.size, 1);
    }
    assert.equal(it.client.session, it.session);
    assert.deepEqual(await historyOf(it.user), ['login']);
  });

  test('on a dead network at most one socket is open, and none leaks', async () => {
    const it = await open({ options: { timeout: 3000, probeTimeout: 1000, minDelay: 500, maxDelay: 1000, heartbeat: 1000 } });
    const inUse = [];
    const { connect } = it.program;
    it.program.connect = (...how) => {
      const connection = connect.apply(it.program, how);
      inUse.push(it.program.connections.size);
      it.program.emit('dialled');
      return connection;
    };
    it.phone.lose();
    while (inUse.length < 8) {
      await once(it.program, 'dialled');
      it.program.fire('NetworkStatusChange', true); // hurries what waits
    }
    it.phone.find();
    await reaches(it, 'connected');
    assert.deepEqual(inUse, inUse.map(() => 1));
    assert.equal(it.program.connections.size, 1);
  });

  test('a connection that answers the ping is kept', async () => {
    const it = await open();
    const count = it.program.sent.length;
    const [connection] = it.program.connections;
    it.phone.online = true;
    while (it.program.sent.length === count) await once(it.program, 'sent');
    assert.equal(it.program.sent.at(-1).type, 'ping');
    await it.client.query(it.user);
    assert.deepEqual([...it.program.connections], [connection]);
  });

  test('the device id survives a restart, and differs on another phone', async () => {
    const it = await open();
    it.program.kill();
    const again = await open(it);
    assert.equal(again.client.device, it.client.device);
    assert.notEqual(again.session, it.session);
    const other = await start({ user: it.user });
    assert.notEqual(other.client.device, it.client.device);
  });

  test('killed without a close and started again: it replaces its own session and kicks no other', async () => {
    const it = await open();
    it.program.kill('nothing');
    const again = await open(it);
    assert.deepEqual(await historyOf(it.user), ['login', 'login']);
    assert.equal((await again.client.sessions()).length, 1);
  });

  test('kicked: no reconnect; a restart is a login by the user', async () => {
    const it = await open();
    const kicked = happens(it.client, 'kicked');
    const second = await open({ user: it.user });
    assert.equal((await kicked).by.device, second.client.device);
    const sent = it.program.sent.length;
    await hidden(it);
    it.program.show();
    it.phone.online = true;
    await assert.rejects(it.client.connect(), { code: 'kicked' });
    await second.client.query(it.user);
    assert.equal(it.client.state, 'disconnected');
    assert.equal(it.program.sent.length, sent);
    assert.equal(it.program.connections.size, 0);

    it.program.kill();
    const secondKicked = happens(second.client, 'kicked');
    const again = await open(it);
    assert.equal((await secondKicked).by.device, again.client.device);
  });
}

function inAnother(host) {
  test('a network lost without a close is Offline after the window', async () => {
    const it = await open({ host });
    it.phone.lose();
    const event = await log.until(it.user, 'silence');
    isOffline(event);
    const silent = event.at - event.evidence.last_heard;
    assert.ok(silent >= SILENCE_MS && silent <= SILENCE_MS + LATE_MS, `after ${silent} ms`);
  });

  test('hidden: away, and back if it returns before the deadline, Offline after it', async () => {
    const it = await open({ host });
    await hidden(it);
    const back = happens(it.client, 'session');
    it.program.show();
    assert.equal((await back).resumed, true);
    assert.equal(it.client.session, it.session);
    await log.until(it.user, 'active');
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'active']);
    const since = Date.now();
    await hidden(it);
    const event = await log.until(it.user, 'background');
    isOffline(event);
    keptDeadline(event, BACKGROUND_MS, since, since + AT_ONCE_MS);
  });

  test('closed in the background: it reconnects when it is shown', async () => {
    const it = await open({ host });
    it.program.playing = true;
    it.program.hide();
    await reaches(it, 'disconnected');
    it.program.show();
    await reaches(it, 'connected');
    assert.deepEqual(await historyOf(it.user), ['login', 'idle', 'background', 'login']);
  });

  test('kicked or superseded: no reconnect, and the event says which', async () => {
    const it = await open({ host });
    const kicked = happens(it.client, 'kicked');
    const other = await open({ user: it.user, host });
    assert.equal((await kicked).by.device, other.client.device);
    assert.equal(it.client.state, 'disconnected');

    await hidden(other);
    await log.until(it.user, 'background');
    await it.client.loginHere();
    const superseded = happens(other.client, 'superseded');
    other.program.show();
    assert.equal((await superseded).close, 4503);
    assert.equal(other.client.state, 'disconnected');
    await it.client.query(it.user);
  });

  test('kicked while hidden: it gets `kicked` when it returns', async () => {
    const it = await open({ host });
    await hidden(it);
    await open({ user: it.user, host });
    const kicked = happens(it.client, 'kicked');
    it.program.show();
    assert.equal((await kicked).reason, 'session_over');
    assert.equal(it.client.state, 'disconnected');
  });

  test('a refused token ends the client', async () => {
    const it = await start({ host, options: { token: 'none' } });
    await assert.rejects(it.client.connect(), { code: 'invalid_token', close: 4502 });
    assert.equal(it.client.state, 'disconnected');
  });
}
