// Documented by README.md, presence.d.ts and presence.internals.d.ts.
'use strict';

/** @import * as In from './presence.internals' */
{
  /** @type {any} */
  const root = typeof globalThis === 'object' ? globalThis : typeof window === 'object' ? window : {};
  const PROTOCOL = 'presence-hub.v1';
  const BATCH = 200; // users in one message
  const KICKED = 4501;
  const SUPERSEDED = 4503;
  /** What Alipay does not tell. @type {Record<string, number>} */
  const CODES = { token_expired: 4001, rate_limited: 4004, unavailable: 4006, kicked: KICKED, superseded: SUPERSEDED };

  class PresenceError extends Error {
    /** @param {string} code @param {any} [evidence] */
    constructor(code, evidence) {
      const message = (evidence && evidence.message) || code;
      super(message);
      Object.assign(this, evidence, { name: 'PresenceError', message });
      this.code = code;
    }
  }

  class PresenceClient {
    /** @param {In.Options} options */
    constructor(options) {
      const mini = typeof wx === 'object' ? wx : typeof my === 'object' ? my : typeof tt === 'object' ? tt : root;
      const place = options.adapter || (root.document ? root : mini);
      const host = place.connectSocket ? miniProgram(place) : page(place, options.WebSocket || place.WebSocket);
      const { minDelay = 500, maxDelay = 20000, timeout = 10000, probeTimeout = 5000, heartbeat = 20000 } = options;
      const platform = options.platform || host.platform;
      const device = options.device || deviceId(keeper(host.local, pageMemory));
      /** @type {In.Fields} */
      const fields = {
        state: 'disconnected',
        platform,
        device,
        user: null,
        session: null,
        _options: Object.assign({}, options, { minDelay, maxDelay, timeout, probeTimeout, heartbeat }),
        _host: host,
        _kept: keeper(host.tab, {}),
        _key: ['presence-hub', options.url, options.user, platform, device].join(' '),
        _token: options.token,
        _listeners: new Map(),
        _watched: new Map(),
        _known: new Map(),
        _told: new Set(),
        _pending: new Map(),
        _lastId: 0,
        _attempts: 0,
        _renewAt: 0,
        _generation: 0,
        _life: 0,
      };
      Object.assign(this, fields);
    }
  }

  /** @type {In.Implementation} */
  const methods = {
    connect({ force = false } = {}) {
      const { kicked } = this._recall();
      if (kicked && !force) {
        this._emit('kicked', kicked);
        return settled(Promise.reject(new PresenceError('kicked', kicked)));
      }
      this._hidden = null;
      if (this.state === 'disconnected') {
        if (kicked) this._keep({});
        if (this._options.getToken) this._token = null;
        this._listen();
        this._asked = true;
        this._attempts = 0;
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
      const subscription = { callback };
      const all = list(users);
      const known = all.filter((user) => this.get(user));
      for (const user of all) this._watched.set(user, (this._watched.get(user) || new Set()).add(subscription));
      this._sync();
      // The hub sends no second snapshot.
      Promise.resolve().then(() => known.forEach((user) => this._show(user, [subscription])));
      return () => {
        for (const user of all) (this._watched.get(user) || new Set()).delete(subscription);
        this._sync();
      };
    },

    get(user) {
      return (this._known.get(user) || { status: null }).status;
    },

    query(users) {
      return Promise.all(batches(list(users)).map((batch) => this._request('query', { users: batch }))).then((answers) => ({
        statuses: [].concat(...answers.map((ok) => ok.statuses)),
        errors: [].concat(...answers.map((ok) => ok.errors || [])),
      }));
    },

    setStatus(custom) {
      return this._request('set', { custom }).then((ok) => ok.status);
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
      return this._deafen && this.state !== 'connected' ? this._ready() : settled(this._request('foreground'));
    },

    refresh(token) {
      if (this.state === 'connected') return settled(this._request('refresh', { token }, () => (this._token = token)));
      this._token = token;
      return Promise.resolve();
    },

    on(event, listener) {
      this._listeners.set(event, (this._listeners.get(event) || new Set()).add(listener));
      return () => this.off(event, listener);
    },

    off(event, listener) {
      (this._listeners.get(event) || new Set()).delete(listener);
    },

    // ---- connecting

    _open() {
      // A resume would count as coming to the foreground.
      if (this._hidden && this.platform === 'miniprogram') return this._setState('disconnected');
      const live = this._live();
      this._resting = false;
      this._comeBackMs = this._refusal = undefined;
      clearTimeout(this._timer);
      this._timer = setTimeout(this._failed('timeout'), this._options.timeout);
      this._setState('connecting');
      if (!live()) return;
      Promise.resolve(this._token || this._askToken(this._token === ''))
        .then((token) => {
          if (!live()) return;
          this._token = token;
          this._gone = new Promise((resolve) => {
            this._link = this._host.dial(this._options.url, {
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
      return (error) => live() && this._retry(new PresenceError(code, error));
    },

    _askToken(expired) {
      const o = this._options;
      return new Promise((resolve) => resolve(o.getToken ? o.getToken({ expired }) : o.token));
    },

    _login(live) {
      const { platform, device } = this;
      const { session } = this._recall();
      const login = { token: this._token, platform, device, app: this._options.app };
      // Only a login without `resume` may kick: a user's, never a reconnect.
      if (session || !this._asked) Object.assign(login, { resume: session || '' });
      this._ask('login', login, (ok) => {
        clearTimeout(this._timer);
        this._attempts = 0;
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

    _closed({ code, reason }) {
      const error = this._refusal || new PresenceError(reason || 'disconnected');
      if (!code && this._refusal) code = CODES[error.code] || 4502;
      error.close = code;
      const expired = code === 4001;
      if (code && code >= 4500 && code < 5000) return this._stop(error);
      if (expired) {
        if (!this._options.getToken) return this._stop(error);
        this._token = '';
      }
      if (code === 4007) this._keep({});
      // What dies while it is asked had died before.
      const now = this._probing || (expired && this.state === 'connected') ? 0 : undefined;
      this._retry(error, this._comeBackMs == null ? now : this._comeBackMs);
    },

    _retry(error, delay) {
      const { minDelay, maxDelay } = this._options;
      const failed = this.state !== 'connected';
      const life = this._life;
      if (delay == null) delay = Math.min(maxDelay, minDelay + Math.random() * minDelay * 2 ** this._attempts++);
      this._drop(error);
      this._resting = true;
      this._timer = setTimeout(() => this._open(), delay);
      this._setState('connecting', error.close);
      if (failed && life === this._life) this._emit('error', error);
    },

    _stop(error, notice) {
      const life = this._life;
      const code = error.close;
      const kicked = code === KICKED && (notice || { reason: 'session_over', by: null, at: null, message: error.message });
      if (kicked) this._keep({ kicked });
      else if (code === 4502 || code === SUPERSEDED || code === 4505) this._keep({});
      if (this._deafen) this._deafen();
      this._drop(error);
      this._settle('reject', error);
      this._setState('disconnected', code);
      if (life !== this._life || !code) return;
      if (kicked) this._emit('kicked', kicked);
      else this._emit(code === SUPERSEDED ? 'superseded' : 'error', error);
    },

    _drop(error) {
      this._generation++;
      clearTimeout(this._timer);
      this._asked = this._resting = false;
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
      if (!this._awaited) this._awaited = deferred(this._options.timeout, () => (this._awaited = null));
      return settled(this._awaited.promise);
    },

    _settle(how, value) {
      const awaited = this._awaited;
      this._awaited = null;
      if (awaited) awaited[how](value);
    },

    // ---- messages

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
      const message = JSON.parse(text);
      switch (message.type) {
        case 'reply':
          return this._reply(message, live);
        case 'status':
          delete message.type;
          return this._learn(message);
        case 'kicked':
          // The Close frame may be lost.
          return this._stop(new PresenceError('kicked', Object.assign({ close: KICKED }, message)), message);
        case 'closing':
          this._comeBackMs = message.reconnect_ms;
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
      // What a snapshot told is not pushed again.
      for (const status of [].concat(ok.status || [], ok.statuses || [])) if (live()) this._learn(status);
    },

    _renew(live) {
      if (!live() || !this._options.getToken) return;
      const wait = this._renewAt - Date.now();
      if (wait > 0) return setTimeout(() => this._renew(live), wait);
      this._renewAt = Date.now() + this._options.timeout;
      this._askToken(true)
        .then((token) => (live() ? this.refresh(token) : undefined))
        .catch((error) => {
          if (!live()) return;
          this._report(error, 'token');
          this._renew(live);
        });
    },

    _report(error, code = error.code) {
      this._emit('error', new PresenceError(code, error));
    },

    // ---- statuses

    _learn(status) {
      const { user, version } = status;
      if (!this._watched.has(user) && user !== this.user) return;
      const known = this._known.get(user);
      const newest = known ? known.newest : -1;
      // Version 0, nothing is remembered, is shown once.
      if (version ? version <= newest : known && !known.status.version) return;
      this._known.set(user, { status, newest: Math.max(version, newest) });
      this._emit('status', status);
      this._show(user, [...(this._watched.get(user) || [])]);
    },

    _show(user, subscriptions) {
      for (const subscription of subscriptions) {
        const current = this._watched.get(user);
        if (current && current.has(subscription)) call(subscription.callback, this.get(user));
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
        const gone = [...this._told].filter((user) => !this._watched.has(user));
        const added = [...this._watched.keys()].filter((user) => !this._told.has(user));
        this._told = new Set(this._watched.keys());
        for (const users of batches(gone)) settled(this._request('unsubscribe', { users }));
        for (const users of batches(added)) this._subscribe(users, this._live());
      });
    },

    _subscribe(users, live) {
      this._request('subscribe', { users }).then(
        (ok) => live() && (ok.errors || []).forEach((/** @type {any} */ error) => this._report(error)),
        (error) => {
          if (!live()) return;
          this._report(error);
          if (error.code === 'bad_request') return;
          users.forEach((user) => this._told.delete(user));
          setTimeout(() => live() && this._sync(), this._options.minDelay * (1 + Math.random()));
        }
      );
    },

    // ---- the host

    _listen() {
      if (this._deafen) return;
      const host = this._host;
      const events = Object.entries(host.events(this));
      let ticked = Date.now();
      const ticks = setInterval(() => {
        if (this.session && !this._hidden && Date.now() - ticked > host.trustMs) this._probe();
        ticked = Date.now();
      }, this._options.heartbeat);
      for (const [name, listener] of events) host.listen(true, name, listener);
      this._deafen = () => {
        clearInterval(ticks);
        for (const [name, listener] of events) host.listen(false, name, listener);
        this._deafen = null;
      };
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
      this._ask('ping')
        .catch((error) => error.code === 'timeout' && live() && this._retry(error, 0))
        .then(() => (this._probing = false));
    },

    _recall() {
      return JSON.parse(this._kept.get(this._key) || '{}');
    },

    _keep(what) {
      this._kept.set(this._key, JSON.stringify(what));
    },

    _setState(state, code) {
      const previous = this.state;
      this.state = state;
      if (state !== previous) this._emit('state', { state, previous, code });
    },

    _emit(event, value) {
      const life = this._life;
      for (const listener of [...(this._listeners.get(event) || [])]) {
        if (life === this._life) call(listener, value);
      }
    },
  };

  Object.assign(PresenceClient.prototype, methods);

  /** @param {any} window @param {In.SocketClass} Socket @returns {In.Host} */
  function page(window, Socket) {
    return {
      platform: 'web',
      trustMs: 70000, // a hidden tab's timers come once a minute
      tab: () => window.sessionStorage,
      local: () => window.localStorage,
      events: (client) => ({
        pagehide: () => client._leave(),
        pageshow: ({ persisted }) => persisted && client._probe(),
        online: () => client._probe(),
        resume: () => client._probe(),
        visibilitychange: () => window.document.visibilityState === 'visible' && client._probe(),
      }),
      listen(on, name, listener) {
        const method = on ? 'addEventListener' : 'removeEventListener';
        if (window[method]) window[method](name, listener, true); // `resume` does not bubble
      },
      dial(url, { open, message, close }) {
        const socket = new Socket(url, PROTOCOL);
        socket.onopen = open;
        socket.onclose = close;
        socket.onerror = () => {}; // Node's ws throws what nobody hears
        socket.onmessage = (event) => message(event.data);
        return socket;
      },
    };
  }

  /** @param {any} wx @returns {In.Host} */
  function miniProgram(wx) {
    const alipay = typeof my === 'object' && wx === my;
    return {
      platform: 'miniprogram',
      trustMs: 0,
      tab: () => null,
      local: () => ({
        getItem: (key) => (alipay ? wx.getStorageSync({ key }).data : wx.getStorageSync(key)),
        setItem: (key, data) => (alipay ? wx.setStorageSync({ key, data }) : wx.setStorageSync(key, data)),
      }),
      events: (client) => ({
        AppHide: (event) => client.background(event && event.reason === 0 ? 'exit' : 'hide'),
        AppShow: () => client.foreground(),
        NetworkStatusChange: ({ isConnected }) => isConnected && client._probe(),
      }),
      listen(on, name, listener) {
        const method = (on ? 'on' : 'off') + name;
        if (wx[method]) wx[method](listener);
      },
      dial(url, { open, message, close }) {
        const failed = () => close({});
        // Taro promises its task; a message in a message is Alipay's, a code as text is Douyin's.
        const opening = Promise.resolve(wx.connectSocket({ url, protocols: [PROTOCOL], multiple: true, fail: failed }));
        /** @param {(task: In.SocketTask) => void} action */
        const use = (action) => opening.then(action).catch(failed);
        use((task) => {
          task.onOpen(open);
          task.onClose(({ code = 0, reason } = {}) => close({ code: +code, reason }));
          task.onError(failed);
          task.onMessage(({ data }) => message(data.data || data));
        });
        return { send: (data) => use((task) => task.send({ data, fail: failed })), close: () => use((task) => task.close({})) };
      },
    };
  }

  const pageMemory = {};

  /** Where storage is refused, the page remembers. @param {Function} storage @param {any} memory @returns {In.Keeper} */
  function keeper(storage, memory) {
    return {
      get(key) {
        try {
          return memory[key] || storage().getItem(key);
        } catch (_) {}
      },
      set(key, value) {
        memory[key] = value;
        try {
          storage().setItem(key, value);
        } catch (_) {}
      },
    };
  }

  /** @param {In.Keeper} kept */
  function deviceId(kept) {
    const id = kept.get('presence-hub device') || Date.now().toString(36) + Math.random().toString(36).slice(1);
    kept.set('presence-hub device', id);
    return id;
  }

  /** @param {number} ms @param {() => void} [onTimeout] @returns {In.Deferred} */
  function deferred(ms, onTimeout) {
    const it = /** @type {In.Deferred} */ ({});
    it.promise = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new PresenceError('timeout'));
        if (onTimeout) onTimeout();
      }, ms);
      it.resolve = (value) => (clearTimeout(timer), resolve(value));
      it.reject = (error) => (clearTimeout(timer), reject(error));
    });
    return it;
  }

  /** @param {Promise<any>} promise */
  function settled(promise) {
    promise.catch(() => {});
    return promise;
  }

  /** @param {Function} listener @param {any} value */
  function call(listener, value) {
    try {
      listener(value);
    } catch (error) {
      setTimeout(() => {
        throw error;
      }, 0);
    }
  }

  /** @param {any} users @returns {string[]} */
  function list(users) {
    return [...new Set([].concat(users).filter((user) => user != null).map(String))];
  }

  /** @param {string[]} users @returns {string[][]} */
  function batches(users) {
    return users.length ? [users.slice(0, BATCH), ...batches(users.slice(BATCH))] : [];
  }

  const sdk = { PresenceClient, PresenceError };
  if (typeof module === 'object' && module.exports) module.exports = sdk;
  root.PresenceHub = sdk;
}
