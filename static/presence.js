// Documented by README.md, presence.d.ts and presence.internals.d.ts.
'use strict';

/** @import * as In from './presence.internals' */
{
/** @type {any} */
const root = typeof globalThis === 'object' ? globalThis : typeof window === 'object' ? window : {};
const TIMES = { minDelay: 500, maxDelay: 20000, timeout: 10000, probeTimeout: 5000, heartbeat: 20000, staleAfter: 5000 };
/** @type {Record<string, number>} */
const CODES = { token_expired: 4001, rate_limited: 4004, unavailable: 4006, kicked: 4501, superseded: 4503, login_conflict: 4505 };
const pageMemory = {};

class PresenceError extends Error {
  /** @param {string} code @param {any} [evidence] */
  constructor(code, evidence) {
    const it = typeof evidence === 'string' ? { message: evidence } : Object(evidence);
    const message = it.message || it.errMsg || code;
    super(message);
    Object.assign(this, it, { name: 'PresenceError', message });
    this.code = code;
  }
}

class PresenceClient {
  /** @param {In.Options} options */
  constructor(options) {
    /** @type {any} */
    const given = Object.assign({}, TIMES);
    for (const [name, value] of Object.entries(Object.assign({ url: null }, options))) {
      check('option name', oneOf([...Object.keys(RULES), ...Object.keys(TIMES)].join('|')), name);
      if (value != null || name === 'url') given[name] = check(`option ${name}`, RULES[name] || [/^number [1-9]\d{0,7}\b/, 'milliseconds, 1 to 99999999'], value);
    }
    const mini = typeof wx === 'object' ? wx : typeof my === 'object' ? my : typeof tt === 'object' ? tt : root;
    const place = given.adapter || (root.document ? root : mini);
    const Socket = given.WebSocket || place.WebSocket;
    if (given.adapter) check('option WebSocket, or adapter.connectSocket,', [/^function/, 'a function'], place.connectSocket || Socket);
    const host = place.connectSocket ? miniProgram(place) : page(place, Socket);
    const platform = given.platform || host.platform;
    const device = given.device || deviceId(keeper(host.local, pageMemory));
    /** @type {In.Fields} */
    const fields = {
      state: 'disconnected',
      platform,
      device,
      user: null,
      session: null,
      stale: false,
      _options: given,
      _host: host,
      _kept: keeper(host.tab, {}),
      _key: ['presence-hub', given.url, given.user, platform, device].join(' '),
      _token: given.token,
      _listeners: new Map(),
      _watched: new Map(),
      _known: new Map(),
      _told: new Set(),
      _pending: new Map(),
      _lastId: 0,
      _attempts: 0,
      _generation: 0,
      _life: 0,
    };
    Object.assign(this, fields);
  }
}

/** @type {In.Implementation} */
const methods = {
  connect(how) {
    const { kicked } = this._recall();
    if (kicked && !Object(how).force) {
      this._emit('kicked', kicked);
      return settled(Promise.reject(new PresenceError('kicked', kicked)));
    }
    this._hidden = null;
    if (this.state === 'disconnected') {
      if (kicked) this._keep({});
      if (this._options.getToken) this._token = null;
      if (!this._ticks) this._listen(true);
      this._asked = true;
      this._attempts = 0;
      this._patient = false;
      this._open();
    } else if (this._resting) {
      this._open();
    }
    return this._ready();
  },

  loginHere() {
    if (this.state === 'disconnected') this._keep({});
    return this.connect({ force: true });
  },

  logout() {
    const closed = deferred(this._options.probeTimeout);
    Promise.resolve(this._link && this._gone).then(closed.resolve);
    if (this._pending.size || this.state === 'connected') this._send({ type: 'logout', id: ++this._lastId });
    this._life++;
    this._watched.clear();
    this._known.clear();
    this._keep({ kicked: this._recall().kicked });
    this._stop(new PresenceError('logged_out'));
    return closed.promise.catch(() => {});
  },

  destroy() {
    return this.logout();
  },

  subscribe(users, callback) {
    check('callback', [/^function/, 'a function'], callback);
    const subscription = { callback };
    const all = list(users);
    const known = all.filter((user) => this.get(user));
    for (const user of all) this._watched.set(user, new Set(this._watched.get(user)).add(subscription));
    this._sync();
    Promise.resolve().then(() => known.forEach((user) => this._show(user, [subscription])));
    return () => {
      for (const user of all) (this._watched.get(user) || new Set()).delete(subscription);
      this._sync();
    };
  },

  get(user) {
    return Object(this._known.get(user)).status || null;
  },

  query(users) {
    return attempt(() => Promise.all(batches(list(users)).map((batch) => this._request('query', { users: batch })))).then((answers) => ({
      statuses: [].concat(...answers.map((ok) => ok.statuses)),
      errors: [].concat(...answers.map((ok) => ok.errors || [])),
    }));
  },

  setStatus(custom) {
    return attempt(() => this._request('set', { custom: custom && check('custom', RULES.app, custom) })).then((ok) => ok.status);
  },

  sessions() {
    return this._request('sessions').then((ok) => ok.sessions);
  },

  kick(session) {
    return this._request('kick', { session });
  },

  background(reason = 'hide') {
    this._hidden = reason;
    return settled(this._request('background', { reason }).then((ok) => ok.deadline));
  },

  foreground() {
    this._hidden = null;
    if (this._resting) this._open();
    else this._probe();
    return this._ticks && this.state !== 'connected' ? this._ready() : settled(this._request('foreground'));
  },

  refresh(token) {
    return settled(attempt(() => {
      const it = check('token', RULES.token, token).trim();
      const use = () => void (this._token = it);
      return this.state === 'connected' ? this._request('refresh', { token: it }, use) : use();
    }));
  },

  on(event, listener) {
    check('event', oneOf('state|session|status|stale|kicked|superseded|tokenExpiring|error'), event);
    check('listener', [/^function/, 'a function'], listener);
    this._listeners.set(event, new Set(this._listeners.get(event)).add(listener));
    return () => this.off(event, listener);
  },

  off(event, listener) {
    (this._listeners.get(event) || new Set()).delete(listener);
  },

  _open() {
    this._resting = true;
    if (this._hidden && this.platform === 'miniprogram') return this._setState('disconnected');
    const live = this._live();
    const { url, timeout } = this._options;
    this._resting = this._opened = false;
    this._comeBackMs = this._refusal = undefined;
    this._reused = this._token;
    clearTimeout(this._timer);
    this._setState('connecting');
    if (!live()) return;
    Promise.resolve(this._token || this._askToken(this._token === ''))
      .then((token) => {
        if (!live()) return;
        this._token = token;
        this._timer = setTimeout(() => this._closed({ reason: 'timeout', errMsg: `no answer within ${timeout} ms` }), timeout);
        this._gone = new Promise((resolve) => {
          this._link = this._host.dial(url, timeout, {
            open: () => live() && this._login(live),
            message: (text) => live() && this._receive(text, live),
            close: (event) => (resolve(0), live() && this._closed(event)),
          });
        });
        return this._gone;
      }, this._failed('token'))
      .catch(this._failed('transport'));
  },

  _failed(code) {
    const live = this._live();
    return (error) => live() && this._retry(error instanceof PresenceError ? error : new PresenceError(code, error));
  },

  _askToken(expired) {
    const { getToken, token, timeout } = this._options;
    const asked = deferred(timeout, () => {}, 'getToken');
    attempt(() => (getToken ? getToken({ expired }) : token)).then(asked.resolve, asked.reject);
    return asked.promise.then((answer) => check('the answer of getToken, or option token,', RULES.token, answer).trim());
  },

  _login(live) {
    const { platform, device } = this;
    const { session } = this._recall();
    const login = { token: this._token, platform, device, app: this._options.app };
    this._opened = true;
    if (session || !this._asked) Object.assign(login, { resume: session });
    this._ask('login', login, (ok) => {
      clearTimeout(this._timer);
      this._attempts = 0;
      this._reused = this._token;
      this._answer = ok;
      this.user = ok.user;
      this.session = ok.session;
      this._keep({ session: ok.session });
      this._settle('resolve', ok);
      this._setState('connected');
      if (live()) this._emit('session', ok);
      if (live() && this._hidden) this.background(this._hidden);
      this._sync();
    }).catch((error) => live() && (this._refusal = error));
  },

  _closed({ code, reason = '', errMsg = reason } = {}) {
    const { url, getToken, minDelay } = this._options;
    const advice = `${url} cannot be reached${errMsg && ` (${errMsg})`}: check this address, that the hub runs${this._host.advice}`;
    const error = this._refusal || (this._opened ? new PresenceError(reason || 'disconnected', errMsg) : new PresenceError('unreachable', advice));
    if (!code && this._refusal) code = CODES[error.code] || 4502;
    error.close = code = +code || undefined;
    const expired = code === 4001;
    const again = code === 4502 && (this._reused || (error.code === 'token_revoked' && !this._patient));
    this._patient = again && !this._reused;
    if (getToken && (expired || again)) this._token = '';
    else if (expired || (code && code >= 4500 && code < 5000)) return this._stop(error);
    if (code === 4007) this._keep({});
    let delay = this._comeBackMs;
    if (this._probing || (expired && this.state === 'connected')) delay = delay || 0;
    if (again) delay = Math.random() * minDelay + (this._patient ? 6000 : 0);
    this._retry(error, delay);
  },

  _retry(error, delay) {
    const { minDelay, maxDelay } = this._options;
    const failed = this.state !== 'connected';
    const life = this._life;
    if (delay == null) delay = Math.min(maxDelay, minDelay + Math.random() * minDelay * 2 ** this._attempts++);
    this._drop(error);
    this._resting = !this._patient;
    this._timer = setTimeout(() => this._open(), Math.min(delay, 1e9));
    this._setState('connecting', error.close);
    if (failed && life === this._life) this._emit('error', error);
  },

  _stop(error, notice) {
    const life = this._life;
    const code = error.close;
    const kicked = code === 4501 && (notice || { reason: 'session_over', by: null, at: null, message: error.message });
    if (kicked) this._keep({ kicked });
    else if (code && [4502, 4503, 4505].includes(code)) this._keep({});
    if (this._ticks) this._listen(false);
    this._drop(error);
    this._settle('reject', error);
    if (!code) this._setStale(false);
    this._setState('disconnected', code);
    if (life !== this._life || !code) return;
    if (kicked) this._emit('kicked', kicked);
    else this._emit(code === 4503 ? 'superseded' : 'error', error);
    if (this.state === 'disconnected') this._setStale(true);
  },

  _drop(error) {
    this._generation++;
    clearTimeout(this._timer);
    this._asked = this._resting = false;
    this._trouble = error;
    this.session = null;
    this._told.clear();
    if (this._link) this._link.close();
    this._link = null;
    this._pending.forEach((request) => request.reject(error));
    this._pending.clear();
  },

  _live() {
    const generation = this._generation;
    return () => generation === this._generation;
  },

  _ready() {
    if (this.state === 'connected') return Promise.resolve(this._answer);
    if (!this._awaited) this._awaited = deferred(this._options.timeout, () => ((this._awaited = null), this._trouble));
    return settled(this._awaited.promise);
  },

  _settle(how, value) {
    const awaited = this._awaited;
    this._awaited = null;
    if (awaited) awaited[how](value);
  },

  _send(message) {
    if (this._link) this._link.send(JSON.stringify(message));
  },

  _request(type, fields, onOk) {
    if (this.state !== 'connected') return Promise.reject(new PresenceError('disconnected'));
    return this._ask(type, fields, onOk);
  },

  _ask(type, fields, onOk) {
    const id = ++this._lastId;
    const { timeout, probeTimeout } = this._options;
    const probe = type === 'ping';
    const request = deferred(probe ? probeTimeout : timeout, () => {
      this._pending.delete(id);
      if (!probe) this._probe();
    });
    request.onOk = onOk;
    this._pending.set(id, request);
    this._send(Object.assign({ type, id }, fields));
    return request.promise;
  },

  _receive(text, live) {
    const message = parsed(text);
    switch (message.type) {
      case 'reply':
        return this._reply(message, live);
      case 'status':
        delete message.type;
        return this._learn(message);
      case 'kicked':
        return this._stop(new PresenceError('kicked', Object.assign({ close: 4501 }, message)), message);
      case 'closing':
        if (message.reconnect_ms >= 0) this._comeBackMs = message.reconnect_ms;
        return;
      case 'token_expiring':
        this._emit('tokenExpiring', message);
        return this._renew(live);
      case 'error':
        return this._report(message.error);
    }
  },

  _reply({ id, ok, error }, live) {
    const request = this._pending.get(id);
    if (!request) return;
    this._pending.delete(id);
    if (error) return request.reject(new PresenceError(error.code, error));
    request.resolve(ok);
    if (request.onOk) request.onOk(ok);
    for (const status of [].concat(ok.status || [], ok.statuses || [])) if (live()) this._learn(status, true);
  },

  _renew(live) {
    const { getToken, timeout } = this._options;
    const renew = () =>
      live() && this._askToken(true)
        .then((token) => (live() ? this.refresh(token) : undefined))
        .catch((error) => live() && (this._report(error, 'token'), this._renew(live)));
    clearTimeout(this._renewal);
    if (getToken) this._renewal = this._renewal ? setTimeout(renew, timeout) : renew() || 1;
  },

  _report(error, code = error.code) {
    this._emit('error', new PresenceError(code, error));
  },

  _learn(status, asked) {
    const { user, version } = status;
    if (!this._watched.has(user) && user !== this.user) return;
    const known = Object(this._known.get(user));
    const newest = known.from === this._generation ? known.newest : -1;
    if (asked ? version && version < newest : version <= newest) return;
    const same = JSON.stringify(known.status) === JSON.stringify(status);
    this._known.set(user, { status: same ? known.status : status, newest: Math.max(version, newest), from: this._generation });
    if (same) return;
    this._emit('status', status);
    this._show(user, new Set(this._watched.get(user)));
  },

  _show(user, subscriptions) {
    for (const subscription of subscriptions) {
      if (new Set(this._watched.get(user)).has(subscription)) call(subscription.callback, this.get(user));
    }
  },

  _sync() {
    if (this._syncing) return;
    this._syncing = true;
    Promise.resolve().then(() => {
      this._syncing = false;
      this._watched.forEach((subscriptions, user) => {
        if (subscriptions.size) return;
        this._watched.delete(user);
        if (user !== this.user) this._known.delete(user);
      });
      if (this.state !== 'connected') return;
      const live = this._live();
      const gone = [...this._told].filter((user) => !this._watched.has(user));
      const added = [...this._watched.keys()].filter((user) => !this._told.has(user));
      this._told = new Set(this._watched.keys());
      for (const users of batches(gone)) settled(this._request('unsubscribe', { users }));
      Promise.all(batches(added).map((users) => this._subscribe(users, live))).then(() => {
        if (live() && this._told.size >= this._watched.size) this._setStale(false);
      });
    });
  },

  _subscribe(users, live) {
    return this._request('subscribe', { users }).then(
      (ok) => {
        if (live()) for (const error of ok.errors || []) this._report(error);
      },
      (error) => {
        if (!live()) return;
        this._report(error);
        if (error.code === 'bad_request') return;
        users.forEach((user) => this._told.delete(user));
        setTimeout(() => live() && this._sync(), this._options.minDelay * (1 + Math.random()));
      }
    );
  },

  _suspect() {
    if (!this._doubt) this._doubt = setTimeout(() => this._setStale(true), this._options.staleAfter);
  },

  _setStale(stale) {
    clearTimeout(this._doubt);
    this._doubt = null;
    if (stale !== this.stale) this._emit('stale', (this.stale = stale));
  },

  _listen(on) {
    const host = this._host;
    let ticked = Date.now();
    clearInterval(this._ticks);
    this._ticks = on && setInterval(() => {
      const since = Date.now() - ticked;
      if (this.session && !this._hidden && (since < 0 || since > host.trustMs)) this._probe();
      ticked = Date.now();
    }, this._options.heartbeat);
    this._events = this._events || Object.entries(host.events(this));
    for (const [name, listener] of this._events) host.listen(on, name, listener);
  },

  _leave() {
    if (this.state === 'disconnected') return;
    this._drop(new PresenceError('disconnected'));
    this._resting = true;
    this._setState('connecting');
  },

  _probe() {
    if (this._resting && this.state === 'connecting') return this._open();
    if (this.state !== 'connected' || this._probing) return;
    const live = this._live();
    this._probing = true;
    this._suspect();
    this._ask('ping')
      .then(() => this._setStale(false), (error) => error.code === 'timeout' && live() && this._retry(error, 0))
      .then(() => (this._probing = false));
  },

  _recall() {
    const { session, kicked } = parsed(this._kept.get(this._key));
    return { session: tried(() => check('', [/^string \w{1,99}$/, ''], session)) || '', kicked: Object(kicked).reason && kicked };
  },

  _keep(what) {
    this._kept.set(this._key, JSON.stringify(what));
  },

  _setState(state, code) {
    const previous = this.state;
    this.state = state;
    if (state === 'connecting') this._suspect();
    if (state !== previous) this._emit('state', { state, previous, code });
  },

  _emit(event, value) {
    const life = this._life;
    for (const listener of new Set(this._listeners.get(event))) {
      if (life === this._life) call(listener, value);
    }
  },
};

Object.assign(PresenceClient.prototype, methods);

/** @type {In.Tools} */
const { check, tried, oneOf, page, miniProgram, keeper, deviceId, deferred, attempt, settled, call, parsed, list, batches } = {
  check(what, [pattern, expected], value) {
    if (pattern.test(tried(() => `${typeof value} ${unescape(encodeURIComponent(value))}`) || '')) return value;
    const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
    throw new TypeError(`PresenceClient: ${what} is ${shown.slice(0, 130)}; expected ${expected}`);
  },

  oneOf: (names) => [RegExp(`^string (${names})$`), names],

  page: (window, Socket) => ({
    platform: 'web',
    trustMs: 70000,
    advice: window.location ? `, and that server.allowed_origins has "${window.location.origin}"` : '',
    tab: () => window.sessionStorage,
    local: () => window.localStorage,
    events: (client) => ({
      pagehide: () => client._leave(),
      pageshow: ({ persisted }) => persisted && client._probe(),
      online: () => client._probe(),
      offline: () => client._suspect(),
      resume: () => client._probe(),
      visibilitychange: () => window.document.visibilityState === 'visible' && client._probe(),
    }),
    listen(on, name, listener) {
      const method = on ? 'addEventListener' : 'removeEventListener';
      if (window[method]) window[method](name, listener, true);
    },
    dial(url, timeout, { open, message, close }) {
      check('option WebSocket, or adapter.connectSocket,', [/^function/, 'a function'], Socket);
      const socket = new Socket(url, 'presence-hub.v1');
      let errMsg = '';
      socket.onopen = open;
      socket.onclose = ({ code, reason }) => close({ code, reason, errMsg });
      socket.onerror = (event) => (errMsg = event.message);
      socket.onmessage = (event) => message(event.data);
      return socket;
    },
  }),

  miniProgram(wx) {
    const alipay = typeof my === 'object' && wx === my;
    let ended = Promise.resolve(0);
    return {
      platform: 'miniprogram',
      trustMs: -1,
      advice: '',
      tab: () => null,
      local: () => ({
        getItem: (key) => (alipay ? wx.getStorageSync({ key }).data : wx.getStorageSync(key)),
        setItem: (key, data) => (alipay ? wx.setStorageSync({ key, data }) : wx.setStorageSync(key, data)),
      }),
      events: (client) => ({
        AppHide: (event) => client.background(event && event.reason === 0 ? 'exit' : 'hide'),
        AppShow: () => client.foreground(),
        NetworkStatusChange: ({ isConnected }) => (isConnected ? client._probe() : client._suspect()),
      }),
      listen(on, name, listener) {
        const method = (on ? 'on' : 'off') + name;
        if (wx[method]) wx[method](listener);
      },
      dial(url, timeout, { open, message, close }) {
        const before = ended;
        let over = false;
        let done = close;
        ended = new Promise((resolve) => {
          done = (event) => (resolve(0), close(event));
          setTimeout(resolve, timeout);
        });
        /** @type {Promise<In.SocketTask>} */
        const opening = before.then(() => over || wx.connectSocket({ url, protocols: ['presence-hub.v1'], multiple: true, timeout, fail: done }));
        opening.then((task) => {
          task.onOpen(() => (over ? task.close({}) : open()));
          task.onClose(done);
          task.onError(done);
          task.onMessage(({ data }) => message(data.data || data));
        }).catch(done);
        return {
          send: (data) => opening.then((task) => task.send({ data, fail: done })).catch(done),
          close() {
            over = true;
            opening.then((task) => task.close({})).catch(done);
          },
        };
      },
    };
  },

  keeper: (storage, memory) => ({
    get: (key) => memory[key] || tried(() => storage().getItem(key)),
    set(key, value) {
      memory[key] = value;
      tried(() => storage().setItem(key, value));
    },
  }),

  deviceId(kept) {
    const key = 'presence-hub device';
    const id = tried(() => check('', RULES.device, kept.get(key))) || Date.now().toString(36) + Math.random().toString(36).slice(1);
    kept.set(key, id);
    return id;
  },

  deferred(ms, onTimeout = () => {}, who = 'the hub') {
    const it = /** @type {In.Deferred} */ ({});
    it.promise = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(onTimeout() || new PresenceError('timeout', `${who}: no answer within ${ms} ms`)), ms);
      it.resolve = (value) => (clearTimeout(timer), resolve(value));
      it.reject = (error) => (clearTimeout(timer), reject(error));
    });
    return it;
  },

  attempt: (action) => new Promise((resolve) => resolve(action())),

  settled(promise) {
    promise.catch(() => {});
    return promise;
  },

  call(listener, value) {
    try {
      listener(value);
    } catch (error) {
      setTimeout(() => {
        throw error;
      }, 0);
    }
  },

  tried(action) {
    try {
      return action();
    } catch (_) {}
  },

  parsed: (text) => Object(tried(() => JSON.parse(text))),

  list: (users) => [...new Set([].concat(users).filter((user) => user != null).map((user) => String(check('users', [/^(string|number)/, 'user ids'], user))))],

  batches: (users) => (users.length ? [users.slice(0, 200), ...batches(users.slice(200))] : []),
};

/** @type {Record<string, In.Rule>} */
const RULES = {
  url: [/^string wss?:\/\/\S+$/i, 'an address such as "wss://hub.example.com/ws"'],
  getToken: [/^function/, 'a function'],
  token: [/^string \s*[\w.-]+\s*$/, 'a JWT as text'],
  platform: oneOf('android|ios|ipad|windows|mac|linux|web|miniprogram'),
  device: [/^string [^]{1,128}$/, 'text of 1 to 128 bytes'],
  app: [/^string [^]{0,256}$/, 'text of at most 256 bytes'],
  user: [/^string/, 'text'],
  adapter: [/^/, ''],
  WebSocket: [/^function/, 'a function'],
};

root.PresenceHub = { PresenceClient, PresenceError };
if (typeof module === 'object' && module.exports) module.exports = root.PresenceHub;
}
