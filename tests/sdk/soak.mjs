// The soak: clients that come and go, faults, and after each round the question whether all statuses are exact and
// nothing has grown. See tests/soak.

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import WebSocket from 'ws';
import { signToken, startHub } from './hub.mjs';

const { values: options } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, clients: { type: 'string', default: '400' } },
});
const MINUTES = Number(options.minutes);
const CLIENTS = Number(options.clients);
assert.ok(MINUTES > 0 && CLIENTS >= 8, 'usage: tests/soak [--minutes N] [--clients N]');

const PROCESSES = 4;
const CHURN_MS = 20_000;
const SETTLE_MS = 90_000;
const REST_MS = 5000; // frees sockets and memory
const SECRET = 'the secret of the soak, of 32 bytes or more';
const KEY = 'an admin key for the soak';
const WEBHOOK_SECRET = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
// How much more the last third of the rounds may use than the first.
const MEMORY_GROWTH = 1.1;
const MEMORY_SLACK_BYTES = 4 * 1024 * 1024;
const FEW = 8;

const users = Array.from({ length: CLIENTS }, (_, n) => `user${n}`);
const receiver = await startReceiver();
const hub = await startHub(
  {
    'login.policy': 'multi', 'liveness.web_ping': '1s', 'liveness.web_silence': '4s', 'liveness.native_ping': '2s',
    'liveness.native_silence': '6s', 'limits.slow_consumer': '3s', 'server.drain': '2s', 'store.log_ttl': '60s',
    'webhook.url': receiver.url, 'webhook.timeout': '2s', 'log.filter': 'warn,presence_hub::app=info',
  },
  { file: `[auth]\nsecrets = ["${SECRET}"]\nadmin_keys = ["${KEY}"]\n[webhook]\nsecrets = ["${WEBHOOK_SECRET}"]\n` },
);
const workers = Array.from({ length: PROCESSES }, startWorker);
async function run() {
  const url = `${hub.origin.replace('http', 'ws')}/ws`;
  const share = Math.ceil(CLIENTS / PROCESSES);
  await Promise.all(workers.map((worker, n) => worker.ask('start', {
    url, secret: SECRET, everybody: users, users: users.slice(n * share, (n + 1) * share),
  })));
  const until = performance.now() + MINUTES * 60_000;
  const rounds = [];
  console.log('round  fault                       statuses  memory MiB  files  threads  connections');
  for (let n = 1; performance.now() < until; n++) {
    const left = (until - performance.now()) / 60_000;
    // Only in the first quarter and at the end: a new process would hide what grows.
    const mayRestart = left > MINUTES * 0.75 || left < 1;
    const next = faults[(n - 1) % faults.length];
    const played = next.restarts && !mayRestart ? storm : next;
    const round = { n, fault: played.label };
    await Promise.all(workers.map((worker) => worker.ask('live')));
    await Promise.all([sleep(CHURN_MS), sleep(CHURN_MS / 4).then(played)]);
    await Promise.all(workers.map((worker) => worker.ask('settle')));
    round.statuses = await allExact();
    await sleep(REST_MS);
    Object.assign(round, await measure(), { restarted: Boolean(played.restarts) });
    rounds.push(round);
    print(round);
  }
  report(rounds);
}

/** Waits until server API, webhooks and watchers agree on every user; returns how many statuses were compared. */
async function allExact() {
  const answers = await Promise.all(workers.map((worker) => worker.ask('look')));
  const expected = new Map(answers.flatMap(({ states }) => states));
  const late = performance.now() + SETTLE_MS;
  for (;;) {
    const statuses = await statusesNow();
    const seen = (await Promise.all(workers.map((worker) => worker.ask('look')))).flatMap((look) => look.seen);
    const wrong = [
      ...users.filter((user) => statuses.get(user).state !== expected.get(user))
        .map((user) => `${user}: ${statuses.get(user).state}, not ${expected.get(user)}`),
      ...users.filter((user) => receiver.statuses.get(user)?.version !== statuses.get(user).version)
        .map((user) => `webhook: ${user} ${receiver.statuses.get(user)?.version}, not ${statuses.get(user).version}`),
      ...seen.filter(({ user, status }) => looks(status) !== looks(statuses.get(user)))
        .map(({ by, user, status }) => `${by} sees ${user} as ${looks(status)}, not ${looks(statuses.get(user))}`),
    ];
    if (wrong.length === 0) return users.length * 2 + seen.length;
    assert.ok(performance.now() < late, `${wrong.length} statuses are wrong after ${SETTLE_MS} ms:\n${wrong.slice(0, 10).join('\n')}`);
    await sleep(500);
  }
}

/** A status without its version: watchers are not told of a change that looks the same. */
const looks = (status) => JSON.stringify(status && [status.state, status.platforms, status.custom, status.since, status.last_seen]);

async function statusesNow() {
  const found = new Map();
  for (let n = 0; n < users.length; n += 200) {
    const body = JSON.stringify({ users: users.slice(n, n + 200) });
    const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json', Connection: 'close' };
    const answer = await fetch(`${hub.origin}/v1/status`, { method: 'POST', headers, body });
    const { statuses } = await answer.json();
    for (const status of statuses) found.set(status.user, status);
  }
  return found;
}

/** What the hub's process uses. */
async function measure() {
  const process = `/proc/${hub.pid}`;
  const [, kib] = readFileSync(`${process}/status`, 'latin1').match(/^VmRSS:\s+(\d+) kB$/m);
  const answer = await fetch(`${hub.origin}/metrics`, { headers: { Authorization: `Bearer ${KEY}`, Connection: 'close' } });
  const [, connections] = (await answer.text()).match(/^presence_hub_connections (\S+)$/m);
  return {
    memory: Number(kib) * 1024, files: readdirSync(`${process}/fd`).length,
    threads: readdirSync(`${process}/task`).length, connections: Number(connections),
  };
}

function print({ n, fault, statuses, memory, files, threads, connections }) {
  const mib = (memory / 1024 ** 2).toFixed(1);
  const columns = [[n, 5], [fault, -26], [statuses, 8], [mib, 10], [files, 5], [threads, 7], [connections, 11]];
  console.log(columns.map(([value, width]) => (width < 0 ? String(value).padEnd(-width) : String(value).padStart(width))).join('  '));
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Compares the rounds after the last restart: the last third with the first. */
function report(rounds) {
  const last = rounds.slice(0, -2).findLastIndex(({ restarted }) => restarted);
  const steady = rounds.slice(last + 1).filter(({ restarted }) => !restarted);
  const third = Math.floor(steady.length / 3);
  console.log(`${MINUTES} minutes, ${rounds.length} rounds, ${CLIENTS} clients, ${receiver.events} events by webhook in ${receiver.requests} requests`);
  assert.deepEqual(receiver.disorder, [], 'webhook events out of order');
  if (third === 0) return console.log('too few rounds without a restart to tell whether something grows');
  const [first, end] = [steady.slice(0, third), steady.slice(-third)];
  const of = (name) => [first, end].map((part) => median(part.map((round) => round[name])));
  const [memory, memoryEnd] = of('memory');
  const mib = (bytes) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
  console.log(`first and last third of ${steady.length} rounds without a restart: memory ${mib(memory)}, ${mib(memoryEnd)}; ` +
    `files ${of('files').join(', ')}; threads ${of('threads').join(', ')}; connections ${of('connections').join(', ')}`);
  assert.ok(memoryEnd <= memory * MEMORY_GROWTH + MEMORY_SLACK_BYTES, 'memory grew');
  for (const name of ['files', 'threads', 'connections']) {
    const [start, now] = of(name);
    assert.ok(now <= start + FEW, `${name} grew from ${start} to ${now}`);
  }
}

// The faults of a round.

const fault = (label, act, { restarts = false } = {}) => Object.assign(act, { label, restarts });

const storm = fault('all clients reconnect', () => Promise.all(workers.map((worker) => worker.ask('storm'))));

const faults = [
  fault('the hub is killed', () => hub.restart('SIGKILL'), { restarts: true }),
  fault('clients stopped for 8 s', async () => {
    const [first, second] = workers;
    for (const worker of [first, second]) worker.signal('SIGSTOP');
    await sleep(8000);
    for (const worker of [first, second]) worker.signal('SIGCONT');
  }),
  fault('the webhook fails', () => receiver.fail('status', 6000)),
  storm,
  fault('clients that never read', slowReaders),
  fault('the hub drains, restarts', () => hub.restart('SIGTERM'), { restarts: true }),
  fault('the hub stopped for 5 s', async () => {
    process.kill(hub.pid, 'SIGSTOP');
    await sleep(5000);
    process.kill(hub.pid, 'SIGCONT');
  }),
  fault('the webhook hangs', () => receiver.fail('hang', 6000)),
  fault('broken handshakes, logins', strangers),
];

/** Clients that subscribe to everybody, and never read. */
async function slowReaders() {
  const sockets = Array.from({ length: 50 }, (_, n) => {
    const socket = new WebSocket(`${hub.origin.replace('http', 'ws')}/ws`);
    socket.on('error', () => {});
    socket.on('open', () => {
      const token = signToken(SECRET, `slow${n}`);
      socket.send(JSON.stringify({ type: 'login', id: 1, token, platform: 'linux', device: 'd1' }));
      for (let id = 2; id < 40; id++) socket.send(JSON.stringify({ type: 'query', id, users: users.slice(0, 200) }));
      socket.pause();
    });
    return socket;
  });
  await sleep(10_000);
  for (const socket of sockets) socket.terminate();
}

/** Strangers: bytes that are no handshake, and logins without a valid token. */
async function strangers() {
  for (let n = 0; n < 200; n++) {
    const socket = connect(hub.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end(n % 2 ? 'GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n' : '\x16\x03\x01\x02\x00\x01\x00');
    const bad = new WebSocket(`${hub.origin.replace('http', 'ws')}/ws`);
    bad.on('error', () => {});
    bad.on('open', () => bad.send(`{"type":"login","id":1,"token":"a.b.${n}","platform":"web","device":"d"}`));
    await sleep(50);
  }
}

// The receiver and the processes of the clients.

/** A back end that keeps the latest status of each user, and fails when told to. */
async function startReceiver() {
  let failing = null;
  const it = { statuses: new Map(), events: 0, requests: 0, disorder: [] };
  const known = new Set();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    if (failing === 'hang') return;
    if (failing) return response.writeHead(500).end();
    it.requests++;
    for (const { id, user, status } of JSON.parse(body).events) {
      it.events++;
      if (known.has(id)) continue;
      known.add(id);
      const before = it.statuses.get(user)?.version ?? 0;
      if (status.version < before) it.disorder.push(`${user}: ${status.version} after ${before}`);
      else it.statuses.set(user, status);
    }
    response.writeHead(204).end();
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  it.url = `http://127.0.0.1:${server.address().port}/`;
  it.fail = async (how, ms) => {
    failing = how;
    await sleep(ms);
    failing = null;
  };
  it.stop = () => {
    server.closeAllConnections();
    return new Promise((done) => server.close(done));
  };
  return it;
}

/** A process with clients. */
function startWorker() {
  const child = fork(fileURLToPath(new URL('soak-clients.mjs', import.meta.url)));
  const waiting = new Map();
  let last = 0;
  child.on('message', ({ id, answer, error }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`the clients ended with ${code}`));
  });
  return {
    ask: (command, how = {}) => new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      child.send({ command, id: last, ...how });
    }),
    signal: (signal) => child.kill(signal),
    end: () => child.kill('SIGKILL'),
  };
}

let failed = true;
try {
  await run();
  failed = false;
} finally {
  for (const worker of workers) worker.end();
  await hub.stop();
  await receiver.stop();
}
process.exit(failed ? 1 : 0);
