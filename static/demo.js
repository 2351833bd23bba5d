// The demo: one client of the SDK, and a button for everything that may happen to it.
//
// The address may fill in the form and log in: ?user=alice&watch=bob,carol&platform=web&device=d1&ttl=75s&auto=1#key=…

import { locale, named, speak, t } from './i18n.js';
import { PresenceClient } from './presence.mjs';
/** @import { Device, Kicked, Status, Terminal } from './presence.js' */
import { absence, badge, byId, clock, el, foreign, keepKey, keepTime, keptKey, moment, platformName, presenceBadge } from './ui.js';

const PLATFORMS = ['web', 'miniprogram', 'android', 'ios', 'ipad', 'windows', 'mac', 'linux'];
/** What the address may fill in. */
const FIELDS = { user: 'name', watch: 'watch', platform: 'platform', device: 'device', ttl: 'ttl' };
const LOG_LINES = 200;
/** Who is who at first: whoever opens the page needs to type nothing. */
const NAMES = ['alice', 'bob'];
/** Less time than this between the last word and the end is no silence. */
const SILENCE_MS = 1000;

/** @type {?PresenceClient} */
let client = null;
/** Whom the client watches, and how it ends. @type {Map<string, () => void>} */
const people = new Map();
/** What was last told of each, for what changed. @type {Map<string, Status>} */
const told = new Map();
/** @type {Terminal[]} */
let sessions = [];
/** Whom the user blocks. @type {string[]} */
let blocked = [];
/** Whether the hub lets users hide and block. */
let selfService = true;
/** When the hub will notice that this connection was cut off. @type {?number} */
let cutUntil = null;
/** @type {?{ key: string, values: object, message?: string | false, useHere: boolean }} */
let notice = null;
/** The newest first. @type {{ at: number, kind: string, text: () => string, data: object }[]} */
const log = [];

// ---- the client

function newClient() {
  const user = byId('name').value.trim();
  const it = new PresenceClient({
    url: new URL('../ws', location.href).href.replace(/^http/, 'ws'),
    user,
    platform: byId('platform').value,
    device: byId('device').value.trim() || undefined,
    app: 'demo',
    getToken: () => newToken(user).catch((error) => {
      if (error.refused) giveUp(error);
      throw error;
    }),
  });

  it.on('state', ({ state }) => {
    note('state', 'log_state', () => ({ state: t(`state_${state}`) }));
    if (state === 'connected') notice = null;
    if (state !== 'connected') sessions = [];
    // It was noticed.
    cutUntil = null;
    render();
  });
  it.on('session', ({ user, session, resumed, kicked }) => {
    note('session', resumed ? 'log_resumed' : 'log_session', () => ({ user, session }));
    if (kicked.length) note('kicked-others', 'log_kicked_others', () => ({ others: kicked.map(deviceName).join(', ') }));
    refreshSessions();
    refreshBlocked();
  });
  it.on('status', (status) => {
    const { user, state } = status;
    const before = told.get(user);
    told.set(user, status);
    noteText('status', () => change(status, before), { user, state });
    if (user === it.user) refreshSessions();
    render();
  });
  it.on('kicked', ({ reason, by, message }) => {
    note('kicked', 'log_kicked', () => ({ reason: named('kick_reason_', reason) }));
    const known = ['login_elsewhere', 'same_device', 'own_request', 'admin'].includes(reason);
    tell(known ? `notice_${reason}` : 'notice_other', { by: by ? deviceName(by) : '?' }, { message: reason === 'admin' && message, useHere: true });
  });
  it.on('superseded', () => {
    note('superseded', 'log_superseded');
    tell('notice_superseded', {}, { useHere: true });
  });
  it.on('stale', (stale) => {
    note(stale ? 'stale' : 'fresh', stale ? 'log_stale' : 'log_fresh');
    render();
  });
  it.on('unwatched', ({ users }) => {
    note('unwatched', 'log_unwatched', () => ({ users: users.join(', ') }));
    users.forEach(unwatch);
  });
  it.on('tokenExpiring', () => note('expiring', 'log_expiring'));
  it.on('error', (error) => {
    failed(error);
    if (error.code === 'login_conflict') tell('notice_login_conflict', { by: (error.devices ?? []).map(deviceName).join(', ') });
    else if (it.state === 'disconnected') tell('notice_error', { message: error.message });
  });
  return it;
}

/** @param {{ force?: boolean }} [how] */
function start(how) {
  keepKey('dev-key', byId('key').value);
  client?.logout();
  people.clear();
  told.clear();
  client = newClient();
  Object.assign(globalThis, { presence: client }); // to play with in the console
  notice = null;
  namesIn(byId('watch').value).forEach(watch);
  keepForm(true);
  client.connect(how);
  render();
}

/** @param {string} user */
function watch(user) {
  if (client && !people.has(user)) people.set(user, client.subscribe(user, () => {}));
  peopleChanged();
}

/** @param {string} user */
function unwatch(user) {
  people.get(user)?.();
  people.delete(user);
  told.delete(user);
  peopleChanged();
}

/** A reload goes on watching them. */
function peopleChanged() {
  byId('watch').value = [...people.keys()].join(', ');
  keepForm(true);
  render();
}

/** Asks once, without watching. @param {string} user */
async function ask(user) {
  const { statuses, errors } = await using().query(user);
  for (const { user, state } of statuses) note('asked', 'log_asked', () => ({ user, state: t(state) }), { user, state });
  for (const { user, code } of errors) note('error', 'log_error', () => ({ message: `${user}: ${named('refused_', code)}` }));
}

/** @param {string} user @returns {Promise<string>} */
async function newToken(user) {
  const { token } = await development('token', { user, platform: byId('platform').value, ttl: byId('ttl').value });
  return token;
}

/** @param {'token' | 'ignore'} call @param {object} body */
async function development(call, body) {
  const answer = await fetch(`/dev/${call}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Dev-Key': byId('key').value },
    body: JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(json.error?.message ?? `HTTP ${answer.status}`), { refused: answer.status < 500 });
  return json;
}

/** Without a token there is no point in trying on. @param {Error} error */
function giveUp(error) {
  client?.logout();
  keepForm(false);
  tell('notice_token', { message: error.message });
}

/** The client that the buttons are for. */
function using() {
  if (!client) throw new Error('not logged in');
  return client;
}

function refreshSessions() {
  using().sessions().then(
    (list) => {
      sessions = list;
      render();
    },
    () => {}, // not connected any more: the state tells
  );
}

function refreshBlocked() {
  using().blocked().then(
    (users) => {
      [selfService, blocked] = [true, users];
      render();
    },
    (error) => {
      // Not connected any more is told by the state.
      if (error.code === 'forbidden') [selfService, blocked] = [false, []];
      render();
    },
  );
}

/** @param {string} user */
const block = (user) => using().block(user).then(() => note('blocked', 'log_blocked', () => ({ user })), failed).then(refreshBlocked);
/** @param {string} user */
const unblock = (user) => using().unblock(user).then(() => note('unblocked', 'log_unblocked', () => ({ user })), failed).then(refreshBlocked);

/** Does what a button says, and tells how it went. @param {string} id @param {() => Promise<unknown>} action */
function act(id, action) {
  byId(id).addEventListener('click', () => action().then(() => note(id, `log_${id}`), failed));
}

/** @param {Error} error */
const failed = (error) => note('error', 'log_error', () => ({ message: error.message }));
/** @param {?string} text */
const setCustom = (text) => using().setStatus(text).catch(failed);

// ---- the page

/** @param {Device} it */
const deviceName = ({ platform, device }) => `${platformName(platform)} ${device}`;

/** What changed, in words: "bob: Online → Offline, nothing heard for 60 s". @param {Status} now @param {Status} [before] */
function change({ user, state, platforms, custom, since, last_seen, away, hidden }, before) {
  const where = platforms.map(platformName).join(' · ');
  const silence = since !== null && last_seen !== null && since - last_seen >= SILENCE_MS ? since - last_seen : null;
  if (before?.state !== state) {
    const how =
      state === 'Online'
        ? t('change_where', { where })
        : silence !== null
          ? t('change_silent', { time: t('unit_s', { n: Math.round(silence / 1000) }) })
          : t(state === 'PushOnline' ? 'change_push' : 'change_left');
    // At first nothing has changed yet.
    if (!before) return state === 'Online' ? t('log_is_how', { user, state: t(state), how }) : t('log_is', { user, state: t(state) });
    return t('log_change', { user, from: t(before.state), to: t(state), how });
  }
  if (!!before.hidden !== !!hidden) return t(hidden ? 'log_invisible' : 'log_visible');
  if (!!before.away !== !!away) return t(away ? 'log_away' : 'log_back', { user });
  if (before.custom !== custom) return custom === null ? t('log_custom_cleared', { user }) : t('log_custom', { user, custom });
  if (before.platforms.join() !== platforms.join()) return t('log_where', { user, where });
  return t('log_is', { user, state: t(state) });
}

/** @param {string} kind @param {string} key @param {() => object} [values] @param {object} [data] */
function note(kind, key, values = () => ({}), data = {}) {
  noteText(kind, () => t(key, values()), data);
}

/** @param {string} kind @param {() => string} text in the language of the page, whichever that is later @param {object} [data] */
function noteText(kind, text, data = {}) {
  log.unshift({ at: Date.now(), kind, text, data });
  log.length = Math.min(log.length, LOG_LINES);
  renderLog();
}

/** @param {string} key @param {object} values @param {{ message?: string | false, useHere?: boolean }} [more] */
function tell(key, values, { message, useHere = false } = {}) {
  notice = { key, values, message, useHere };
  render();
}

function render() {
  const state = client?.state ?? 'disconnected';
  const connected = state === 'connected';
  byId('state').dataset.state = state;
  byId('state').textContent = t(`state_${state}`);
  byId('session').textContent = client?.session ?? '—';
  byId('fields').disabled = byId('login').disabled = state !== 'disconnected';
  for (const id of ['custom', 'custom-set', 'custom-clear', 'hide', 'exit', 'cut', 'renew', 'refresh', 'who-ask']) byId(id).disabled = !connected;
  for (const id of ['viewer', 'block', 'invisible', 'visible']) byId(id).disabled = !connected || !selfService;
  const isHidden = client?.user != null && !!client.get(client.user)?.hidden;
  byId('invisible').hidden = isHidden;
  byId('visible').hidden = !isHidden;
  byId('seen').dataset.hidden = String(isHidden);
  byId('seen').textContent = !connected ? '—' : t(isHidden ? 'seen_hidden' : 'seen_true');
  byId('self-service-off').hidden = selfService;
  byId('blocked-none').hidden = !selfService || blocked.length > 0;
  show('blocked', blocked, viewerRow);
  // A notice is shown only while the client has ended or waits for a choice: it has no foreground then.
  byId('foreground').disabled = !client || notice !== null;
  byId('logout').disabled = byId('who').disabled = byId('who-watch').disabled = !client;

  byId('notice').hidden = !notice;
  byId('use-here').hidden = !notice?.useHere;
  byId('notice-text').textContent = notice ? [t(notice.key, notice.values), notice.message && t('notice_message', notice)].filter(Boolean).join(' ') : '';

  byId('watched-none').hidden = people.size > 0;
  const stale = client?.stale ?? false;
  byId('stale').hidden = !stale || people.size === 0;
  byId('stale').textContent = stale ? t('stale') : '';
  show('watched', [...people.keys()].map((user) => ({ user, status: client?.get(user) ?? null, stale })), person);
  show('sessions', sessions, sessionRow);
  byId('sessions-none').hidden = sessions.length > 0;
  byId('sessions-table').hidden = sessions.length === 0;
  renderLinks();
  renderCountdown();
}

/** The links to other windows: as somebody else, and as the same user on another device. */
function renderLinks() {
  const user = byId('name').value.trim();
  const [watched] = namesIn(byId('watch').value);
  const somebody = watched && watched !== user ? watched : otherThan(user);
  byId('other').textContent = t('open_as', { user: somebody });
  byId('other').href = link({ user: somebody, watch: user, platform: 'web', auto: '1' });
  byId('another').textContent = user ? t('another_of', { user }) : t('another');
  byId('step-open').textContent = t('demo_step_open', { open: byId('other').textContent, another: byId('another').textContent });
  byId('another').href = link({ user, watch: byId('watch').value, platform: byId('platform').value });
  document.title = user ? `${user} · ${t('demo_title')}` : t('demo_title');
}

/** @param {string} user */
const otherThan = (user) => NAMES.find((name) => name !== user) ?? NAMES[0];

/** @param {Record<string, string>} query */
function link(query) {
  const device = `d-${Math.random().toString(36).slice(2, 8)}`;
  return `demo.html?${new URLSearchParams({ ...query, device })}#key=${encodeURIComponent(byId('key').value)}`;
}

function renderCountdown() {
  const left = cutUntil === null ? null : Math.max(0, Math.ceil((cutUntil - Date.now()) / 1000));
  byId('countdown').hidden = left === null;
  const words = left === null ? '' : left > 0 ? t('countdown', { time: t('unit_s', { n: left }) }) : t('countdown_over');
  if (byId('countdown').textContent !== words) byId('countdown').textContent = words;
}

/** @param {string} text @returns {string[]} */
const namesIn = (text) => text.split(/[,，]/).map((name) => name.trim()).filter(Boolean);

/**
 * Shows a list anew only when it changed, so that nothing loses its focus or is read out again for nothing.
 *
 * @template T
 * @param {string} id
 * @param {T[]} items
 * @param {(item: T) => HTMLElement} make
 */
function show(id, items, make) {
  const list = byId(id);
  const shown = JSON.stringify([items, locale()]);
  if (list.shown === shown) return;
  list.shown = shown;
  list.replaceChildren(...items.map(make));
}

/** @param {{ user: string, status: ?Status, stale: boolean }} it */
function person({ user, status, stale }) {
  const remove = el('button', { 'aria-label': t('unwatch', { user }), on: { click: () => unwatch(user) } }, '×');
  if (stale) {
    const was = status ? t('was', { state: t(status.state) }) : '';
    return el('li', { class: 'stale-person', data: { user, state: '' } },
      el('span', { class: 'who' }, foreign(user)), el('span', { class: 'badge' }, t('unknown')), el('span', { class: 'hint' }, was), remove);
  }
  return el('li', { data: { user, state: status?.state ?? '' } },
    el('span', { class: 'who' }, foreign(user)),
    status ? presenceBadge(status) : el('span', { class: 'hint' }, t('waiting')),
    status && el('span', { class: 'where' }, status.platforms.map(platformName).join(' · ')),
    status?.custom != null ? el('span', { class: 'custom' }, foreign(status.custom)) : null,
    status?.since != null ? el('span', { class: 'hint when' }, moment(status.since)) : null,
    remove,
  );
}

/** @param {string} user */
function viewerRow(user) {
  const words = t('unblock_here', { user });
  return el('li', { data: { user } }, el('span', { class: 'who' }, foreign(user)), el('button', { 'aria-label': words, title: words, on: { click: () => unblock(user) } }, '×'));
}

/** @param {Terminal} it */
function sessionRow({ platform, device, session, state, since, activity, current }) {
  const kick = el('button', { class: 'danger', on: { click: () => kickSession(session) } }, t('kick'));
  return el('tr', { data: { session, current: String(!!current) } },
    el('td', {}, platformName(platform)),
    el('td', {}, foreign(device)),
    el('td', {}, badge(state), activity === 'idle' ? absence('device_idle') : null),
    el('td', {}, moment(since)),
    el('td', {}, current ? el('span', { class: 'hint' }, t('this_one')) : kick),
  );
}

/** @param {string} session */
function kickSession(session) {
  using().kick(session).then(() => note('kick', 'log_kick', () => ({ session })), failed).then(refreshSessions);
}

function renderLog() {
  byId('log').replaceChildren(...log.map(({ at, kind, text, data }) =>
    el('li', { data: { kind, ...data } }, el('span', { class: 'at' }, clock(at)), el('span', {}, foreign(text())))));
}

/** A reloaded tab goes on where it was. @param {boolean} active */
function keepForm(active) {
  const query = new URLSearchParams(Object.entries(FIELDS).map(([name, id]) => [name, byId(id).value]));
  if (active) query.set('auto', '1');
  history.replaceState(null, '', `?${query}`);
}

// ---- begin

byId('platform').append(...PLATFORMS.map((name) => el('option', { value: name })));

const asked = new URLSearchParams(location.search);
for (const [name, id] of Object.entries(FIELDS)) {
  if (asked.has(name)) byId(id).value = asked.get(name);
}
if (!asked.has('user')) [byId('name').value, byId('watch').value] = NAMES;
byId('key').value = keptKey('dev-key');

byId('form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  start({ force: true });
});
byId('name').addEventListener('input', () => {
  // In a second window bob would watch only himself.
  const user = byId('name').value.trim();
  if (byId('watch').value.trim() === user) byId('watch').value = otherThan(user);
});
byId('form').addEventListener('input', render);
byId('who-form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  watch(byId('who').value.trim());
  byId('who').value = '';
});
byId('who-ask').addEventListener('click', () => byId('who').reportValidity() && ask(byId('who').value.trim()).catch(failed));
byId('custom-form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  setCustom(byId('custom').value);
});
byId('custom-clear').addEventListener('click', () => {
  byId('custom').value = '';
  setCustom(null);
});
byId('use-here').addEventListener('click', () => using().loginHere().catch(() => {})); // the events tell
byId('refresh').addEventListener('click', refreshSessions);
byId('viewer-form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  block(byId('viewer').value.trim());
  byId('viewer').value = '';
});
for (const id of ['invisible', 'visible']) byId(id).addEventListener('click', () => using().hide(id === 'invisible').catch(failed));
act('hide', () => using().background('hide'));
act('exit', () => using().background('exit'));
act('foreground', () => using().foreground());
act('renew', async () => using().refresh(await newToken(String(using().user))));
act('cut', async () => {
  const { ends_in_ms } = await development('ignore', { user: using().user, session: using().session });
  cutUntil = Date.now() + ends_in_ms;
  renderCountdown();
});
act('logout', () => {
  const gone = using().logout();
  client = null;
  people.clear();
  told.clear();
  cutUntil = null;
  blocked = [];
  keepForm(false);
  render();
  return gone;
});

setInterval(renderCountdown, 250);
speak(byId('language'), () => {
  for (const option of byId('platform').options) option.textContent = platformName(option.value);
  render();
  renderLog();
});
keepTime();
if (asked.get('auto') && byId('name').value && byId('key').value) start();
