// How the hub does, now and in the last quarter of an hour, and what needs somebody.

import { named, t } from '../../i18n.js';
import { absence, badge, clock, el, platformName } from '../../ui.js';
import { get } from '../api.js';
import { shortNumber } from '../chart.js';
import { days } from '../days.js';
import { duration, number, perSecond } from '../format.js';
import { SERIES_MINUTES, live, rateBetween } from '../live.js';
import { REST, mark, once } from '../parts.js';
import { repeat } from '../poll.js';
import { address } from '../router.js';
/** @import { HubChart, Look } from '../chart.js' */
/** @import { AddressPage, Counts, Point, State, Stats } from '../shapes.d.ts' */

/** @type {State[]} */
const STATES = ['Online', 'PushOnline', 'Offline'];
const ADDRESSES_EVERY_MS = 5000;
const ADDRESSES = 8;

/**
 * A chart: what its lines are called and drawn like, and how a point is had. A rate is taken between two points.
 *
 * @typedef {{ name: string, lines: { label: string, tone: string, now?: (point: Point) => number, rate?: (point: Point) => number }[], show: (value: number) => string, tick?: (value: number) => string }} Chart
 */

/** @returns {Chart[]} */
const charts = () => [
  {
    name: 'chart_users',
    show: number,
    lines: [
      { label: t('Online'), tone: 'online', now: ({ users }) => users.Online },
      { label: t('PushOnline'), tone: 'push', now: ({ users }) => users.PushOnline },
    ],
  },
  {
    name: 'connections',
    show: number,
    lines: [{ label: t('connections'), tone: 'accent', now: ({ connections }) => connections }],
  },
  {
    name: 'logins',
    show: perSecond,
    lines: [
      { label: t('logins_login'), tone: 'accent', rate: ({ logins_by_kind }) => logins_by_kind.login ?? 0 },
      { label: t('logins_resume'), tone: 'second', rate: ({ logins_by_kind }) => logins_by_kind.resume ?? 0 },
    ],
  },
  {
    name: 'transitions',
    show: perSecond,
    lines: [{ label: t('transitions'), tone: 'accent', rate: ({ transitions }) => transitions }],
  },
  {
    name: 'chart_endings',
    show: perSecond,
    lines: [
      { label: t('closes'), tone: 'second', rate: ({ closes }) => closes },
      { label: t('kicks'), tone: 'danger', rate: ({ kicks }) => kicks },
      { label: t('refusals'), tone: 'push', rate: ({ refusals }) => refusals },
    ],
  },
  {
    name: 'deliveries',
    show: perSecond,
    lines: [
      { label: t('deliveries'), tone: 'accent', rate: ({ deliveries }) => deliveries },
      { label: t('conflated'), tone: 'second', rate: ({ conflated }) => conflated },
    ],
  },
  {
    name: 'chart_backlog',
    show: number,
    lines: [{ label: t('backlog_events'), tone: 'accent', now: ({ outbox }) => outbox.depth }],
  },
  {
    name: 'chart_backlog_age',
    show: (seconds) => duration(seconds * 1000),
    tick: (seconds) => t('unit_s', { n: shortNumber(seconds) }),
    lines: [{ label: t('backlog_age'), tone: 'push', now: ({ outbox }) => outbox.age_ms / 1000 }],
  },
  {
    name: 'chart_commit',
    show: (ms) => t('unit_ms', { n: number(Math.round(ms * 10) / 10) }),
    lines: [{ label: t('commit_ms'), tone: 'accent' }],
  },
];

/** @returns {import('../main.js').Screen} */
export function open() {
  const title = t('screen_overview');
  const since = el('p', { class: 'hint' });
  const attention = el('ul', { class: 'attention-list', 'aria-labelledby': 'attention-title' });
  const users = el('div', { class: 'card users-card' });
  const tiles = el('dl', { class: 'tiles' });
  const lists = el('div', { class: 'columns four' });
  const byAddress = el('div', { class: 'by-address' });
  const daily = days();
  const drawn = charts().map((chart) => ({ chart, element: /** @type {HubChart} */ (el('hub-chart')) }));
  const element = el(
    'section',
    { class: 'screen' },
    el('div', { class: 'heading' }, el('div', {}, el('h1', {}, title), since)),
    el(
      'div',
      { class: 'top' },
      users,
      el('section', { class: 'card' }, el('h2', { id: 'attention-title' }, t('attention')), attention),
    ),
    tiles,
    el(
      'section',
      { class: 'charts', 'aria-label': t('charts', { minutes: SERIES_MINUTES }) },
      ...drawn.map(({ chart, element }) =>
        el('div', { class: 'card chart', data: { chart: chart.name } }, el('h2', {}, t(chart.name)), element),
      ),
    ),
    lists,
    daily.element,
  );

  const show = once();
  const now = () => {
    const { stats } = live;
    if (!stats) return;
    since.textContent = t('since_start', { time: duration(stats.uptime_ms), at: clock(stats.at) });
    show(attention, live.attention(), (all) =>
      all.length ? all.map(attentionItem) : [el('li', {}, mark('good', t('attention_none')))],
    );
    show(users, stats.users, () => usersCard(stats));
    show(tiles, tilesOf(stats), (all) =>
      all.map(([name, value, hint]) =>
        el(
          'div',
          { class: 'tile', data: { count: name } },
          el('dt', {}, t(name)),
          el('dd', { data: { value } }, number(value)),
          el('dd', { class: 'hint' }, hint),
        ),
      ),
    );
    show(lists, [stats.sessions, stats.closes_by_reason, stats.refusals_by_reason, stats.kicks_by_reason], () => [
      ...listsOf(stats),
      byAddress,
    ]);
  };
  let tookMs = 0;
  const asking = repeat(
    () => Math.max(ADDRESSES_EVERY_MS, REST * tookMs),
    async (signal) => {
      const began = performance.now();
      /** @type {AddressPage} */
      const page = await get(`addresses?limit=${ADDRESSES}`, signal);
      tookMs = performance.now() - began;
      show(byAddress, page, ({ addresses, count }) => [
        bars('by_address', Object.fromEntries(addresses.map(({ address, connections }) => [address, connections])), 'no_connections', {
          link: (from) => address('sessions', { address: from }),
          note: count > addresses.length ? t('addresses_more', { count: number(count) }) : '',
        }),
      ]);
    },
  );
  const past = () => {
    for (const { chart, element } of drawn) element.show(lookOf(chart), pointsOf(chart, live.points));
  };
  live.addEventListener('change', now);
  live.addEventListener('series', past);
  now();
  past();
  return {
    title,
    element,
    close() {
      asking.end();
      daily.end();
      live.removeEventListener('change', now);
      live.removeEventListener('series', past);
    },
  };
}

/** @param {import('../attention.js').Attention} it */
const attentionItem = ({ level, key, values, screen }) =>
  el(
    'li',
    { data: { attention: key } },
    mark(level, t(`level_${level}`)),
    el('span', {}, t(key, values)),
    screen === 'overview' ? null : el('a', { href: address(screen) }, t('attention_look', { screen: t(`screen_${screen}`) })),
  );

/** @param {Stats} stats */
function usersCard({ users, users_away }) {
  const all = STATES.reduce((sum, state) => sum + users[state], 0);
  const bar = el(
    'div',
    { class: 'share', 'aria-hidden': 'true' },
    ...STATES.map((state) => {
      const part = el('span', { data: { state } });
      part.style.flexGrow = String(users[state]);
      return part;
    }),
  );
  return [
    el('h2', {}, t('users_by_state')),
    el(
      'dl',
      { class: 'states-row' },
      ...STATES.map((state) =>
        el(
          'div',
          { data: { count: state } },
          el('dt', {}, badge(state)),
          el('dd', { data: { value: users[state] } }, number(users[state])),
          el('dd', { class: 'hint' }, all ? percent(users[state] / all) : t('never')),
          state === 'Online' && users_away ? el('dd', { class: 'hint', data: { away: users_away } }, absence('user_away'), ' ', number(users_away)) : null,
        ),
      ),
    ),
    bar,
  ];
}

/** @param {number} part */
const percent = (part) => `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;

/** @param {Stats} stats @returns {[string, number, string][]} */
function tilesOf(stats) {
  const rate = (/** @type {(point: Point) => number} */ count) => perSecond(live.rate(count));
  const terminals = Object.values(stats.sessions).reduce((sum, count) => sum + count, 0);
  return [
    ['connections', stats.connections, t('of_sessions', { count: number(terminals) })],
    ['logins', stats.logins, rate(({ logins }) => logins)],
    ['transitions', stats.transitions, rate(({ transitions }) => transitions)],
    ['kicks', stats.kicks, rate(({ kicks }) => kicks)],
    ['refusals', stats.refusals, rate(({ refusals }) => refusals)],
    ['subscriptions', stats.subscriptions, t('subscriptions_hint')],
    ['deliveries', stats.deliveries, rate(({ deliveries }) => deliveries)],
    ['conflated', stats.conflated, t('conflated_hint')],
    ['slow_consumers', stats.slow_consumers, t('slow_consumers_hint')],
    [
      'backlog',
      stats.outbox.depth,
      t('backlog_hint', { state: named('webhook_', stats.webhook.state), age: duration(stats.outbox.age_ms) }),
    ],
  ];
}

/** @param {Stats} stats */
function listsOf({ sessions, closes_by_reason, refusals_by_reason, kicks_by_reason }) {
  return [
    bars('by_platform', sessions, 'no_sessions', {
      word: platformName,
      link: (platform) => address('sessions', { platform }),
    }),
    bars('closes_by_reason', closes_by_reason, 'no_closes', { word: (reason) => named('closed_', reason) }),
    el(
      'div',
      { class: 'stack' },
      bars('kicks_by_reason', kicks_by_reason, 'no_kicks', { word: (reason) => named('kick_reason_', reason) }),
      bars('refusals_by_reason', refusals_by_reason, 'no_refusals', {
        word: (reason) => named('refused_', reason),
        link: (reason) => address('refusals', { reason }),
      }),
    ),
  ];
}

/**
 * Counts as bars, the most first.
 *
 * @param {string} title
 * @param {Counts} counts
 * @param {string} none
 * @param {{ word?: (name: string) => string, link?: (name: string) => string, note?: string }} [how]
 */
function bars(title, counts, none, { word = (name) => name, link, note = '' } = {}) {
  const all = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
  const most = Math.max(1, ...all.map(([, count]) => count));
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, t(title)),
    el(
      'ul',
      { class: 'bars', data: { list: title } },
      ...(all.length
        ? all.map(([name, count]) =>
            el(
              'li',
              { data: { name, value: count } },
              el('span', { class: 'bar-name', title: name }, link ? el('a', { href: link(name) }, word(name)) : word(name)),
              el('progress', { max: most, value: count, 'aria-label': word(name) }),
              el('span', { class: 'num' }, number(count)),
            ),
          )
        : [el('li', { class: 'hint' }, t(none))]),
    ),
    note ? el('p', { class: 'hint' }, note) : null,
  );
}

/** @param {Chart} chart @returns {Look} */
const lookOf = ({ name, lines, show, tick }) => ({
  title: t(name),
  lines: lines.map(({ label, tone }) => ({ label, tone })),
  show,
  tick,
  minutes: SERIES_MINUTES,
});

/** @param {Chart} chart @param {Point[]} points */
function pointsOf({ name, lines }, points) {
  return points.map((point, i) => {
    const before = points[i - 1];
    return {
      at: point.at,
      values: lines.map(({ now, rate }) => {
        if (now) return now(point);
        if (!before) return null;
        if (rate) return rateBetween(before, point, rate);
        const commits = point.store.commits - before.store.commits;
        return commits > 0 && name === 'chart_commit' ? (point.store.commit_us - before.store.commit_us) / commits / 1000 : null;
      }),
    };
  });
}
