// A fake WebSocket, window and storage for the SDK's unit tests: the test plays the hub.

import { createRequire } from 'node:module';
import { setImmediate } from 'node:timers/promises';
import { mock } from 'node:test';

const { PresenceClient } = createRequire(import.meta.url)('../../static/presence.js');

/** Runs all pending promise callbacks; no time passes. */
export const settle = () => setImmediate();

export class FakeStorage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, String(value));
  removeItem = (key) => void this.items.delete(key);
}

export class FakeWindow extends EventTarget {
  sessionStorage = new FakeStorage();
  localStorage = new FakeStorage();
  document = { visibilityState: 'visible' };
  fire(type, more = {}) {
    this.dispatchEvent(Object.assign(new Event(type), more));
  }
}

/** A place for clients: their sockets in the order made, and what is kept over "reloads". */
export class World {
  sockets = [];
  window = new FakeWindow();

  client(options = {}) {
    const { sockets } = this;
    class Socket {
      sent = [];
      closed = false;
      constructor(url, protocol) {
        Object.assign(this, { url, protocol });
        sockets.push(this);
      }
      send(text) {
        this.sent.push(JSON.parse(text));
      }
      close() {
        this.closed = true;
      }
    }
    return new PresenceClient({ url: 'ws://hub/ws', token: 'T', WebSocket: Socket, adapter: this.window, ...options });
  }

  get last() {
    return this.sockets.at(-1);
  }

  /** Opens the newest socket; answers with its login message. */
  async open() {
    await settle();
    this.last.onopen();
    await settle();
    return this.last.sent[0];
  }

  async login(session = 's1', more = {}) {
    const { id } = await this.open();
    await this.reply(id, {
      user: 'me', session, resumed: false, now: 0, ping_ms: 20000, silence_ms: 60000, expires_at: 1e12, kicked: [],
      status: status('me', 1), ...more,
    });
  }

  async push(message, socket = this.last) {
    socket.onmessage({ data: JSON.stringify(message) });
    await settle();
  }

  reply = (id, ok) => this.push({ type: 'reply', id, ok });
  refuse = (id, code, more = {}) => this.push({ type: 'reply', id, error: { code, message: code, ...more } });

  async close(code, socket = this.last) {
    socket.onclose({ code, reason: '' });
    await settle();
  }

  /** The newest message of this type. */
  sent(type, socket = this.last) {
    return socket.sent.findLast((message) => message.type === type);
  }
}

export const status = (user, version, state = 'Online') => ({
  user, state, version, platforms: [], custom: null, since: null, last_seen: null, away: false,
});

/** All events of a client, as they come. */
export function record(client) {
  const events = [];
  for (const name of ['state', 'session', 'status', 'kicked', 'superseded', 'tokenExpiring', 'error']) {
    client.on(name, (value) => events.push([name, value]));
  }
  events.names = () => events.map(([name]) => name);
  events.of = (wanted) => events.filter(([name]) => name === wanted).map(([, value]) => value);
  return events;
}

export const time = mock.timers;
