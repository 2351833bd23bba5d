// Finding users: by the beginning of their ids, in pages that the hub makes; or one by the whole id.

import { t } from '../../i18n.js';
import { badge, el, foreign, moment } from '../../ui.js';
import { get, withQuery } from '../api.js';
import { choice, field, heading, outcome, pager, table, userLink } from '../parts.js';
import { repeat } from '../poll.js';
import { address, remember } from '../router.js';
/** @import { Status, StatusPage } from '../shapes.d.ts' */

const EVERY_MS = 3000;
const PAGE = 50;

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const asked = { prefix: query.get('prefix') ?? '', state: query.get('state') ?? '', cursor: query.get('cursor') ?? '' };
  const title = t('screen_users');
  const problem = outcome();
  const list = table({
    label: title,
    empty: 'users_none',
    key: ({ user }) => user,
    data: ({ user, state }) => ({ user, state }),
    columns: /** @type {import('../parts.js').Column<Status>[]} */ ([
      { title: 'user', value: ({ user }) => user, cell: ({ user }) => userLink(user), kind: 'main-cell' },
      { title: 'state', value: ({ state }) => state, cell: ({ state }) => badge(state) },
      { title: 'platforms', value: ({ platforms }) => platforms.join(' · ') || t('never') },
      { title: 'custom', value: ({ custom }) => custom ?? t('never') },
      { title: 'since', value: ({ since }) => since, cell: ({ since }) => moment(since) },
      { title: 'last_seen', value: ({ last_seen }) => last_seen, cell: ({ last_seen }) => moment(last_seen) },
    ]),
  });
  const pages = pager((cursor) => change({ cursor }), asked.cursor);

  const asking = repeat(
    EVERY_MS,
    async (signal) => {
      /** @type {StatusPage} */
      const { statuses, next } = await get(withQuery('users', { ...asked, limit: PAGE }), signal);
      list.show(statuses);
      pages.show(next, t('shown', { count: statuses.length }));
      problem.tell('');
    },
    (error) => error.isOwn && problem.tell(t('failed', { message: error.message }), true),
  );

  /** @param {Partial<typeof asked>} to */
  function change(to) {
    if (to.cursor === undefined) {
      pages.reset();
      asked.cursor = '';
    }
    Object.assign(asked, to);
    exact.replaceChildren(...(asked.prefix ? [t('open_exactly'), ' ', foreign(asked.prefix)] : []));
    exact.hidden = !asked.prefix;
    remember(address('users', asked));
    asking.now();
  }

  const search = field(t('search_users'), asked.prefix, (prefix) => change({ prefix }), { maxlength: '128', id: 'search' });
  const state = choice(
    t('state'),
    asked.state,
    [['', t('any')], ...['Online', 'PushOnline', 'Offline'].map((state) => /** @type {[string, string]} */ ([state, t(state)]))],
    (state) => change({ state }),
  );
  const exact = el('button', { class: 'primary', id: 'open-exactly', hidden: '' });
  const form = el('form', { class: 'filters' }, search.element, state.element, exact);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (search.input.value) location.hash = address('users', {}, search.input.value);
  });
  if (asked.prefix) exact.append(t('open_exactly'), ' ', foreign(asked.prefix));
  exact.hidden = !asked.prefix;

  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('users_lead')),
      el('div', { class: 'card' }, form, problem.element, list.element, pages.element),
    ),
    close: asking.end,
  };
}
