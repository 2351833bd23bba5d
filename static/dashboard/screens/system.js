// The hubs themselves, and how they are set up.

import { t } from '../../i18n.js';
import { el, foreign, moment } from '../../ui.js';
import { get } from '../api.js';
import { duration, number, size } from '../format.js';
import { live } from '../live.js';
import { fact, field, heading, mark, once, table } from '../parts.js';
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
        cell: ({ state }) => mark(state === 'up' ? 'good' : state === 'full' ? 'bad' : 'warn', t(`node_${state}`)),
      },
      { title: 'version', value: ({ version }) => version },
      { title: 'started', value: ({ started }) => started, cell: ({ started }) => moment(started) },
      { title: 'uptime', value: ({ uptime_ms }) => duration(uptime_ms), kind: 'num' },
      { title: 'memory', value: ({ memory_bytes }) => size(memory_bytes), kind: 'num' },
      { title: 'connections', value: ({ connections }) => number(connections), kind: 'num' },
      { title: 'sessions_online', value: ({ sessions }) => number(sessions), kind: 'num' },
      { title: 'subscriptions', value: ({ subscriptions }) => number(subscriptions), kind: 'num' },
    ]),
  });

  /** @type {Config} */
  let config = {};
  let wanted = '';
  const list = table({
    label: t('configuration'),
    empty: 'settings_none',
    key: ({ key }) => key,
    data: ({ key }) => ({ setting: key }),
    columns: /** @type {import('../parts.js').Column<{ key: string, value: unknown }>[]} */ ([
      { title: 'setting', value: ({ key }) => key, cell: ({ key }) => el('code', {}, foreign(key)), kind: 'main-cell' },
      {
        title: 'value',
        value: ({ value }) => value,
        cell: ({ value }) => el('code', { class: value === '(hidden)' ? 'hidden-value' : '' }, foreign(JSON.stringify(value))),
        kind: 'wide-cell',
      },
    ]),
  });
  const showConfig = () => list.show(settingsOf(config).filter(({ key }) => key.includes(wanted)));
  const asking = isAdmin()
    ? repeat(EVERY_MS, async (signal) => {
        config = await get('config', signal);
        showConfig();
      })
    : null;

  const show = once();
  const now = () => {
    const { stats } = live;
    if (!stats) return;
    nodes.show(stats.nodes);
    show(facts, [stats.store, stats.stalls, stats.accept_errors, stats.memory_bytes], () => [
      fact('store', mark(stats.store.state === 'up' ? 'good' : 'bad', t(`store_${stats.store.state}`))),
      fact('commits', number(stats.store.commits)),
      fact(
        'commit_mean',
        stats.store.commits ? t('unit_ms', { n: (stats.store.commit_us / stats.store.commits / 1000).toFixed(1) }) : t('never'),
      ),
      fact('slow_commits', number(stats.store.slow_commits)),
      fact('stalls', number(stats.stalls)),
      fact('accept_errors', number(stats.accept_errors)),
      fact('memory', size(stats.memory_bytes)),
      fact('your_role', `${roleWord()} · ${keyName()}`),
    ]);
  };
  live.addEventListener('change', now);
  now();
  const filter = field(t('search_settings'), '', (text) => {
    wanted = text.trim().toLowerCase();
    showConfig();
  });
  const form = el('form', { class: 'filters' }, filter.element);
  form.addEventListener('submit', (event) => event.preventDefault());
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
        ...(isAdmin() ? [form, list.element] : [el('p', { class: 'hint', id: 'config-refused' }, t('needs_admin'))]),
      ),
    ),
    close() {
      asking?.end();
      live.removeEventListener('change', now);
    },
  };
}

/** One line for each setting, by its whole name. @param {Config} config */
function settingsOf(config) {
  return Object.entries(config).flatMap(([section, settings]) => flat(section, settings));
}

/** @param {string} key @param {unknown} value @returns {{ key: string, value: unknown }[]} */
function flat(key, value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [{ key, value }];
  return Object.entries(value).flatMap(([name, inner]) => flat(`${key}.${name}`, inner));
}
