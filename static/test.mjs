// A hub in memory, for the unit tests of apps. See README.md and test.d.mts.

import { PresenceClient } from './presence.mjs';

/** @import { TestRequest } from './test.mjs' */
/** @import { Session, Status, Terminal } from './presence' */
/** @typedef {Omit<Terminal, 'current'> & { activity: 'active' | 'idle', active_at: number }} Login */
/**
 * `since`: the last change of who sees the user.
 *
 * @typedef {{
 *   status: Status & { away: boolean }, hidden: boolean, blocked: Set<string>, since: number, list: string[],
 *   logins: Map<string, Login>
 * }} User
 */

/** The close codes of refused logins that differ from 4502. @type {Record<string, number>} */
const CLOSE_CODES = { token_expired: 4001, rate_limited: 4004, unavailable: 4006, kicked: 4501, superseded: 4503, login_conflict: 4505 };
/** Clients of a test need not be patient. */
const OPTIONS = { minDelay: 1, maxDelay: 10, staleAfter: 1 };
/** @type {Pick<User['status'], 'state' | 'platforms' | 'custom' | 'away'>} */
const OFFLINE = { state: 'Offline', platforms: [], custom: null, away: false };
const DAY_MS = 86_400_000;

/** @param {string} code @param {object} [more] */
const refusal = (code, more) => ({ code, message: code, ...more });

/**
 * Of a device that was not touched for so long; null: it is in use.
 *
 * @param {number | null} idle_ms
 * @returns {Pick<Login, 'activity' | 'active_at'>}
 */
const activityOf = (idle_ms) => ({ activity: idle_ms == null ? 'active' : 'idle', active_at: Date.now() - (idle_ms ?? 0) });

/** One connection, as the client's WebSocket. */
class Connection {
  /** @type {string[]} */
  unread = [];
  isOpen = true;
  session = '';
  /** @type {Set<string>} */
  watched = new Set();
  listing = false;
  /** The last status that was told of each user. @type {Map<string, string>} */
  told = new Map();
  onopen = () => {};
  onmessage = (/** @type {{ data: string }} */ _) => {};
  onclose = (/** @type {{ code: number, reason: string }} */ _) => {};

  /** @param {string} user @param {(connection: Connection, text: string) => void} answer */
  constructor(user, answer) {
    this.user = user;
    this.send = (/** @type {string} */ text) => answer(this, text);
  }

  /** Sends after what is unread: a reply in a later microtask, as a client expects; a push at once. @param {object} message */
  reply(message) {
    this.unread.push(JSON.stringify(message));
    queueMicrotask(() => this.flush());
  }

  /** @param {object} message */
  push(message) {
    this.unread.push(JSON.stringify(message));
    this.flush();
  }

  flush() {
    for (const data of this.unread.splice(0)) if (this.isOpen) this.onmessage({ data });
  }

  close(code = 1000, reason = '') {
    if (!this.isOpen) return;
    this.flush();
    this.isOpen = false;
    queueMicrotask(() => this.onclose({ code, reason }));
  }
}

export class TestHub {
  /** @type {TestRequest[]} */
  requests = [];
  /** @type {Map<string, User>} */
  #users = new Map();
  /** @type {Set<Connection>} */
  #connections = new Set();
  /** @type {PresenceClient[]} */
  #clients = [];
  /** @type {Map<string, string>} */
  #ended = new Map();
  /** @type {{ type: string, code: string }[]} */
  #refusals = [];
  #isReachable = true;
  #made = 0;

  /** @type {import('./test.mjs').TestHub['client']} */
  client(user = 'me', options = {}) {
    const hub = this;
    /** @type {any} */
    const Socket = function () {
      return hub.#connect(user);
    };
    const storage = new Map();
    /** @type {import('./presence').StorageLike} */
    const sessionStorage = { getItem: (key) => storage.get(key) ?? null, setItem: (key, value) => storage.set(key, value) };
    const adapter = { WebSocket: Socket, sessionStorage };
    const client = new PresenceClient({ url: 'ws://test/ws', token: 'test', device: `test-${++this.#made}`, adapter, ...OPTIONS, ...options });
    this.#clients.push(client);
    return client;
  }

  /** @type {import('./test.mjs').TestHub['get']} */
  get(user) {
    return { ...this.#user(user).status };
  }

  /** @type {import('./test.mjs').TestHub['set']} */
  set(user, change) {
    const it = this.#user(user);
    const last = it.status;
    const next = { ...last, ...(typeof change === 'string' ? { state: change } : change) };
    const isOnline = next.state === 'Online';
    if (!isOnline) Object.assign(next, { platforms: [], away: false });
    else if (!next.platforms.length) next.platforms = ['web'];
    if (next.state === 'Offline') next.custom = null;
    if (next.state !== last.state) Object.assign(next, { since: Date.now(), last_seen: isOnline ? null : last.state === 'Online' ? Date.now() : last.last_seen });
    it.status = { ...next, user, version: ++this.#made };
    this.#tell(user);
    return this.get(user);
  }

  /** @type {import('./test.mjs').TestHub['watchList']} */
  watchList(user, users) {
    const it = this.#user(user);
    const list = [...new Set(users)].filter((one) => one !== user);
    const added = list.filter((one) => !it.list.includes(one)).map((one) => this.#seenBy(user, one));
    const removed = it.list.filter((one) => !list.includes(one));
    it.list = list;
    for (const connection of this.#of(user)) if (connection.listing && added.length + removed.length) connection.push({ type: 'watch_list', added, removed });
  }

  /** @type {import('./test.mjs').TestHub['kick']} */
  kick(user, { reason = 'login_elsewhere', by = reason === 'admin' ? null : { platform: 'ios', device: 'phone' }, message } = {}) {
    for (const connection of this.#of(user)) {
      connection.push({ type: 'kicked', reason, by, at: Date.now(), ...(message && { message }) });
      this.#end(connection, 'kicked');
    }
  }

  /** @type {import('./test.mjs').TestHub['supersede']} */
  supersede(user) {
    for (const connection of this.#of(user)) this.#end(connection, 'superseded');
  }

  /** @type {import('./test.mjs').TestHub['unwatch']} */
  unwatch(user, users) {
    for (const connection of this.#of(user)) {
      const ended = users.filter((one) => connection.watched.delete(one));
      if (ended.length) connection.push({ type: 'unwatched', users: ended });
    }
  }

  /** @type {import('./test.mjs').TestHub['expireToken']} */
  expireToken(user) {
    for (const connection of this.#of(user)) connection.push({ type: 'token_expiring', expires_at: Date.now() + 60_000 });
  }

  /** @type {import('./test.mjs').TestHub['disconnect']} */
  disconnect() {
    this.#isReachable = false;
    for (const connection of this.#connections) this.#drop(connection, 1006);
  }

  /** @type {import('./test.mjs').TestHub['reconnect']} */
  reconnect() {
    this.#isReachable = true;
  }

  /** @type {import('./test.mjs').TestHub['refuse']} */
  refuse(type, code) {
    this.#refusals.push({ type, code });
  }

  /** @type {import('./test.mjs').TestHub['close']} */
  async close() {
    await Promise.all(this.#clients.splice(0).map((client) => client.logout()));
  }

  /** @param {string} user @returns {User} */
  #user(user) {
    const status = { user, ...OFFLINE, since: null, last_seen: null, version: 0 };
    const it = this.#users.get(user) ?? { status, hidden: false, since: 0, blocked: new Set(), list: [], logins: new Map() };
    this.#users.set(user, it);
    return it;
  }

  /** The connections on which this user is logged in. @param {string} user */
  #of(user) {
    return [...this.#connections].filter((connection) => connection.session && connection.user === user);
  }

  /** What a viewer sees of a user. @param {string} viewer @param {string} user @returns {Status} */
  #seenBy(viewer, user) {
    const { status, hidden, blocked, since } = this.#user(user);
    if (viewer === user) return hidden ? { ...status, hidden } : status;
    if (!hidden && !blocked.has(viewer)) return status;
    return { ...status, ...OFFLINE, since, last_seen: since };
  }

  /** Tells a user's status to all who watch them, where it is news. @param {string} user */
  #tell(user) {
    for (const connection of this.#connections) {
      const { watched, listing, told } = connection;
      if (!watched.has(user) && !(listing && this.#user(connection.user).list.includes(user))) continue;
      const status = this.#seenBy(connection.user, user);
      const { version, ...seen } = status;
      const text = JSON.stringify(seen);
      if (told.get(user) === text) continue;
      told.set(user, text);
      connection.push({ type: 'status', ...status });
    }
  }

  /** @param {string} user */
  #connect(user) {
    const connection = new Connection(user, (it, text) => this.#receive(it, JSON.parse(text)));
    this.#connections.add(connection);
    queueMicrotask(() => (this.#isReachable ? connection.onopen() : this.#drop(connection, 1006)));
    return connection;
  }

  /** @param {Connection} connection @param {number} code @param {string} [reason] */
  #drop(connection, code, reason) {
    this.#connections.delete(connection);
    connection.close(code, reason);
  }

  /** Ends a session by the hub. @param {Connection} connection @param {'kicked' | 'superseded'} reason */
  #end(connection, reason) {
    this.#ended.set(connection.session, reason);
    this.#drop(connection, CLOSE_CODES[reason], reason);
    this.#leave(connection);
  }

  /** @param {Connection} connection */
  #leave({ user, session }) {
    if (this.#user(user).logins.delete(session)) this.#loginsChanged(user);
  }

  /** @param {string} user */
  #loginsChanged(user) {
    const logins = [...this.#user(user).logins.values()];
    const platforms = [...new Set(logins.map(({ platform }) => platform))].sort();
    this.set(user, { state: logins.length ? 'Online' : 'Offline', platforms, away: logins.length > 0 && logins.every(({ activity }) => activity === 'idle') });
  }

  /** @param {Connection} connection @param {any} request */
  #receive(connection, { type, id, ...fields }) {
    if (!connection.isOpen) return;
    this.requests.push({ user: connection.user, type, ...fields });
    const at = this.#refusals.findIndex((it) => it.type === type);
    const [refused] = at < 0 ? [] : this.#refusals.splice(at, 1);
    const { ok, error } = refused ? { ok: null, error: refusal(refused.code) } : this.#answer(connection, type, fields);
    connection.reply(error ? { type: 'reply', id, error } : { type: 'reply', id, ok });
    if (error && type === 'login') this.#drop(connection, CLOSE_CODES[error.code] ?? 4502, error.code);
    if (ok && type === 'logout') this.#drop(connection, 1000);
  }

  /** @param {Connection} connection @param {string} type @param {any} fields @returns {{ ok?: any, error?: any }} */
  #answer(connection, type, fields) {
    const { user, session, watched } = connection;
    const it = this.#user(user);
    const login = it.logins.get(session);
    /** @param {string[]} users */
    const statuses = (users) => ({ statuses: users.map((one) => this.#seenBy(user, one)), errors: [] });
    if (type === 'login') return this.#login(connection, fields);
    if (!login) return { error: refusal('not_logged_in') };
    if (fields.users?.length === 0) return { error: refusal('bad_request') };
    switch (type) {
      case 'subscribe': {
        if (fields.watch_list) {
          connection.listing = true;
          const seen = it.list.map((one) => this.#seenBy(user, one)).filter(({ state }) => state !== 'Offline');
          return { ok: { statuses: seen, count: it.list.length, next: null } };
        }
        for (const one of fields.users) watched.add(one);
        return { ok: statuses(fields.users) };
      }
      case 'unsubscribe':
        if (fields.all) connection.listing = false;
        for (const one of fields.all ? [...watched] : fields.users) watched.delete(one);
        return { ok: { count: watched.size } };
      case 'query':
        return { ok: statuses(fields.users) };
      case 'set':
        if (fields.hidden !== undefined) Object.assign(it, { hidden: fields.hidden, since: Date.now() });
        this.set(user, 'custom' in fields ? { custom: fields.custom } : {});
        return { ok: { status: this.#seenBy(user, user) } };
      case 'block':
      case 'unblock':
        it.since = Date.now();
        for (const one of fields.users) if (one !== user) it.blocked[type === 'block' ? 'add' : 'delete'](one);
        this.set(user, {});
        return { ok: { count: it.blocked.size } };
      case 'blocked':
        return { ok: { users: [...it.blocked].sort() } };
      case 'sessions':
        return { ok: { sessions: [...it.logins.values()].map((own) => ({ ...own, current: own.session === session })) } };
      case 'kick':
        for (const other of this.#of(user).filter((one) => one.session === fields.session && one !== connection)) {
          const { platform, device } = login;
          other.push({ type: 'kicked', reason: 'own_request', by: { platform, device }, at: Date.now() });
          this.#end(other, 'kicked');
        }
        return { ok: {} };
      case 'idle':
      case 'active':
        Object.assign(login, activityOf(type === 'idle' ? fields.for_ms : null));
        this.#loginsChanged(user);
        return { ok: {} };
      case 'background':
      case 'foreground':
        if (login.platform !== 'web') {
          Object.assign(login, activityOf(type === 'background' ? 0 : null));
          this.#loginsChanged(user);
        }
        if (type === 'foreground') return { ok: {} };
        return { ok: { deadline: login.platform === 'miniprogram' ? Date.now() + 30_000 : null } };
      case 'refresh':
        return { ok: { expires_at: Date.now() + DAY_MS } };
      case 'ping':
        return { ok: { now: Date.now() } };
      case 'logout':
        this.#leave(connection);
        return { ok: {} };
      default:
        return { error: refusal('unknown_type') };
    }
  }

  /** @param {Connection} connection @param {any} fields @returns {{ ok?: Session, error?: any }} */
  #login(connection, { platform, device, app = null, resume, idle_ms }) {
    const { user } = connection;
    const it = this.#user(user);
    const ended = this.#ended.get(resume);
    if (ended) return { error: refusal(ended) };
    const resumed = it.logins.has(resume);
    if (resumed) {
      for (const other of this.#of(user)) if (other.session === resume) this.#drop(other, 4007, 'moved');
    }
    const session = resumed ? resume : `session${++this.#made}`;
    connection.session = session;
    const isIdle = resume != null && idle_ms != null;
    const now = Date.now();
    /** @type {Login} */
    const login = it.logins.get(session) ?? { session, platform, device, app, state: 'Online', since: now, ...activityOf(null) };
    if (isIdle) Object.assign(login, activityOf(idle_ms));
    it.logins.set(session, login);
    if (!resumed || isIdle) this.#loginsChanged(user);
    return { ok: { user, session, resumed, now, ping_ms: 20_000, silence_ms: 60_000, expires_at: now + DAY_MS, kicked: [], status: this.#seenBy(user, user) } };
  }
}
