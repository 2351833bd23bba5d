// Every session of every user, in pages that the hub makes, shown live.

import { t } from '../../i18n.js';
import { el, platformName } from '../../ui.js';
import { ApiError, act, get, pageOf, userPath, withQuery } from '../api.js';
import { live } from '../live.js';
import {
  REST,
  choice,
  confirm,
  damagedUsers,
  field,
  filters,
  heading,
  kickColumn,
  outcome,
  pager,
  platformOptions,
  sessionColumns,
  shownOf,
  table,
  userLink,
} from '../parts.js';
import { repeat } from '../poll.js';
import { address, remember } from '../router.js';
import { mayAct } from '../session.js';
/** @import { Kicked, SessionDetail, SessionPage } from '../shapes.d.ts' */

const EVERY_MS = 3000;
const PAGE = 50;

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const asked = Object.fromEntries(
    ['user', 'platform', 'state', 'node', 'address', 'app', 'cursor'].map((name) => [name, query.get(name) ?? '']),
  );
  const title = t('screen_sessions');
  const told = outcome();
  const problem = outcome();
  const list = table({
    label: title,
    empty: 'no_sessions',
    key: ({ session }) => session,
    data: ({ user, platform, device, state }) => ({ user, platform, device, state }),
    columns: [
      { title: 'user', value: ({ user }) => user, cell: ({ user }) => userLink(user), kind: 'main-cell' },
      ...sessionColumns(),
      mayAct() && kickColumn(kick),
    ],
  });
  const pages = pager((cursor) => change({ cursor }), asked.cursor);

  /** How many there are in all: the hub counts them by platform and by state, and by nothing else. */
  function total() {
    const { stats } = live;
    const { user, node, address, app, platform, state } = asked;
    if (!stats || user || node || address || app || (platform && state)) return null;
    if (platform) return stats.sessions[platform] ?? null;
    if (state) return stats.sessions_by_state[state] ?? null;
    return Object.values(stats.sessions).reduce((sum, count) => sum + count, 0);
  }

  /** How long the last answer took. */
  let tookMs = 0;
  const asking = repeat(
    () => Math.max(EVERY_MS, REST * tookMs),
    async (signal) => {
      const began = performance.now();
      const { items, next, damaged } = await pageOf(
        async (cursor, limit) => {
          /** @type {SessionPage} */
          const { sessions, next, damaged } = await get(withQuery('sessions', { ...asked, cursor, limit }), signal);
          return { items: sessions, next, damaged };
        },
        asked.cursor,
        PAGE,
      );
      tookMs = performance.now() - began;
      list.show(items, damagedUsers(damaged));
      pages.show(next, shownOf(items.length, PAGE, next, total()));
      problem.tell('');
    },
    (error) => error.isOwn && problem.tell(t('failed', { message: error.message }), true),
  );

  /** @param {Record<string, string>} to */
  function change(to) {
    if (!('cursor' in to)) {
      pages.reset();
      asked.cursor = '';
    }
    Object.assign(asked, to);
    remember(address('sessions', asked));
    asking.now();
  }

  /** @param {SessionDetail} it */
  async function kick({ user, platform, device, session }) {
    const reason = await confirm({
      title: t('confirm_session', { user, platform: platformName(platform), device }),
      hint: t('confirm_session_hint'),
      action: t('kick_session'),
      asksReason: true,
    });
    if (reason === null) return;
    try {
      /** @type {Kicked} */
      const { kicked } = await act('POST', userPath(user, '/kick'), { session, ...(reason && { message: reason }) });
      told.tell(t('kicked_count', { count: kicked.length }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      told.tell(t('failed', { message: error.message }), true);
    }
    asking.now();
  }

  const any = /** @type {[string, string]} */ (['', t('any')]);
  const node = choice(t('node'), asked.node, [any], (node) => change({ node }));
  const nodes = () => {
    const ids = live.stats?.nodes.map(({ id }) => id) ?? [];
    if (asked.node && !ids.includes(asked.node)) ids.push(asked.node);
    if (node.select.options.length === ids.length + 1) return;
    node.select.replaceChildren(
      ...[any, ...ids.map((id) => [id, id.slice(0, 12)])].map(([value, word]) => el('option', { value }, word)),
    );
    node.select.value = asked.node;
  };
  live.addEventListener('change', nodes);
  nodes();
  const form = filters(
    field(t('user'), asked.user, (user) => change({ user }), { maxlength: '128', placeholder: t('whole_id') }).element,
    choice(t('platform'), asked.platform, platformOptions(), (platform) => change({ platform })).element,
    choice(t('state'), asked.state, [any, ['Online', t('Online')], ['PushOnline', t('PushOnline')]], (state) => change({ state }))
      .element,
    node.element,
    field(t('address'), asked.address, (address) => change({ address: address.trim() }), { placeholder: '192.0.2.7' }).element,
    field(t('app_prefix'), asked.app, (app) => change({ app }), { placeholder: 'shop 4' }).element,
  );

  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('sessions_lead')),
      el('div', { class: 'card' }, form, told.element, problem.element, list.element, pages.element),
    ),
    close() {
      asking.end();
      live.removeEventListener('change', nodes);
    },
  };
}
