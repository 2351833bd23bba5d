// The dashboard: asks the server API once a second, for the counts and for the one user that is looked at.
//
// The address may name the user and the key: ?user=alice#key=…

import { locale, speak, t } from './i18n.js';
import { badge, byId, el, foreign, keepKey, keepTime, keptKey, moment, number } from './ui.js';

const EVERY_MS = 1000;
const ANSWER_MS = 5000;

let key = keptKey('admin-key');
let user = new URLSearchParams(location.search).get('user') ?? '';
/** What the server API answers. @type {any} */
let stats = null;
/** Each count's change in a second. @type {Record<string, number>} */
let rates = {};
/** Of `user`. @type {any} */
let status = null;
/** @type {?{ key: string, values?: object }} */
let problem = null;
/** Of the last kick. @type {?{ key: string, values: object }} */
let outcome = null;
let looking = 0; // answers to older questions are dropped
/** @type {number | undefined} */
let timer;

// ---- the hub

/** @param {string} path @param {object} [body] @returns {Promise<any>} */
async function api(path, body) {
  const answer = await fetch(`/v1/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { Authorization: `Bearer ${key}`, ...(body && { 'Content-Type': 'application/json' }) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(json.error?.message ?? `HTTP ${answer.status}`), { status: answer.status });
  return json;
}

/** @param {string} id */
const userPath = (id) => `users/${encodeURIComponent(id)}`;

async function look() {
  const mine = ++looking;
  clearTimeout(timer);
  if (!key || document.hidden) return render();
  try {
    const [counts, found] = await Promise.all([api('stats'), user && api(userPath(user))]);
    if (mine !== looking) return;
    rates = ratesBetween(stats, { ...counts, at: Date.now() });
    stats = { ...counts, at: Date.now() };
    status = found || null;
    problem = null;
  } catch (/** @type {any} */ error) {
    if (mine !== looking) return;
    if (error.status === 401) useKey('');
    problem = error.status === 401 ? { key: 'key_wrong' } : error.status ? { key: 'failed', values: error } : { key: 'stale' };
  }
  render();
  if (key) timer = setTimeout(look, EVERY_MS);
}

/** @param {any} before @param {any} now */
function ratesBetween(before, now) {
  const seconds = before && (now.at - before.at) / 1000;
  const counted = ['logins', 'refusals', 'kicks', 'deliveries', 'conflated'];
  return Object.fromEntries(counted.map((name) => [name, seconds ? Math.max(0, now[name] - before[name]) / seconds : 0]));
}

/** @param {{ platform?: string, device?: string }} what */
async function kick(what) {
  const whom = user;
  const message = await confirmed(what);
  if (message === null) return;
  try {
    const { kicked, revoked } = await api(`${userPath(whom)}/kick`, { ...what, ...(message && { message }) });
    outcome = { key: revoked ? 'kicked_revoked' : 'kicked_count', values: { count: kicked.length } };
  } catch (/** @type {any} */ error) {
    outcome = { key: 'failed', values: { message: error.message } };
  }
  look();
}

/**
 * The message to send along, or null where it was thought better of.
 *
 * @param {{ platform?: string, device?: string }} what
 * @returns {Promise<?string>}
 */
function confirmed({ platform, device }) {
  const count = status.terminals.filter((/** @type {any} */ it) => it.platform === platform && it.device === device).length;
  byId('confirm-title').textContent = t(device ? 'confirm_device' : 'confirm_all', { user, platform, device });
  byId('confirm-hint').textContent = !device ? t('confirm_all_hint')
    : [count > 1 && t('confirm_device_many', { count }), t('confirm_device_hint')].filter(Boolean).join(' ');
  byId('message').value = '';
  const dialog = byId('confirm');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener('close', () => done(dialog.returnValue === 'yes' ? byId('message').value.trim() : null), { once: true });
  });
}

// ---- the page

/** @param {string} given */
function useKey(given) {
  key = given;
  keepKey('admin-key', given);
}

function render() {
  byId('notice').hidden = !problem;
  byId('notice-text').textContent = problem ? t(problem.key, problem.values) : '';
  byId('key-form').hidden = !!key;
  byId('key-forget').hidden = !key;
  byId('content').hidden = !key || !stats;
  byId('content').classList.toggle('stale', problem?.key === 'stale');
  if (stats) renderStats();
  renderUser();
}

function renderStats() {
  /** @param {string} name @param {number} value @param {Node} [mark] @param {number} [rate] */
  const tile = (name, value, mark, rate) => el('div', { class: 'tile', data: { count: name } },
    el('dt', {}, mark ?? t(name)),
    el('dd', { data: { value } }, number(value)),
    rate === undefined ? null : el('dd', { class: 'hint' }, t('per_second', { rate: number(Math.round(rate)) })));
  const counted = ['logins', 'refusals', 'kicks', 'deliveries', 'conflated'];
  show('tiles', [stats, rates], () => [
    tile('connections', stats.connections),
    ...['Online', 'PushOnline', 'Offline'].map((state) => tile(state, stats.users[state], badge(state))),
    tile('subscriptions', stats.subscriptions),
    ...counted.map((name) => tile(name, stats[name], undefined, rates[name])),
  ]);

  /** @type {[string, number][]} */
  const all = Object.entries(stats.sessions);
  const platforms = all.filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
  const most = Math.max(1, ...platforms.map(([, count]) => count));
  show('by-platform', platforms, () => platforms.map(([platform, count]) => el('li', { data: { platform, value: count } },
    el('span', {}, platform),
    el('progress', { max: most, value: count, 'aria-label': platform }),
    el('span', { class: 'num' }, number(count)))));
  if (!platforms.length) byId('by-platform').replaceChildren(el('li', { class: 'hint' }, t('no_sessions')));

  show('nodes', stats.nodes, (nodes) => nodes.map((/** @type {any} */ { id, version, started }) => el('tr', {},
    el('td', {}, el('code', {}, foreign(id))), el('td', {}, foreign(version)), el('td', {}, moment(started)))));
}

function renderUser() {
  byId('result').hidden = !status;
  if (!status) return;
  byId('found').textContent = status.user;
  byId('unknown').hidden = status.version !== 0;
  show('found-state', status.state, (state) => [badge(state)]);
  byId('result').dataset.state = status.state;
  byId('outcome').textContent = outcome ? t(outcome.key, outcome.values) : '';
  byId('terminals-none').hidden = status.terminals.length > 0;
  byId('kick-all').disabled = status.terminals.length === 0;

  /** @param {string} name @param {Node | string} value */
  const fact = (name, value) => [el('dt', {}, t(name)), el('dd', { data: { fact: name } }, value)];
  show('facts', { ...status, terminals: null }, ({ platforms, custom, since, last_seen }) => [
    fact('platforms', platforms.join(' · ') || t('never')),
    fact('custom', custom == null ? t('never') : foreign(custom)),
    fact('since', moment(since)),
    fact('last_seen', moment(last_seen)),
  ].flat());
  show('terminals', status.terminals, (terminals) => terminals.map(terminalRow));
}

/** @param {any} terminal */
function terminalRow({ platform, device, session, state, since, last_heard, background, address, app, node }) {
  const kickDevice = el('button', { class: 'danger', on: { click: () => kick({ platform, device }) } }, t('kick_device'));
  const cells = [
    platform, foreign(device), badge(state), moment(since), moment(last_heard), backgroundWord(background),
    foreign(address), foreign(app), shortId(node), shortId(session), kickDevice,
  ];
  return el('tr', { data: { session, platform, device, state } }, ...cells.map((cell) => el('td', {}, cell)));
}

/** The beginning of a long id, enough to tell it from others at a glance; the whole is its title. @param {string} id */
function shortId(id) {
  return el('code', { title: id }, `${String(id).slice(0, 8)}…`);
}

/** @param {any} background */
function backgroundWord(background) {
  if (typeof background !== 'object' || !background) return background === true ? t('yes') : foreign(background || t('no'));
  return foreign(background.reason ?? t('yes'));
}

/**
 * Shows anew only what changed, so that nothing under the pointer or the focus is replaced for nothing.
 *
 * @param {string} id
 * @param {any} value
 * @param {(value: any) => (Node | string)[]} make
 */
function show(id, value, make) {
  const element = byId(id);
  const shown = JSON.stringify([value, locale()]);
  if (element.shown === shown) return;
  element.shown = shown;
  element.replaceChildren(...make(value));
}

// ---- begin

byId('user').value = user;
byId('key-form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  useKey(byId('key').value.trim());
  byId('key').value = '';
  problem = null;
  look();
});
byId('key-forget').addEventListener('click', () => {
  useKey('');
  stats = status = null;
  look();
});
byId('find').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  user = byId('user').value;
  status = outcome = null;
  history.replaceState(null, '', `?${new URLSearchParams({ user })}`);
  look();
});
byId('kick-all').addEventListener('click', () => kick({}));
document.addEventListener('visibilitychange', look);

speak(byId('language'), render);
keepTime();
look();
