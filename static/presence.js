// See README.md, presence.d.ts and presence.internals.d.ts.
'use strict';

/** @import * as In from './presence.internals' */
{
/** @type {any} */
const root = typeof globalThis === 'object' ? globalThis : typeof window === 'object' ? window : {};
const TIMES = { minDelay: 500, maxDelay: 20000, timeout: 10000, probeTimeout: 5000, heartbeat: 20000, staleAfter: 5000 };
/** @type {Record<string, number>} */
const CODES = { token_expired: 4001, rate_limited: 4004, unavailable: 4006, kicked: 4501, superseded: 4503, login_conflict: 4505 };
/** @type {Record<string, number>} */
const UNITS = { s: 1e3, m: 6e4, h: 36e5 };
const INPUTS = ['pointerdown', 'pointermove', 'keydown', 'touchstart', 'wheel', 'scroll'];
const pageMemory = {};
/** @type {Record<string, In.Rule>} */
const RULES = {
  url: ['an address such as "wss://hub.example.com/ws"', /^string wss?:\/\/\S+$/i],
  getToken: ['a function', /^function/],
  token: ['a JWT as text', /^string \s*[\w.-]+\s*$/],
  platform: ['android|ios|ipad|windows|mac|linux|web|miniprogram'],
  device: ['text of 1 to 128 bytes', /^string [^]{1,128}$/],
  app: ['text of at most 256 bytes', /^string [^]{0,256}$/],
  user: ['text', /^string/],
  away: ['{ after, hidden } or false', /^(object|boolean false)/],
  adapter: ['', /^/],
  WebSocket: ['a function', /^function/],
};
for (const name of Object.keys(TIMES)) RULES[name] = ['milliseconds, 1 to 99999999', /^number [1-9]\d{0,7}\b/];

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
      check('option name', [Object.keys(RULES).join('|')], name);
      if (value != null || name === 'url') given[name] = check(`option ${name}`, RULES[name], value);
    }
    const mini = typeof wx === 'object' ? wx : typeof my === 'object' ? my : typeof tt === 'object' ? tt : root;
    const place = given.adapter || (root.document ? root : mini);
    const Socket = given.WebSocket || place.WebSocket;
    if (given.adapter) check('option WebSocket, or adapter.connectSocket,', ['a function', /^function/], place.connectSocket || Socket);
    const away = given.away === false ? {} : Object.assign({ after: '5m', hidden: '1m' }, given.away);
    for (const [name, value] of Object.entries(away)) {
      check('option name', ['after|hidden'], name);
      away[name] = parseInt(check(`option ${name}`, ['text such as "90s" or "5m"', /^string [1-9]\d{0,3}[smh]$/], value)) * UNITS[value.slice(-1)];
    }
    given.away = place.document ? away : {};
    const host = place.connectSocket ? miniProgram(place) : page(place, Socket);
    const platform = given.platform || host.platform;
    const kept = keeper(host.local, 'presence-hub device', pageMemory);
    const device = given.device || tried(() => check('', RULES.device, kept.get())) || Date.now().toString(36) + Math.random().toString(36).slice(1);
    if (!given.device) kept.set(device);
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
      _kept: keeper(host.tab, ['presence-hub', given.url, given.user, platform, device].join(' ')),
      _token: given.token,
      _listeners: new Map(),
      _watched: new Map(),
      _contacts: new Set(),
      _listed: new Map(),
      _known: new Map(),
      _awaited: [],
      _lastId: 0,
      _attempts: 0,
      _at: { name: 'idle', pending: new Map() },
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
    if (kicked) this._keep({});
    this._hidden = null;
    if (this.state === 'disconnected') {
      if (this._options.getToken) this._token = null;
      this._attempts = 0;
      this._begin();
    }
    if (this._at.name === 'waiting') this._wake();
    return this._ready();
  },

  loginHere() {
    if (this.state === 'disconnected') this._keep({});
    return this.connect();
  },

  logout() {
    const { gone, pending } = this._at;
    const closed = timed(this._options.probeTimeout, (resolve) => Promise.resolve(gone).then(resolve));
    if (pending.size || this.state === 'connected') settled(this._ask('logout'));
    this._watched = new Map(); // so no older event is told
    this._contacts = new Set();
    this._listed = new Map();
    this._known = new Map();
    this._keep({ kicked: this._recall().kicked });
    this._setStale(false);
    this._enter('idle', { trouble: new PresenceError('logged_out') });
    return closed.catch(() => {});
  },

  destroy() {
    return this.logout();
  },

  subscribe(users, callback) {
    check('callback', ['a function', /^function/], callback);
    const subscription = callback.bind(null);
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

  contacts(callback) {
    check('callback', ['a function', /^function/], callback);
    const contact = callback.bind(null);
    this._contacts.add(contact);
    this._sync();
    Promise.resolve().then(() => this._tell(this._at.whole && this._list(), [contact]));
    return () => {
      this._contacts.delete(contact);
      this._sync();
    };
  },

  get(user) {
    return this._known.get(user) || null;
  },

  query(users) {
    return attempt(() => Promise.all(batches(list(users)).map((users) => this._request('query', { users })))).then((answers) => ({
      statuses: [].concat(...answers.map((ok) => ok.statuses)),
      errors: [].concat(...answers.map((ok) => ok.errors || [])),
    }));
  },

  setStatus(custom) {
    return attempt(() => this._request('set', { custom: custom && check('custom', RULES.app, custom) })).then((ok) => ok.status);
  },

  hide(hidden = true) {
    return attempt(() => this._request('set', { hidden: check('hidden', ['true or false', /^boolean/], hidden) })).then((ok) => ok.status);
  },

  block(users) {
    return attempt(() => this._request('block', { users: list(users) })).then((ok) => ok.count);
  },

  unblock(users) {
    return attempt(() => this._request('unblock', { users: list(users) })).then((ok) => ok.count);
  },

  blocked() {
    return this._request('blocked').then((ok) => ok.users);
  },

  sessions() {
    return this._request('sessions').then((ok) => ok.sessions);
  },

  kick(session) {
    return this._request('kick', { session });
  },

  background(reason = 'hide') {
    this._hidden = reason;
    if (this.platform !== 'web') {
      this._touched = Date.now();
      this._idle = this._said = true;
    }
    return settled(this._request('background', { reason }).then((ok) => ok.deadline));
  },

  foreground() {
    this._hidden = null;
    if (this.platform !== 'web') this._idle = false;
    this._wake();
    return /idle|online/.test(this._at.name) ? settled(this._request('foreground', {}, () => this.platform === 'web' || (this._said = false))) : this._ready();
  },

  refresh(token) {
    return settled(attempt(() => {
      const it = check('token', RULES.token, token).trim();
      const use = () => void (this._token = it);
      return this.state === 'connected' ? this._request('refresh', { token: it }, use) : use();
    }));
  },

  on(event, listener) {
    check('event', ['state|session|status|stale|kicked|superseded|tokenExpiring|unwatched|error'], event);
    check('listener', ['a function', /^function/], listener);
    this._listeners.set(event, new Set(this._listeners.get(event)).add(listener));
    return () => this.off(event, listener);
  },

  off(event, listener) {
    (this._listeners.get(event) || new Set()).delete(listener);
  },

  _enter(name, own, event, value) {
    const left = this._at;
    const { state: previous, _watched } = this;
    const at = (this._at = Object.assign(left === own ? left : { pending: new Map(), told: new Set(), newest: new Map() }, own, { name }));
    clearTimeout(left.timer);
    if (at !== left) {
      this.session = null;
      if (left.link) left.link.close();
      if (left.tabs) left.tabs.close();
      left.pending.forEach((request) => request.reject(at.trouble));
      if (name === 'idle') this._awaited.splice(0).forEach((request) => request.reject(at.trouble));
    }
    if ((name === 'idle') !== (left.name === 'idle')) this._listen(name !== 'idle');
    this.state = name === 'online' ? 'connected' : /idle|hidden/.test(name) ? 'disconnected' : 'connecting';
    if (this.state === 'connecting') this._suspect();
    if (this.state !== previous) this._emit('state', { state: this.state, previous, code: at.code });
    if (_watched === this._watched) this._emit(event, value);
    return at;
  },

  _during(action) {
    const at = this._at;
    return (value) => (at === this._at ? action.call(this, value) : undefined);
  },

  _begin(resume, trouble) {
    if (this._hidden && this.platform === 'miniprogram') return this._enter('hidden', { trouble });
    const at = this._enter('token', { trouble, resume, reused: this._token, patient: this._at.name === 'patient' });
    if (at !== this._at) return;
    Promise.resolve(this._token || this._askToken(this._token === ''))
      .then(this._during(this._dial))
      .catch(this._during((error) => this._retry(error instanceof PresenceError ? error : new PresenceError(at.name === 'token' ? 'token' : 'transport', error))));
  },

  _askToken(expired) {
    const { getToken, token, timeout } = this._options;
    return timed(timeout, (resolve, reject) => attempt(() => (getToken ? getToken({ expired }) : token)).then(resolve, reject), undefined, 'getToken')
      .then((answer) => check('the answer of getToken, or option token,', RULES.token, answer).trim());
  },

  _dial(token) {
    const { url, timeout } = this._options;
    const at = this._enter('login', this._at);
    this._token = token;
    const closed = this._during(this._closed);
    at.timer = setTimeout(() => closed({ reason: 'timeout', errMsg: `no answer within ${timeout} ms` }), timeout);
    return (at.gone = new Promise((resolve) => {
      at.link = this._host.dial(url, timeout, {
        open: this._during(this._login),
        message: this._during(this._receive),
        close: (event) => (resolve(0), closed(event)),
      });
    }));
  },

  _login() {
    const at = this._at;
    this._look();
    const { platform, device } = this;
    const resume = this._recall().session || at.resume;
    const idle_ms = resume != null && this._idle ? Date.now() - this._touched : undefined;
    at.opened = true;
    this._ask('login', { token: this._token, platform, device, app: this._options.app, resume, idle_ms }, (ok) => {
      this._attempts = 0;
      at.answer = at.reused = ok;
      const { user, session, resumed } = ok;
      if (idle_ms != null) this._said = true;
      else if (!resumed) this._idle = this._said = false;
      Object.assign(this, { user, session });
      this._keep({ session });
      this._awaited.splice(0).forEach((it) => it.resolve(ok));
      this._enter('online', at, 'session', ok);
      if (at === this._at) {
        if (this._options.away.after) at.tabs = tried(() => Object.assign(new this._host.Channel('presence-hub'), { onmessage: this._looks }));
        if (this._hidden) this.background(this._hidden);
        this._look();
      }
      this._sync();
    }).catch((error) => (at.refusal = error));
  },

  _closed({ code, reason = '', errMsg = reason } = {}) {
    const { url, getToken, minDelay } = this._options;
    const { answer, opened, refusal, reused, patient, probing, comeBackMs } = this._at;
    const advice = `${url} cannot be reached${errMsg && ` (${errMsg})`}: check this address, that the hub runs${this._host.advice}`;
    const error = refusal || new PresenceError(opened ? reason || 'disconnected' : 'unreachable', opened ? errMsg : advice);
    error.close = +code || (refusal ? CODES[error.code] || 4502 : undefined);
    const { close } = error;
    const expired = close === 4001;
    const again = close === 4502 && (reused || (error.code === 'token_revoked' && !patient));
    if (expired && !getToken) error.message = 'the token has expired: use a new token, or option getToken';
    if (getToken && (expired || again)) this._token = '';
    else if (expired || (close >= 4500 && close < 5000)) return this._stop(error);
    if (close === 4007) this._keep({});
    if (again && !reused) this._retry(error, 6000 + Math.random() * minDelay, 'patient');
    else this._retry(error, again ? Math.random() * minDelay : probing || (expired && answer) ? comeBackMs || 0 : comeBackMs);
  },

  _retry(error, delay, name = 'waiting') {
    const { minDelay, maxDelay } = this._options;
    if (delay == null) delay = Math.min(maxDelay, minDelay + Math.random() * minDelay * 2 ** this._attempts++);
    const timer = setTimeout(() => this._begin('', error), Math.min(delay, 1e9));
    this._enter(name, { trouble: error, code: error.close, timer }, this.state === 'connected' ? '' : 'error', error);
  },

  _stop(error, notice) {
    const { close, message } = error;
    const kicked = close === 4501 ? notice || { reason: 'session_over', by: null, at: null, message } : undefined;
    if (/450[1235]/.test(close)) this._keep({ kicked });
    const at = this._enter('idle', { trouble: error, code: close }, kicked ? 'kicked' : close === 4503 ? 'superseded' : 'error', kicked || error);
    if (at === this._at) this._setStale(true);
  },

  _ready() {
    const { answer } = this._at;
    if (answer) return Promise.resolve(answer);
    return settled(timed(this._options.timeout, (resolve, reject) => this._awaited.push({ resolve, reject }), () => this._at.trouble));
  },

  _request(type, fields, onOk) {
    return this.state === 'connected' ? this._ask(type, fields, onOk) : Promise.reject(new PresenceError('disconnected'));
  },

  _ask(type, fields, onOk = () => {}) {
    const id = ++this._lastId;
    const { link, pending } = this._at;
    const { timeout, probeTimeout } = this._options;
    return timed(type === 'ping' ? probeTimeout : timeout, (resolve, reject) => {
      pending.set(id, { resolve, reject, onOk });
      link.send(JSON.stringify(Object.assign({ type, id }, fields)));
    }, () => this._wake());
  },

  _receive(text) {
    const message = parsed(text);
    switch (message.type) {
      case 'reply':
        return this._reply(message);
      case 'status':
        delete message.type;
        if (this._at.listing && message.user !== this.user && this._listed.get(message.user) !== false) this._listed.set(message.user, this._at);
        return this._learn(message);
      case 'watch_list':
        return this._listChanged(message);
      case 'unwatched':
        return this._unwatched(message);
      case 'kicked':
        return this._stop(new PresenceError('kicked', Object.assign({ close: 4501 }, message)), message);
      case 'closing':
        if (message.reconnect_ms >= 0) this._at.comeBackMs = message.reconnect_ms;
        return;
      case 'token_expiring':
        this._emit('tokenExpiring', message);
        return this.session && this._renew();
      case 'error':
        return this._report(message.error);
    }
  },

  _reply({ id, ok, error }) {
    const { pending } = this._at;
    const request = pending.get(id);
    if (!request) return;
    pending.delete(id);
    if (error) return request.reject(new PresenceError(error.code, error));
    const learn = this._during((status) => this._learn(status, true));
    request.resolve(ok);
    request.onOk(ok);
    [].concat(ok.status || [], ok.statuses || []).forEach(learn);
  },

  _renew() {
    const at = this._at;
    const { getToken, timeout } = this._options;
    const renew = () => this._askToken(true)
      .then(this._during(this.refresh))
      .catch(this._during((error) => (this._report(error, 'token'), this._renew())));
    clearTimeout(at.timer);
    if (at.renewed) at.timer = setTimeout(renew, timeout);
    else if (getToken) at.renewed = renew();
  },

  _report(error, code = error.code) {
    this._emit('error', new PresenceError(code, error));
  },

  _listChanged({ added, removed }) {
    const { _listed, _at } = this;
    for (const user of removed) {
      _listed.set(user, false);
      this._forget(user);
    }
    for (const { user } of added) _listed.set(user, _at);
    added.forEach(this._during((status) => this._learn(status, true, true)));
    this._tell(_at.whole && { added: added.map(({ user }) => this.get(user)), removed });
  },

  _unwatched({ users }) {
    for (const user of users) {
      this._at.told.delete(user);
      this._watched.delete(user);
      this._forget(user);
    }
    this._emit('unwatched', { users });
  },

  _forget(user) {
    if (!this._watched.has(user) && user !== this.user && !this._listed.get(user)) this._known.delete(user);
  },

  _list() {
    const known = [...this._listed].map(([user, on]) => on && this.get(user));
    return { whole: true, statuses: known.filter((status) => status && status.state !== 'Offline') };
  },

  _readList(after) {
    const { _listed, _at } = this;
    if (!after) _listed.forEach((on, user) => on || _listed.delete(user));
    return this._request('subscribe', { watch_list: true, after }, ({ statuses }) => {
      for (const { user } of statuses) if (_listed.get(user) !== false) _listed.set(user, _at);
    }).then(({ next }) => {
      if (_listed !== this._listed) return;
      if (next) return this._readList(next);
      for (const [user, on] of _listed) {
        const known = on && on !== _at && this.get(user);
        if (known && known.state !== 'Offline') this._learn({ user, state: 'Offline', platforms: [], custom: null, since: null, last_seen: null, version: 0, away: false }, true);
      }
      _at.whole = true;
      this._tell(this._list());
    });
  },

  _tell(news, contacts) {
    for (const contact of news ? new Set(contacts || this._contacts) : []) {
      if (this._contacts.has(contact)) call(contact, Object.assign({ whole: false, statuses: [], added: [], removed: [] }, news));
    }
  },

  _learn(status, asked, quiet) {
    const { user, version } = status;
    const { newest, whole } = this._at;
    const on = this._listed.get(user);
    if (!this._watched.has(user) && user !== this.user && !on) return;
    const last = newest.get(user) || -1;
    if (asked ? version && version < last : version <= last) return;
    newest.set(user, Math.max(version, last));
    if (JSON.stringify(this.get(user)) === JSON.stringify(status)) return;
    this._known.set(user, status);
    this._emit('status', status);
    this._show(user, new Set(this._watched.get(user)));
    this._tell(on && whole && !quiet && { statuses: [status] });
  },

  _show(user, subscriptions) {
    for (const subscription of subscriptions) {
      if (new Set(this._watched.get(user)).has(subscription)) call(subscription, this.get(user));
    }
  },

  _sync() {
    if (this._syncing) return;
    this._syncing = true;
    Promise.resolve().then(() => {
      this._syncing = false;
      this._watched.forEach((subscriptions, user) => subscriptions.size || this._watched.delete(user));
      const at = this._at;
      if (!this._contacts.size) {
        if (at.listing) settled(this._request('unsubscribe', { all: true }));
        if (at.listing) Object.assign(at, { listing: null, whole: false, told: new Set() });
        this._listed = new Map();
      }
      this._known.forEach((_, user) => this._forget(user));
      if (this.state !== 'connected') return;
      const gone = [...at.told].filter((user) => !this._watched.has(user));
      const added = [...this._watched.keys()].filter((user) => !at.told.has(user));
      at.told = new Set(this._watched.keys());
      for (const users of batches(gone)) settled(this._request('unsubscribe', { users }));
      const report = this._during(this._report);
      /** @param {() => void} undo */
      const failed = (undo) => this._during((error) => {
        report(error);
        if (error.code === 'bad_request') return;
        undo();
        setTimeout(this._during(this._sync), this._options.minDelay * (1 + Math.random()));
      });
      const asked = batches(added).map((users) => this._request('subscribe', { users }).then(
        (ok) => [].concat(ok.errors || []).forEach(report),
        failed(() => users.forEach((user) => at.told.delete(user)))
      ));
      if (this._contacts.size) asked.push(at.listing = at.listing || this._readList().catch(failed(() => (at.listing = null))));
      Promise.all(asked).then(this._during(() => {
        if (at.told.size >= this._watched.size && (at.listing || !this._contacts.size)) this._setStale(false);
      }));
    });
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
    let ticked = (this._touched = Date.now());
    this._idle = host.tab ? undefined : false;
    this._said = undefined;
    clearInterval(this._ticks);
    this._ticks = on && setInterval(() => {
      const since = Date.now() - ticked;
      if (this.session && !this._hidden && (since < 0 || since > host.trustMs)) this._wake();
      ticked = Date.now();
      this._at.saying = undefined;
      this._look();
    }, this._options.heartbeat);
    const looks = (this._looks = this._looks || ((event) => this._look(event)));
    this._events = this._events || Object.entries(host.events(this));
    for (const [name, listener] of this._events) host.listen(on, name, listener);
    if (this._options.away.after) INPUTS.forEach((name) => host.listen(on, name, looks));
  },

  _look(event) {
    const at = this._at;
    const { after, hidden } = this._options.away;
    const now = Date.now();
    if (event || now < this._touched) this._touched = now;
    if (event || now - this._touched >= (after && this._host.hidden() ? hidden : after)) this._idle = !event;
    if (event && event.type !== 'message' && at.tabs && !(now - at.shared < Math.min(after, hidden) / 2)) at.tabs.postMessage((at.shared = now));
    const { _idle, _touched } = this;
    if (!this.session || _idle === this._said || _idle === at.saying || (_idle && now - at.idled < 3e4)) return;
    at.saying = _idle;
    if (_idle) at.idled = now;
    settled(this._request(_idle ? 'idle' : 'active', _idle ? { for_ms: now - _touched } : {}, () => {
      this._said = _idle;
      this._look();
    }));
  },

  _wake() {
    const at = this._at;
    if (/waiting|hidden/.test(at.name)) return this._begin('', at.trouble);
    if (at.name !== 'online' || at.probing) return;
    at.probing = true;
    this._suspect();
    this._ask('ping')
      .then(() => this._sync(), this._during((error) => error.code === 'timeout' && this._retry(error, 0)))
      .then(() => (at.probing = false));
  },

  _recall() {
    const { session, kicked } = parsed(this._kept.get());
    return { session: tried(() => check('', ['', /^string \w{1,99}$/], session)) || '', kicked: Object(kicked).reason && kicked };
  },

  _keep(what) {
    this._kept.set(JSON.stringify(what));
  },

  _emit(event, value) {
    const { _watched } = this;
    for (const listener of new Set(this._listeners.get(event))) {
      if (_watched === this._watched) call(listener, value);
    }
  },
};

Object.assign(PresenceClient.prototype, methods);

/** @type {In.Tools} */
const { check, tried, page, miniProgram, keeper, timed, attempt, settled, call, parsed, list, batches } = {
  check(what, [expected, pattern = RegExp(`^string (${expected})$`)], value) {
    if (pattern.test(tried(() => `${typeof value} ${unescape(encodeURIComponent(value))}`) || '')) return value;
    const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
    throw new TypeError(`PresenceClient: ${what} is ${shown.slice(0, 130)}; expected ${expected}`);
  },

  page: (window, Socket) => ({
    platform: 'web',
    trustMs: 70000,
    advice: window.location ? `, and that server.allowed_origins has "${window.location.origin}"` : '',
    tab: () => window.sessionStorage,
    local: () => window.localStorage,
    hidden: () => window.document.visibilityState === 'hidden',
    Channel: window.BroadcastChannel,
    events: (client) => ({
      pagehide: () => client.state === 'disconnected' || client._enter('waiting', { trouble: new PresenceError('disconnected') }),
      pageshow: ({ persisted }) => persisted && client._wake(),
      online: () => client._wake(),
      offline: () => client._suspect(),
      resume: () => client._wake(),
      visibilitychange: () => {
        client._touched = Date.now();
        if (window.document.visibilityState === 'visible') client._wake();
      },
    }),
    listen(on, name, listener) {
      const method = on ? 'addEventListener' : 'removeEventListener';
      if (window[method]) window[method](name, listener, { capture: true, passive: true });
    },
    dial(url, timeout, { open, message, close }) {
      check('option WebSocket, or adapter.connectSocket,', ['a function', /^function/], Socket);
      const socket = new Socket(url, 'presence-hub.v1');
      let errMsg = '';
      socket.onopen = open;
      socket.onmessage = ({ data }) => message(data);
      socket.onerror = ({ message }) => (errMsg = message);
      socket.onclose = ({ code, reason }) => close({ code, reason, errMsg });
      return socket;
    },
  }),

  miniProgram(wx) {
    const alipay = typeof my === 'object' && wx === my;
    let ended = Promise.resolve();
    return {
      platform: 'miniprogram',
      trustMs: -1,
      advice: '',
      local: () => ({
        getItem: (key) => (alipay ? wx.getStorageSync({ key }).data : wx.getStorageSync(key)),
        setItem: (key, data) => (alipay ? wx.setStorageSync({ key, data }) : wx.setStorageSync(key, data)),
      }),
      events: (client) => ({
        AppHide: (event) => client.background(Object(event).reason === 0 ? 'exit' : 'hide'),
        AppShow: () => client.foreground(),
        NetworkStatusChange: ({ isConnected }) => (isConnected ? client._wake() : client._suspect()),
      }),
      listen(on, name, listener) {
        const method = (on ? 'on' : 'off') + name;
        if (wx[method]) wx[method](listener);
      },
      dial(url, timeout, { open, message, close }) {
        let over = false;
        let done = close;
        const opening = ended.then(() => over ? Promise.reject() : wx.connectSocket({ url, protocols: ['presence-hub.v1'], multiple: true, timeout, fail: done }));
        ended = timed(timeout, (resolve) => (done = (event) => (resolve(0), close(event)))).catch(() => {});
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

  keeper: (storage, key, memory = {}) => ({
    get: () => memory[key] || tried(() => storage().getItem(key)),
    set(value) {
      memory[key] = value;
      tried(() => storage().setItem(key, value));
    },
  }),

  timed: (ms, start, late = () => {}, who = 'the hub') =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(late() || new PresenceError('timeout', `${who}: no answer within ${ms} ms`)), ms);
      start((value) => (clearTimeout(timer), resolve(value)), (error) => (clearTimeout(timer), reject(error)));
    }),

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

  list: (users) => [...new Set([].concat(users).filter((user) => user != null).map((user) => String(check('users', ['user ids', /^(string|number)/], user))))],

  batches: (users) => (users.length ? [users.slice(0, 200), ...batches(users.slice(200))] : []),
};

root.PresenceHub = { PresenceClient, PresenceError };
if (typeof module === 'object' && module.exports) module.exports = root.PresenceHub;
}
