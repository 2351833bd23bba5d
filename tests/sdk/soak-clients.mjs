// Clients of the soak, in a process of their own that can be stopped and continued: the SDK, and a random user behind
// each client. The parent sends commands; each is answered by a message.

import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { signToken } from './hub.mjs';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');

const PLATFORMS = ['android', 'ios', 'ipad', 'windows', 'mac', 'linux', 'web', 'miniprogram'];
const MOBILE = ['android', 'ios', 'ipad'];
const WATCHED = 10;
const PAUSE_MS = 6000; // the mean time between two actions of one user
const AT_ONCE = 20;
const SOON_MS = 5000;

const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** @type {{ url: string, secret: string, users: string[], everybody: string[] }} */
let setup;
let living = false;
let clients = [];

const soon = (promise) => Promise.race([promise, sleep(SOON_MS)]);

/** A user with one device. */
class User {
  #sockets = new Set();
  constructor(name, n) {
    this.name = name;
    this.platform = PLATFORMS[n % PLATFORMS.length];
    this.watched = Array.from({ length: WATCHED }, () => pick(setup.everybody));
  }

  /** Starts the app: a client that logs in, and reconnects by itself. */
  start() {
    const sockets = this.#sockets;
    class Socket extends WebSocket {
      constructor(...how) {
        super(...how);
        sockets.add(this);
        this.on('close', () => sockets.delete(this));
      }
    }
    this.client = new PresenceClient({
      url: setup.url, platform: this.platform, device: 'd1', WebSocket: Socket, getToken: () => signToken(setup.secret, this.name),
    });
    this.client.on('error', () => {});
    this.client.subscribe(this.watched, () => {});
    return this.logIn();
  }

  async logIn() {
    await this.client?.connect({ force: true }).catch(() => {});
  }

  /** The network is lost without a close. */
  cut() {
    for (const socket of this.#sockets) socket.terminate();
  }

  /** Closes the app without a logout: the SDK tells the hub nothing once its socket is gone. */
  async quit() {
    const { client } = this;
    this.client = null;
    if (this.#sockets.size > 0) {
      const cut = new Promise((done) => client.on('state', done));
      this.cut();
      await soon(cut);
    }
    await soon(client?.destroy());
  }

  /** Logs out, which ends the subscriptions, too. */
  async logOut() {
    const { client } = this;
    this.client = null;
    await soon(client.logout());
  }

  async act() {
    if (!this.client) return this.start();
    const chance = Math.random();
    if (this.client.state !== 'connected') return chance < 0.5 ? this.logIn() : null;
    if (chance < 0.6) return this.client.setStatus(`busy ${Math.floor(chance * 1e6)}`);
    if (chance < 0.75) return this.cut();
    if (chance < 0.85) return this.logOut();
    if (chance < 0.95) return this.quit();
    return this.client.query(this.watched);
  }

  async live() {
    while (living) {
      await sleep(Math.random() * 2 * PAUSE_MS);
      // While the hub is down, actions fail, or are answered when it is back.
      if (living) await soon(this.act().catch(() => {}));
    }
  }

  /** Ends the round in a state that the hub must show. */
  async settle(n) {
    const end = ['on', 'on', 'out', 'gone'][Math.floor(n / PLATFORMS.length) % 4];
    while (!this.client || this.client.state !== 'connected') {
      await this.quit();
      await soon(this.start());
    }
    if (end === 'out') await this.logOut();
    if (end === 'gone') await this.quit();
    const left = end === 'gone' && MOBILE.includes(this.platform) ? 'PushOnline' : 'Offline';
    this.expected = end === 'on' ? 'Online' : left;
  }

  /** What a connected user sees of each watched user. */
  sees() {
    if (this.expected !== 'Online') return [];
    return this.watched.map((user) => ({ by: this.name, user, status: this.client.get(user) }));
  }
}

/** Does this for all clients, a few at once. */
async function forAll(action) {
  const left = clients.map((client, n) => [client, n]);
  const worker = async () => {
    for (let next = left.pop(); next; next = left.pop()) await action(...next);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const commands = {
  async start(how) {
    setup = how;
    clients = setup.users.map((name, n) => new User(name, n));
    await forAll((client) => client.start());
  },
  async live() {
    living = true;
    for (const client of clients) client.life = client.live();
  },
  async storm() {
    for (const client of clients) client.cut();
  },
  async settle() {
    living = false;
    await Promise.all(clients.map(({ life }) => life));
    await forAll((client, n) => client.settle(n));
  },
  async look() {
    return { states: clients.map(({ name, expected }) => [name, expected]), seen: clients.flatMap((client) => client.sees()) };
  },
};

process.on('message', async ({ command, id, ...how }) => {
  try {
    process.send({ id, answer: (await commands[command](how)) ?? null });
  } catch (error) {
    process.send({ id, error: error.stack });
  }
});
process.on('disconnect', () => process.exit());
