// The secret that tokens are signed with is changed while 300 clients are connected, in each order of hub and back end:
// nobody goes Offline, nobody reconnects more often than a restart of the hub makes them, nobody stays away.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { signToken, startHub } from './hub.mjs';
import { get } from './log.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');

const CLIENTS = 300;
const API_KEY = 'a key for the tests alone';
const [FIRST, SECOND, THIRD] = ['first', 'second', 'third'].map((name) => `the ${name} secret, of 32 bytes or more`);
const file = (...secrets) => `[server]\ndrain = "2s"\n[auth]\nsecrets = ${JSON.stringify(secrets)}\nadmin_keys = ["${API_KEY}"]\n`;

let hub;
let backEndsSecret = FIRST;
let cursor;
const clients = [];

before(async () => {
  hub = await startHub({}, { file: file(FIRST) });
  hub.adminKey = API_KEY;
  for (let n = 0; n < CLIENTS; n++) clients.push(newClient(`user${n}`));
  await Promise.all(clients.map(({ client }) => client.connect()));
  ({ cursor } = await get(hub, '/v1/snapshot?limit=1'));
});

after(async () => {
  await Promise.all(clients.map(({ client }) => client.destroy()));
  await hub?.stop();
});

const sign = (user) => signToken(backEndsSecret, user);

/** A client, which counts what it does. */
function newClient(user) {
  const it = { user, opened: 0, sessions: 0, askedAt: [], errors: [] };
  class Socket extends WebSocket {
    constructor(...how) {
      super(...how);
      this.on('open', () => it.opened++);
    }
  }
  it.client = new PresenceClient({
    url: `${hub.origin.replace('http', 'ws')}/ws`, device: 'd1', WebSocket: Socket,
    getToken() {
      it.askedAt.push(performance.now());
      return sign(user);
    },
  });
  it.client.on('session', () => it.sessions++);
  it.client.on('error', ({ code }) => it.errors.push(code));
  return it;
}

/** Restarts the hub; every client comes back to its session, on exactly so many connections. */
async function restart(signal, { connections }) {
  const back = clients.map((it) => {
    Object.assign(it, { opened: 0, sessions: 0, askedAt: [], errors: [] });
    return new Promise((done) => it.client.on('session', done));
  });
  await hub.restart(signal);
  const answers = await Promise.all(back);
  assert.ok(answers.every(({ resumed }) => resumed), 'all resumed');
  await everybodyIsThere();
  assert.deepEqual(clients.map(({ opened, sessions }) => [opened, sessions]), clients.map(() => [connections, 1]));
}

/** Everybody answers, and since the last time nothing happened that a watcher, a query or a webhook could see. */
async function everybodyIsThere() {
  assert.ok(clients.every(({ client }) => client.state === 'connected'));
  await Promise.all(clients.map(({ client, user }) => client.query(user)));
  const { events } = await get(hub, `/v1/events?after=${encodeURIComponent(cursor)}`);
  assert.deepEqual(events, []);
  const { statuses } = await get(hub, `/v1/snapshot?limit=${CLIENTS}`);
  assert.equal(statuses.filter(({ state }) => state === 'Online').length, CLIENTS);
}

const asked = () => clients.reduce((sum, { askedAt }) => sum + askedAt.length, 0);
const renewAll = () => Promise.all(clients.map(({ client, user }) => client.refresh(sign(user))));

test('hub first: it accepts both secrets, the back end switches, the old one is removed', async () => {
  await hub.reload(file(SECOND, FIRST));
  await restart('SIGTERM', { connections: 1 });
  backEndsSecret = SECOND;
  await restart('SIGKILL', { connections: 1 });
  assert.equal(asked(), 0, 'tokens of the old secret still hold');
  await renewAll();
  await hub.reload(file(SECOND));
  await everybodyIsThere();
  await restart('SIGTERM', { connections: 1 });
  assert.equal(asked(), 0);
});

test('back end first: connected clients stay, also over a restart of the hub; others log in once the hub has the secret', async () => {
  backEndsSecret = THIRD;
  const newcomer = newClient('newcomer');
  await assert.rejects(newcomer.client.connect(), { code: 'invalid_token', close: 4502 });
  await assert.rejects(clients[0].client.refresh(sign(clients[0].user)), { code: 'invalid_token' });
  await restart('SIGTERM', { connections: 1 });
  assert.equal(asked(), 0);
  await hub.reload(file(THIRD, SECOND));
  await renewAll();
  await hub.reload(file(THIRD));
  await restart('SIGKILL', { connections: 1 });
});

test('no overlap: each refused client fetches one new token, spread over time, and resumes', async () => {
  for (const [signal, secret] of [['SIGTERM', FIRST], ['SIGKILL', SECOND]]) {
    backEndsSecret = secret;
    await hub.reload(file(secret));
    await everybodyIsThere();
    await restart(signal, { connections: 2 });
    assert.deepEqual(clients.map(({ errors, askedAt }) => [errors.filter((code) => code !== 'unreachable'), askedAt.length]), clients.map(() => [['invalid_token'], 1]));
    const times = clients.map(({ askedAt: [at] }) => at).sort((a, b) => a - b);
    assert.ok(times.at(-1) - times[0] > 500, `all asked within ${times.at(-1) - times[0]} ms`);
  }
});
