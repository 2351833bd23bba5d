// The hubs themselves, and how they are set up.

import { named, t } from '../../i18n.js';
import { el, foreign, moment } from '../../ui.js';
import { get } from '../api.js';
import { duration, number, size } from '../format.js';
import { live } from '../live.js';
import { fact, field, filters, heading, mark, once, table } from '../parts.js';
import { repeat } from '../poll.js';
import { isAdmin, keyName, roleWord } from '../session.js';
/** @import { Config, Node as HubNode } from '../shapes.d.ts' */

const EVERY_MS = 30_000;

/** @returns {import('../main.js').Screen} */
export function open() {
  const title = t('screen_system');
  const facts = el('dl', { class: 'facts-row' });
  const nodes = table({
    label: t('nodes'),
    empty: 'nodes_none',
    key: ({ id }) => id,
    data: ({ id }) => ({ node: id }),
    columns: /** @type {import('../parts.js').Column<HubNode>[]} */ ([
      { title: 'node', value: ({ id }) => id, cell: ({ id }) => el('code', {}, foreign(id)), kind: 'main-cell' },
      {
        title: 'state',
        value: ({ state }) => state,
        cell: ({ state }) => mark(state === 'up' ? 'good' : state === 'draining' ? 'warn' : 'bad', named('node_', state)),
      },
      { title: 'version', value: ({ version }) => version },
      { title: 'node_address', value: ({ address }) => address, cell: ({ address }) => foreign(address) },
      { title: 'started', value: ({ started }) => started, cell: ({ started }) => moment(started) },
      { title: 'uptime', value: ({ uptime_ms }) => duration(uptime_ms), kind: 'num' },
      { title: 'memory', value: ({ memory_bytes }) => size(memory_bytes), kind: 'num' },
      { title: 'connections', value: ({ connections }) => number(connections), kind: 'num' },
      { title: 'sessions_online', value: ({ sessions }) => number(sessions), kind: 'num' },
      { title: 'subscriptions', value: ({ subscriptions }) => number(subscriptions), kind: 'num' },
      { title: 'clock_ms', value: ({ clock_ms }) => (clock_ms === null ? t('never') : t('unit_ms', { n: clock_ms })), kind: 'num' },
    ]),
  });

  /** @type {Setting[]} */
  let settings = [];
  /** What the configuration file says that only a restart puts in effect. @type {string[]} */
  let pending = [];
  let wanted = '';
  let changedOnly = false;
  const list = table({
    label: t('configuration'),
    empty: 'settings_none',
    key: ({ key }) => key,
    data: ({ key, isChanged }) => ({ setting: key, changed: String(isChanged) }),
    columns: /** @type {import('../parts.js').Column<Setting>[]} */ ([
      { title: 'setting', value: ({ key }) => key, cell: ({ key }) => el('code', { class: 'setting-name' }, ...breakable(key)), kind: 'main-cell' },
      {
        title: 'value',
        value: ({ key, value, isChanged }) => [value, isChanged, pending.includes(key)],
        cell: ({ key, value, isChanged }) =>
          el(
            'span',
            { class: 'what' },
            el('code', { class: JSON.stringify(value).includes(HIDDEN) ? 'hidden-value' : '' }, foreign(written(value))),
            isChanged ? el('span', { class: 'changed' }, t('setting_changed')) : null,
            pending.includes(key) ? mark('warn', t('setting_pending')) : null,
          ),
        kind: 'wide-cell',
      },
      {
        title: 'default_value',
        value: ({ isChanged, initial }) => (isChanged ? [initial] : null),
        cell: ({ isChanged, initial }) =>
          isChanged ? el('code', { class: 'hidden-value' }, foreign(initial === undefined ? t('never') : written(initial))) : null,
        kind: 'wide-cell',
      },
    ]),
  });
  const changedCount = el('p', { class: 'hint', id: 'settings-changed', role: 'status' });
  const showConfig = () => {
    list.show(settings.filter(({ key, isChanged }) => key.includes(wanted) && (isChanged || !changedOnly)));
    changedCount.textContent = t('settings_changed', {
      count: number(settings.filter(({ isChanged }) => isChanged).length),
      all: number(settings.length),
    });
  };
  const asking = isAdmin()
    ? repeat(EVERY_MS, async (signal) => {
        /** @type {[Config, Config]} */
        const [config, defaults] = await Promise.all([get('config', signal), get('config/defaults', signal)]);
        const { pending_restart, ...sections } = config;
        pending = Array.isArray(pending_restart) ? pending_restart : [];
        settings = compared(sections, defaults);
        showConfig();
      })
    : null;

  const show = once();
  const now = () => {
    const { stats } = live;
    if (!stats) return;
    nodes.show(stats.nodes);
    const { disk, open_files: files } = stats.nodes[0] ?? { disk: null, open_files: null };
    const rows = stats.store.damaged_rows;
    show(facts, [stats.store, stats.stalls, stats.accept_errors, stats.memory_bytes, disk, files], () => [
      fact('store', mark(stats.store.state === 'up' ? 'good' : 'bad', t(`store_${stats.store.state}`))),
      fact('damaged_rows', rows > 0 ? mark('bad', number(rows)) : number(0)),
      fact('commits', number(stats.store.commits)),
      fact(
        'commit_mean',
        stats.store.commits ? t('unit_ms', { n: (stats.store.commit_us / stats.store.commits / 1000).toFixed(1) }) : t('never'),
      ),
      fact('slow_commits', number(stats.store.slow_commits)),
      fact('stalls', number(stats.stalls)),
      fact('accept_errors', number(stats.accept_errors)),
      fact('memory', size(stats.memory_bytes)),
      fact('disk', disk ? t('free_of', { free: size(disk.free_bytes), all: size(disk.total_bytes) }) : t('never')),
      fact(
        'open_files',
        files?.limit ? t('used_of', { used: number(files.used), limit: number(files.limit) }) : files ? number(files.used) : t('never'),
      ),
      fact('your_role', `${roleWord()} · ${keyName()}`),
    ]);
  };
  live.addEventListener('change', now);
  now();
  const filter = field(t('search_settings'), '', (text) => {
    wanted = text.trim().toLowerCase();
    showConfig();
  });
  const only = /** @type {HTMLInputElement} */ (el('input', { type: 'checkbox', id: 'changed-only' }));
  only.addEventListener('change', () => {
    changedOnly = only.checked;
    showConfig();
  });
  const form = filters(filter.element, el('label', { class: 'check' }, only, el('span', {}, t('changed_only'))));
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('system_lead')),
      facts,
      el('section', { class: 'card' }, el('h2', {}, t('nodes')), nodes.element),
      el(
        'section',
        { class: 'card' },
        el('h2', {}, t('configuration')),
        ...(isAdmin() ? [form, changedCount, list.element] : [el('p', { class: 'hint', id: 'config-refused' }, t('needs_admin'))]),
      ),
    ),
    close() {
      asking?.end();
      live.removeEventListener('change', now);
    },
  };
}

/** @typedef {{ key: string, value: unknown, initial: unknown, isChanged: boolean }} Setting `initial` is its default */

/** One line for each setting, by its whole name. @param {Record<string, unknown>} config @param {Config} defaults @returns {Setting[]} */
function compared(config, defaults) {
  const initial = new Map(flatten(defaults).map(({ key, value }) => [key, value]));
  return flatten(config).map(({ key, value }) => {
    const other = initial.get(key);
    return { key, value, initial: other, isChanged: JSON.stringify(value) !== JSON.stringify(other) };
  });
}

/** @param {Record<string, unknown>} config */
const flatten = (config) => Object.entries(config).flatMap(([section, settings]) => flat(section, settings));

const HIDDEN = '(hidden)';

/** As the configuration file has it; of a secret, that there is one. @param {unknown} value */
function written(value) {
  const isSecret = (/** @type {unknown} */ it) => it === HIDDEN;
  if (isSecret(value)) return t('secret_set');
  if (Array.isArray(value) && value.length && value.every(isSecret)) return t('secrets_set', { count: value.length });
  return JSON.stringify(value);
}

/** A setting's name, which is broken between its words only. @param {string} key */
const breakable = (key) =>
  key.split(/(?<=[._])/).flatMap((part, i) => (i ? [el('wbr'), document.createTextNode(part)] : [document.createTextNode(part)]));

/** @param {string} key @param {unknown} value @returns {{ key: string, value: unknown }[]} */
function flat(key, value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [{ key, value }];
  return Object.entries(value).flatMap(([name, inner]) => flat(`${key}.${name}`, inner));
}
