// A thousand clients and one hub, which is restarted: all come back, nobody is missed, and not all at once.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { startHub, token } from './hub.mjs';
import { get } from './log.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');

const CLIENTS = 1000;
const AT_ONCE = 50; // how many tokens or logins are under way together
const DRAIN_MS = 3000;
const MIN_DELAY_MS = 500;
// One sample in a million is further off its distribution by chance (Kolmogorov and Smirnov).
const FURTHEST = Math.sqrt(Math.log(2e6) / (2 * CLIENTS));

// How long the timer was set to whose end led to what runs now: how late a busy machine lets it end is not the SDK's.
const waited = new AsyncLocalStorage();
const { setTimeout } = globalThis;
globalThis.setTimeout = (callback, ms, ...rest) => setTimeout((...args) => waited.run(ms, callback, ...args), ms, ...rest);

let hub;
const clients = [];

before(async () => {
  hub = await startHub({ 'server.drain': `${DRAIN_MS}ms` });
  const tokens = await together((n) => token(hub, `user${n}`));
  await together((n) => start(n, tokens[n]));
  await Promise.all(clients.map(({ sees }) => sees));
});

after(async () => {
  await Promise.all(clients.map(({ client }) => client.destroy()));
  await hub?.stop();
});

test('SIGTERM: each client reconnects when the hub told it to, spread over the drain', async () => {
  await everybodyBack('SIGTERM');
  assert.deepEqual(clients.map(({ waits }) => waits[0]), clients.map(({ comeBackMs }) => comeBackMs));
  isUniform(clients.map(({ comeBackMs }) => comeBackMs), 0, DRAIN_MS);
});

test('SIGKILL: each client retries after 0.5 s plus a random time that doubles', async () => {
  await everybodyBack('SIGKILL', async () => {
    await Promise.all(clients.map(async (it) => {
      while (it.ends < 3) await once(it.ended, 'again');
    }));
  });
  for (const n of [0, 1, 2]) isUniform(clients.map(({ waits }) => waits[n]), MIN_DELAY_MS, MIN_DELAY_MS * (1 + 2 ** n));
});

/** Restarts the hub; every client must come back as who it was, and nobody may have been missed. */
async function everybodyBack(signal, meanwhile) {
  const { cursor } = await get(hub, '/v1/snapshot?limit=1');
  const back = clients.map((it) => {
    Object.assign(it, { waits: [], seen: [], ends: 0, comeBackMs: null });
    return new Promise((done) => it.client.on('session', done));
  });
  await hub.restart(signal, meanwhile);
  const answers = await Promise.all(back);
  assert.ok(answers.every(({ resumed }) => resumed));
  assert.deepEqual(answers.map(({ session }) => session), clients.map(({ session }) => session));

  const { events } = await get(hub, `/v1/events?after=${encodeURIComponent(cursor)}`);
  assert.deepEqual(events, []);
  const { statuses } = await get(hub, `/v1/snapshot?limit=${CLIENTS}`);
  assert.equal(statuses.filter(({ state }) => state === 'Online').length, CLIENTS);
  assert.deepEqual(clients.flatMap(({ seen }) => seen), []);
}

/** Whether these times are spread evenly from `least` to `most`, but for chance. */
function isUniform(times, least, most) {
  times.toSorted((a, b) => a - b).forEach((time, n) => {
    assert.ok(time >= least && time <= most, `${time} ms`);
    const share = (time - least) / (most - least);
    const off = Math.max((n + 1) / times.length - share, share - n / times.length);
    assert.ok(off < FURTHEST, `${n} of ${times.length} wait less than ${time} ms, of ${least} to ${most}`);
  });
}

/** A client that watches the next one, and notes how long it waits before each time that it dials again. */
async function start(n, token) {
  const it = { seen: [], waits: [], ended: new EventEmitter(), ends: 0, comeBackMs: null };
  class Socket extends WebSocket {
    constructor(...how) {
      super(...how);
      it.waits.push(waited.getStore());
      this.on('message', (data) => {
        const { type, reconnect_ms: comeBackMs } = JSON.parse(data);
        if (type === 'closing') it.comeBackMs = comeBackMs;
      });
      this.on('close', () => {
        it.ends++;
        it.ended.emit('again');
      });
    }
  }
  it.client = new PresenceClient({ url: `${hub.origin.replace('http', 'ws')}/ws`, token, device: 'd1', WebSocket: Socket });
  clients.push(it);
  it.sees = new Promise((done) => {
    it.client.subscribe(`user${(n + 1) % CLIENTS}`, ({ state }) => {
      it.seen.push(state);
      if (state === 'Online') done();
    });
  });
  it.session = (await it.client.connect()).session;
}

/** What this answers for each client, not for all at once. */
async function together(action) {
  const answers = [];
  const left = Array.from({ length: CLIENTS }, (_, n) => n);
  const worker = async () => {
    for (let n = left.pop(); n !== undefined; n = left.pop()) answers[n] = await action(n);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return answers;
}
