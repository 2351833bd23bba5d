/*
 * const client = new PresenceHub.PresenceClient({ url: 'wss://hub.example.com/ws', getToken });
 * client.subscribe(['alice', 'bob'], show);
 * client.connect();
 *
 * Events: state {state, previous, code}, session, status, kicked, superseded, tokenExpiring, error.
 */
(function (root, make) {
  if (typeof module === 'object' && module.exports) module.exports = make(root);
  else root.PresenceHub = make(root);
})(typeof globalThis === 'object' ? globalThis : this, function (root) {
  'use strict';

  const BATCH = 200; // users in one message
  const PROBE_MS = 5000;
  const KICKED = 4501;
  const SUPERSEDED = 4503;

  // `code` is the hub's, or disconnected, logged_out, timeout, token, transport.
  class PresenceError extends Error {
    constructor(code, message, evidence) {
      super(message || code);
      Object.assign(this, evidence, { name: 'PresenceError', code });
    }
  }

  class PresenceClient {
    /**
     * Options: url; token or getToken({expired}); platform, device, app; user, where several share a tab;
     * minDelay, maxDelay, timeout (ms); WebSocket, localStorage, sessionStorage, window instead of the browser's.
     */
    constructor(options) {
      const o = Object.assign({ platform: 'web', minDelay: 500, maxDelay: 20000, timeout: 10000 }, options);
      this._options = o;
      this._window = o.window || root;
      this._kept = keeper(o, 'sessionStorage', {});
      this.state = 'disconnected';
      this.platform = o.platform;
      this.device = o.device || deviceId(keeper(o, 'localStorage', pageMemory));
      this.user = this.session = null;

      this._key = ['presence-hub', o.url, o.user, o.platform, this.device].join(' ');
      this._token = o.token;
      this._listeners = new Map(); // event -> functions
      this._watched = new Map(); // user -> subscriptions
      this._known = new Map(); // user -> {status, newest}
      this._told = new Set(); // whom this connection is subscribed to
      this._pending = new Map(); // id -> deferred
      this._lastId = this._attempts = 0;
      // Late events of an old socket are of an old generation, listeners of before a logout of an old life.
      this._generation = this._life = 0;
      this._onPage = (event) => this._page(event);
    }

    /** Logs in, or resumes this tab's session. A kicked tab stays out, over reloads, until `force`. */
    connect(options) {
      const kicked = this._recall().kicked;
      if (kicked && !(options && options.force)) {
        this._emit('kicked', kicked);
        return settled(Promise.reject(new PresenceError('kicked', kicked.message)));
      }
      if (this.state === 'disconnected') {
        if (kicked) this._keep({});
        if (this._options.getToken) this._token = null;
        this._wanted = this._asked = true;
        this._hidden = null;
        this._attempts = 0;
        this._listen('addEventListener');
        this._open();
      } else if (this._resting) {
        this._open();
      }
      return this._ready();
    }

    /** "Use here instead": a new login, whoever it kicks. */
    loginHere() {
      if (this.state === 'disconnected') this._keep({});
      return this.connect({ force: true });
    }

    /** Offline at once. Nothing is called back any more. */
    logout() {
      const link = this._link;
      if (link && (this._pending.size || this.state === 'connected')) this._send({ type: 'logout', id: ++this._lastId });
      this._life++;
      this._watched.clear();
      this._known.clear();
      this._keep({});
      this._stop(new PresenceError('logged_out'));
      return Promise.race([link && link.gone, new Promise((done) => link && setTimeout(done, PROBE_MS))]);
    }

    destroy() {
      return this.logout();
    }

    /** Calls back with each status, now and when it changes, until the function that it returns is called. */
    subscribe(users, callback) {
      const subscription = { callback };
      users = [].concat(users);
      const known = users.filter((user) => this.get(user));
      for (const user of users) {
        if (!this._watched.has(user)) this._watched.set(user, new Set());
        this._watched.get(user).add(subscription);
      }
      this._sync();
      // The hub sends no second snapshot.
      Promise.resolve().then(() => known.forEach((user) => this._show(user, [subscription])));
      return () => {
        for (const user of users) if (this._watched.has(user)) this._watched.get(user).delete(subscription);
        this._sync();
      };
    }

    get(user) {
      return (this._known.get(user) || { status: null }).status;
    }

    query(users) {
      const asked = batches([].concat(users)).map((batch) => this._request('query', { users: batch }));
      return Promise.all(asked).then((answers) => ({
        statuses: [].concat(...answers.map((ok) => ok.statuses)),
        errors: [].concat(...answers.map((ok) => ok.errors || [])),
      }));
    }

    setStatus(text) {
      return this._request('set', { custom: text }).then((ok) => ok.status);
    }

    sessions() {
      return this._request('sessions').then((ok) => ok.sessions);
    }

    kick(session) {
      return this._request('kick', { session });
    }

    /** 'hide', or 'exit' where the app was left by its close button. */
    background(reason) {
      this._hidden = reason || 'hide';
      return settled(this._request('background', { reason: this._hidden }).then((ok) => ok.deadline));
    }

    foreground() {
      this._hidden = null;
      if (this._resting) this._open();
      return this._wanted && this.state !== 'connected' ? this._ready() : settled(this._request('foreground'));
    }

    refresh(token) {
      if (this.state !== 'connected') {
        this._token = token; // for the next login
        return Promise.resolve();
      }
      return settled(this._request('refresh', { token }, () => (this._token = token)));
    }

    on(event, listener) {
      if (!this._listeners.has(event)) this._listeners.set(event, new Set());
      this._listeners.get(event).add(listener);
      return () => this.off(event, listener);
    }

    off(event, listener) {
      if (this._listeners.has(event)) this._listeners.get(event).delete(listener);
    }

    // ---- connecting

    _open() {
      this._generation++;
      const live = this._live();
      const failed = (code) => (error) => live() && this._retry(new PresenceError(code, error && error.message));
      this._resting = false;
      this._comeBackMs = this._refusal = null;
      clearTimeout(this._timer);
      this._timer = setTimeout(failed('timeout'), this._options.timeout);
      this._setState('connecting');
      const connectWith = (token) => {
        if (!live()) return;
        this._token = token;
        this._link = dial(this._options, {
          open: () => live() && this._login(live),
          message: (text) => live() && this._receive(text, live),
          close: (code, reason) => live() && this._closed(code, reason),
        });
      };
      this._fetchToken().then(connectWith, failed('token')).catch(failed('transport'));
    }

    _fetchToken() {
      if (this._token || !this._options.getToken) return Promise.resolve(this._token);
      return this._askToken(!!this._expired);
    }

    _askToken(expired) {
      return new Promise((resolve) => resolve(this._options.getToken({ expired })));
    }

    _login(live) {
      const login = { token: this._token, platform: this.platform, device: this.device, app: this._options.app };
      const session = this._recall().session;
      // A login without `resume` may kick, which only a user may do, never a reconnect.
      if (session || !this._asked) login.resume = session || '';
      this._request('login', login, (ok) => {
        clearTimeout(this._timer);
        this._expired = false;
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
      }).catch((error) => live() && (this._refusal = error)); // the close code says what to do
    }

    _closed(code, reason) {
      const error = this._refusal || new PresenceError(reason || 'disconnected');
      error.close = code;
      const expired = code === 4001;
      if ((code >= 4500 && code < 5000) || (expired && !this._options.getToken)) return this._stop(error);
      if (expired) {
        this._token = null;
        this._expired = true;
      }
      if (code === 4007) this._keep({});
      if (code === 4003 || (this._hidden && this.platform === 'miniprogram')) {
        // Coming back by itself would count as coming to the foreground.
        this._drop(error);
        this._resting = true;
        return this._setState('disconnected', code);
      }
      this._retry(error, expired && this.state === 'connected' ? 0 : this._comeBackMs);
    }

    _retry(error, delay) {
      const { minDelay, maxDelay } = this._options;
      const failed = this.state !== 'connected';
      const life = this._life;
      const jitter = Math.random() * minDelay * Math.pow(2, this._attempts);
      if (delay == null) {
        delay = Math.min(maxDelay, minDelay + jitter);
        this._attempts++;
      }
      this._drop(error);
      this._resting = true;
      this._timer = setTimeout(() => this._open(), delay);
      this._setState('connecting', error.close);
      if (failed && life === this._life) this._emit('error', error);
    }

    _stop(error, notice) {
      const life = this._life;
      const code = error.close;
      if (code === KICKED) {
        notice = notice || { reason: 'session_over', by: null, at: null, message: error.message };
        this._keep({ kicked: notice });
      } else if (code === 4502 || code === SUPERSEDED || code === 4505) {
        this._keep({});
      }
      this._wanted = false;
      this._listen('removeEventListener');
      this._drop(error);
      this._settle('reject', error);
      this._setState('disconnected', code);
      if (life !== this._life || !code) return;
      if (code === KICKED) this._emit('kicked', notice);
      else this._emit(code === SUPERSEDED ? 'superseded' : 'error', error);
    }

    _drop(error) {
      this._generation++;
      clearTimeout(this._timer);
      this._asked = this._resting = false;
      this.session = null;
      this._told.clear();
      if (this._link) this._link.close();
      this._link = null;
      const pending = [...this._pending.values()];
      this._pending.clear();
      pending.forEach((request) => request.reject(error));
    }

    _live() {
      const generation = this._generation;
      return () => generation === this._generation;
    }

    _ready() {
      if (this.state === 'connected') return Promise.resolve(this._answer);
      if (!this._awaited) this._awaited = deferred(this._options.timeout, () => (this._awaited = null));
      return settled(this._awaited.promise);
    }

    _settle(how, value) {
      const awaited = this._awaited;
      this._awaited = null;
      if (awaited) awaited[how](value);
    }

    // ---- messages

    _send(message) {
      this._link.send(JSON.stringify(message));
    }

    _request(type, fields, onOk) {
      if (this.state !== 'connected' && !onOk) return Promise.reject(new PresenceError('disconnected'));
      const id = ++this._lastId;
      const probe = type === 'ping';
      const request = deferred(probe ? PROBE_MS : this._options.timeout, () => {
        this._pending.delete(id);
        if (!probe) this._probe();
      });
      request.onOk = onOk;
      this._pending.set(id, request);
      this._send(Object.assign({ type, id }, fields));
      return request.promise;
    }

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
          return this._stop(new PresenceError('kicked', message.message, { close: KICKED }), message);
        case 'closing':
          this._comeBackMs = message.reconnect_ms;
          return;
        case 'token_expiring':
          return this._renew(message, live);
        case 'error':
          return this._emit('error', new PresenceError(message.error.code, message.error.message));
      }
    }

    _reply({ id, ok, error }, live) {
      const request = this._pending.get(id);
      if (!request) return;
      this._pending.delete(id);
      if (error) return request.reject(new PresenceError(error.code, error.message, error));
      request.resolve(ok);
      if (request.onOk) request.onOk(ok);
      // What a snapshot told is not pushed again, so every subscriber gets it, whoever asked.
      for (const status of [].concat(ok.status || [], ok.statuses || [])) if (live()) this._learn(status);
    }

    _renew(message, live) {
      this._emit('tokenExpiring', message);
      if (!live() || !this._options.getToken) return;
      const ask = () => live() && this._askToken(true).then((token) => live() && this.refresh(token)).catch(again);
      const again = (error) => {
        if (!live()) return;
        this._emit('error', new PresenceError('token', error && error.message));
        setTimeout(ask, this._options.timeout); // the old token still holds for a while
      };
      ask();
    }

    // ---- statuses

    _learn(status) {
      const { user, version } = status;
      if (!this._watched.has(user) && user !== this.user) return;
      const known = this._known.get(user) || { status: {}, newest: -1 };
      // Version 0, nothing is remembered, is no older news: it is shown, once.
      if (version ? version <= known.newest : known.status.version === 0) return;
      this._known.set(user, { status, newest: Math.max(version, known.newest) });
      this._emit('status', status);
      this._show(user, [...(this._watched.get(user) || [])]);
    }

    _show(user, subscriptions) {
      for (const subscription of subscriptions) {
        const current = this._watched.get(user);
        if (current && current.has(subscription)) call(subscription.callback, this.get(user));
      }
    }

    /** Tells the hub whom we watch, once for all calls of a turn. */
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
    }

    _subscribe(users, live) {
      const failed = (error) => live() && this._emit('error', new PresenceError(error.code, error.message, error));
      this._request('subscribe', { users }).then(
        (ok) => (ok.errors || []).forEach(failed),
        (error) => {
          failed(error);
          if (!live() || error.code === 'bad_request') return;
          users.forEach((user) => this._told.delete(user));
          setTimeout(() => live() && this._sync(), this._options.minDelay * (1 + Math.random()));
        }
      );
    }

    // ---- the page

    _listen(method) {
      if (!this._window.document) return;
      for (const type of ['pagehide', 'pageshow', 'online', 'visibilitychange']) {
        this._window[method](type, this._onPage);
      }
    }

    _page({ type, persisted }) {
      if (this.state === 'disconnected') return;
      if (type === 'pagehide') {
        // A browser may keep a page that was left, its socket open and answering.
        this._drop(new PresenceError('disconnected'));
        this._resting = true;
        this._setState('connecting');
      } else if (type === 'pageshow' ? persisted : this._window.document.visibilityState === 'visible') {
        this._probe();
      }
    }

    /** A dead connection does not tell: it is asked, when it may have died. */
    _probe() {
      if (this._resting) return this._open();
      if (this.state !== 'connected' || this._probing) return;
      const live = this._live();
      const done = () => (this._probing = false);
      this._probing = true;
      this._request('ping').catch((error) => error.code === 'timeout' && live() && this._retry(error, 0)).then(done);
    }

    // ---- kept over reloads: {session}, {kicked} or {}

    _recall() {
      return JSON.parse(this._kept.get(this._key) || '{}');
    }

    _keep(what) {
      this._kept.set(this._key, JSON.stringify(what));
    }

    // ---- events

    _setState(state, code) {
      const previous = this.state;
      this.state = state;
      if (state !== previous) this._emit('state', { state, previous, code });
    }

    _emit(event, value) {
      const life = this._life;
      for (const listener of [...(this._listeners.get(event) || [])]) {
        if (life === this._life) call(listener, value);
      }
    }
  }

  // The one place that makes a socket.
  function dial(options, on) {
    const socket = new (options.WebSocket || root.WebSocket)(options.url, 'presence-hub.v1');
    const gone = new Promise((resolve) => {
      socket.onclose = ({ code, reason }) => {
        resolve();
        on.close(code, reason);
      };
    });
    socket.onopen = on.open;
    socket.onerror = () => {}; // Node's ws throws what nobody hears
    socket.onmessage = ({ data }) => on.message(data);
    return { send: (text) => socket.send(text), close: () => socket.close(), gone };
  }

  const pageMemory = {};

  // Where storage is refused, things are kept as long as the page.
  function keeper(options, kind, memory) {
    const attempt = (action) => {
      try {
        return action(kind in options ? options[kind] : root[kind]);
      } catch (_) {
        return null;
      }
    };
    return {
      get: (key) => attempt((storage) => storage.getItem(key)) || memory[key],
      set: (key, value) => {
        memory[key] = value;
        attempt((storage) => storage.setItem(key, value));
      },
    };
  }

  function deviceId(kept) {
    const id = kept.get('presence-hub device') || Date.now().toString(36) + Math.random().toString(36).slice(1);
    kept.set('presence-hub device', id);
    return id;
  }

  function deferred(ms, onTimeout) {
    const it = {};
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

  // Nobody need catch what the events tell as well.
  function settled(promise) {
    promise.catch(() => {});
    return promise;
  }

  // A listener that throws must not stop the client.
  function call(listener, value) {
    try {
      listener(value);
    } catch (error) {
      setTimeout(() => {
        throw error;
      }, 0);
    }
  }

  function batches(users) {
    const all = [];
    for (let i = 0; i < users.length; i += BATCH) all.push(users.slice(i, i + BATCH));
    return all;
  }

  return { PresenceClient, PresenceError };
});
