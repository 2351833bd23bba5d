// A thousand SDK clients in one process, of which each watches the next: node clients.mjs URL LOCAL_ADDRESS
//
// The secret of their tokens is in SECRET. Prints "ready" when all are connected and each has seen the next one. Then
// each line on standard input is answered with one line of JSON: what has happened since the start.

import { createHmac } from 'node:crypto';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');

const CLIENTS = 1000;
const AT_ONCE = 50; // how many logins are under way together
const [url, localAddress] = process.argv.slice(2);
const clients = [];

function token(user) {
  const seconds = Math.floor(Date.now() / 1000);
  const parts = [{ alg: 'HS256' }, { sub: user, iat: seconds, exp: seconds + 3600 }];
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${signed}.${createHmac('sha256', process.env.SECRET).update(signed).digest('base64url')}`;
}

/** Connects one client, which comes from an address of its own, as through a proxy with TLS. */
async function start(n) {
  const it = { seen: [], logins: 0, resumes: 0, errors: [], open: false };
  class Socket extends WebSocket {
    constructor(to, protocols) {
      const headers = { 'X-Forwarded-For': `198.18.${n >> 8}.${n & 255}`, 'X-Forwarded-Proto': 'https' };
      super(to, protocols, { headers, localAddress });
      this.on('close', () => {
        it.open = false;
      });
    }
  }
  it.client = new PresenceClient({ url, token: token(`user${n}`), device: 'd1', WebSocket: Socket });
  it.client.on('session', ({ resumed }) => {
    it.open = true;
    it[resumed ? 'resumes' : 'logins']++;
  });
  it.client.on('error', ({ code }) => it.errors.push(code));
  const sees = new Promise((done) => {
    it.client.subscribe(`user${(n + 1) % CLIENTS}`, ({ state }) => {
      it.seen.push(state);
      if (state === 'Online') done();
    });
  });
  clients.push({ it, sees });
  await it.client.connect();
}

const left = Array.from({ length: CLIENTS }, (_, n) => n);
const worker = async () => {
  for (let n = left.pop(); n !== undefined; n = left.pop()) await start(n);
};
await Promise.all(Array.from({ length: AT_ONCE }, worker));
await Promise.all(clients.map(({ sees }) => sees));
for (const { it } of clients) it.seen.length = 0;
console.log('ready');

const sum = (key) => clients.reduce((total, { it }) => total + it[key], 0);
for await (const _ of createInterface({ input: process.stdin })) {
  const seen = clients.flatMap(({ it }) => it.seen);
  const never = clients.filter(({ it }) => it.resumes === 0).length;
  const errors = clients.flatMap(({ it }) => it.errors);
  console.log(JSON.stringify({ clients: CLIENTS, open: sum('open'), logins: sum('logins'), resumes: sum('resumes'), never, seen, errors }));
}
process.exit();
