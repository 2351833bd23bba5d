// The demo: one client of the SDK, and a button for everything that may happen to it.
//
// The address may fill in the form and log in: ?user=alice&watch=bob,carol&platform=web&device=d1&auto=1#key=…

import { locale, speak, t } from './i18n.js';
import { PresenceClient } from './presence.mjs';
import { badge, byId, clock, el, foreign, keepKey, keepTime, keptKey, moment } from './ui.js';

const PLATFORMS = ['web', 'miniprogram', 'android', 'ios', 'ipad', 'windows', 'mac', 'linux'];
const FIELDS = ['name', 'watch', 'platform', 'device'];
const FORM = 'presence-hub demo';
const LOG_LINES = 200;

let client = null;
let people = []; // whom the client watches
let sessions = [];
let notice = null; // {key, values, message, useHere}
const log = []; // newest first

// ---- the client

function newClient() {
  const user = byId('name').value.trim();
  people = [...new Set(byId('watch').value.split(/[,，]/).map((name) => name.trim()).filter(Boolean))];
  const it = new PresenceClient({
    url: new URL('../ws', location.href).href.replace(/^http/, 'ws'),
    user,
    platform: byId('platform').value,
    device: byId('device').value.trim() || undefined,
    app: 'demo',
    getToken: () => development('token', { user, platform: byId('platform').value }).then(
      (answer) => answer.token,
      (error) => {
        if (error.refused) giveUp(error);
        throw error;
      },
    ),
  });

  it.on('state', ({ state }) => {
    note('state', 'log_state', () => ({ state: t(`state_${state}`) }));
    if (state === 'connected') notice = null;
    if (state !== 'connected') sessions = [];
    render();
  });
  it.on('session', ({ user, session, resumed, kicked }) => {
    note('session', resumed ? 'log_resumed' : 'log_session', () => ({ user, session }));
    if (kicked.length) note('kicked-others', 'log_kicked_others', () => ({ others: kicked.map(deviceName).join(', ') }));
    refreshSessions();
  });
  it.on('status', (status) => {
    const { user, state, custom } = status;
    note('status', custom ? 'log_status_custom' : 'log_status', () => ({ user, custom, state: t(state) }), { user, state });
    if (user === it.user) refreshSessions();
    render();
  });
  it.on('kicked', ({ reason, by, message }) => {
    note('kicked', 'log_kicked', () => ({ reason }));
    const known = ['login_elsewhere', 'same_device', 'own_request', 'admin'].includes(reason);
    tell(known ? `notice_${reason}` : 'notice_other', { by: by ? deviceName(by) : '?' }, { message: reason === 'admin' && message, useHere: true });
  });
  it.on('superseded', () => {
    note('superseded', 'log_superseded');
    tell('notice_superseded', {}, { useHere: true });
  });
  it.on('tokenExpiring', () => note('expiring', 'log_expiring'));
  it.on('error', (error) => {
    failed(error);
    if (error.code === 'login_conflict') tell('notice_login_conflict', { by: (error.devices ?? []).map(deviceName).join(', ') });
    else if (it.state === 'disconnected') tell('notice_error', { message: error.message });
  });
  it.subscribe(people, () => {});
  return it;
}

function start(how) {
  keepKey('dev-key', byId('key').value);
  client?.logout();
  client = globalThis.presence = newClient(); // to play with in the console
  notice = null;
  keepForm(true);
  client.connect(how);
  render();
}

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

/** Without a token there is no point in trying on. */
function giveUp(error) {
  client.logout();
  keepForm(false);
  tell('notice_token', { message: error.message });
}

function refreshSessions() {
  client.sessions().then(
    (list) => {
      sessions = list;
      render();
    },
    () => {}, // not connected any more: the state tells
  );
}

/** Does what a button says, and tells how it went. */
function act(id, action) {
  byId(id).addEventListener('click', () => action().then(() => note(id, `log_${id}`), failed));
}

const failed = (error) => note('error', 'log_error', () => ({ message: error.message }));
const setCustom = (text) => client.setStatus(text).catch(failed);

// ---- the page

const deviceName = ({ platform, device }) => `${platform} ${device}`;

function note(kind, key, values = () => ({}), data = {}) {
  log.unshift({ at: Date.now(), kind, key, values, data });
  log.length = Math.min(log.length, LOG_LINES);
  renderLog();
}

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
  for (const id of ['custom', 'custom-set', 'custom-clear', 'hide', 'exit', 'cut', 'refresh']) byId(id).disabled = !connected;
  byId('foreground').disabled = byId('logout').disabled = !client;

  byId('notice').hidden = !notice;
  byId('use-here').hidden = !notice?.useHere;
  byId('notice-text').textContent = notice ? [t(notice.key, notice.values), notice.message && t('notice_message', notice)].filter(Boolean).join(' ') : '';

  byId('watched-none').hidden = people.length > 0;
  show('watched', people.map((user) => ({ user, status: client?.get(user) })), person);
  show('sessions', sessions, sessionRow);

  const other = new URLSearchParams({ user: byId('name').value, watch: byId('watch').value, platform: byId('platform').value });
  other.set('device', `d-${Math.random().toString(36).slice(2, 8)}`);
  byId('another').href = `demo.html?${other}#key=${encodeURIComponent(byId('key').value)}`;
}

/** Shows a list anew only when it changed, so that nothing loses its focus or is read out again for nothing. */
function show(id, items, make) {
  const list = byId(id);
  const shown = JSON.stringify([items, locale()]);
  if (list.shown === shown) return;
  list.shown = shown;
  list.replaceChildren(...items.map(make));
}

function person({ user, status }) {
  return el('li', { data: { user, state: status?.state ?? '' } },
    el('span', { class: 'who' }, foreign(user)),
    status ? badge(status.state) : el('span', { class: 'hint' }, t('waiting')),
    status && el('span', { class: 'where' }, status.platforms.join(' · ')),
    status?.custom != null ? el('span', { class: 'custom' }, foreign(status.custom)) : null,
    status?.since != null ? el('span', { class: 'hint when' }, moment(status.since)) : null,
  );
}

function sessionRow({ platform, device, session, state, since, current }) {
  const kick = el('button', { class: 'danger', on: { click: () => kickSession(session) } }, t('kick'));
  return el('tr', { data: { session, current: String(!!current) } },
    el('td', {}, platform),
    el('td', {}, foreign(device)),
    el('td', {}, badge(state)),
    el('td', {}, moment(since)),
    el('td', {}, current ? el('span', { class: 'hint' }, t('this_one')) : kick),
  );
}

function kickSession(session) {
  client.kick(session).then(() => note('kick', 'log_kick', () => ({ session })), failed).then(refreshSessions);
}

function renderLog() {
  byId('log').replaceChildren(...log.map(({ at, kind, key, values, data }) =>
    el('li', { data: { kind, ...data } }, el('span', { class: 'at' }, clock(at)), el('span', {}, foreign(t(key, values()))))));
}

/** A reloaded tab goes on where it was. */
function keepForm(active) {
  const form = Object.fromEntries(FIELDS.map((id) => [id, byId(id).value]));
  sessionStorage.setItem(FORM, JSON.stringify({ ...form, active }));
}

// ---- begin

byId('platform').append(...PLATFORMS.map((name) => el('option', { value: name }, name)));

const asked = new URLSearchParams(location.search);
const before = JSON.parse(sessionStorage.getItem(FORM) ?? '{}');
for (const id of FIELDS) {
  const value = asked.get(id === 'name' ? 'user' : id) ?? before[id];
  if (value != null) byId(id).value = value;
}
byId('key').value = keptKey('dev-key');

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  start({ force: true });
});
byId('form').addEventListener('input', render);
byId('custom-form').addEventListener('submit', (event) => {
  event.preventDefault();
  setCustom(byId('custom').value);
});
byId('custom-clear').addEventListener('click', () => {
  byId('custom').value = '';
  setCustom(null);
});
byId('use-here').addEventListener('click', () => client.loginHere());
byId('refresh').addEventListener('click', refreshSessions);
act('hide', () => client.background('hide'));
act('exit', () => client.background('exit'));
act('foreground', () => client.foreground());
act('cut', () => development('ignore', { user: client.user, session: client.session }));
act('logout', () => {
  const gone = client.logout();
  client = null;
  people = [];
  keepForm(false);
  render();
  return gone;
});

speak(byId('language'), () => {
  render();
  renderLog();
});
keepTime();
if ((asked.get('auto') || before.active) && byId('name').value && byId('key').value) start();
