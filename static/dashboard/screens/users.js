// Finding users: by the beginning of their ids or anything in them, in pages that the hub makes; or one by the whole id.

import { t } from '../../i18n.js';
import { el, foreign, moment, platformName, presenceBadge } from '../../ui.js';
import { get, pageOf, withQuery } from '../api.js';
import { live } from '../live.js';
import { REST, choice, damagedUsers, field, heading, outcome, pager, shownOf, table, userLink } from '../parts.js';
import { repeat } from '../poll.js';
import { address, remember } from '../router.js';
/** @import { State, Status, StatusPage } from '../shapes.d.ts' */

const EVERY_MS = 3000;
const PAGE = 50;
/** @type {State[]} */
const STATES = ['Online', 'PushOnline', 'Offline'];

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const given = (/** @type {string} */ name) => query.get(name) ?? '';
  const asked = { text: given('contains') || given('prefix'), state: given('state'), cursor: given('cursor') };
  let match = given('contains') ? 'contains' : 'prefix';
  /** What is asked for, by the names of the query. */
  const wanted = () => ({ [match]: asked.text, state: asked.state, cursor: asked.cursor });

  const title = t('screen_users');
  const problem = outcome();
  const list = table({
    label: title,
    empty: 'users_none',
    key: ({ user }) => user,
    data: ({ user, state }) => ({ user, state }),
    columns: /** @type {import('../parts.js').Column<Status>[]} */ ([
      { title: 'user', value: ({ user }) => user, cell: ({ user }) => userLink(user), kind: 'main-cell' },
      { title: 'state', value: ({ state, away }) => [state, away], cell: presenceBadge },
      { title: 'platforms', value: ({ platforms }) => platforms.map(platformName).join(' · ') || t('never') },
      { title: 'custom', value: ({ custom }) => custom ?? t('never') },
      { title: 'since', value: ({ since }) => since, cell: ({ since }) => moment(since) },
      { title: 'last_seen', value: ({ last_seen }) => last_seen, cell: ({ last_seen }) => moment(last_seen) },
    ]),
  });
  const pages = pager((cursor) => change({ cursor }), asked.cursor);

  /** How many there are in all, which is known where no text is asked for. */
  function total() {
    const users = live.stats?.users;
    if (!users || asked.text) return null;
    return asked.state ? users[/** @type {State} */ (asked.state)] : STATES.reduce((sum, state) => sum + users[state], 0);
  }

  /** How long the last answer took. */
  let tookMs = 0;
  const asking = repeat(
    () => Math.max(EVERY_MS, REST * tookMs),
    async (signal) => {
      const began = performance.now();
      const { items, next, damaged } = await pageOf(
        async (cursor, limit) => {
          /** @type {StatusPage} */
          const { statuses, next, damaged } = await get(withQuery('users', { ...wanted(), cursor, limit }), signal);
          return { items: statuses, next, damaged };
        },
        asked.cursor,
        PAGE,
      );
      tookMs = performance.now() - began;
      list.show(items, damagedUsers(damaged));
      pages.show(next, shownOf(items.length, PAGE, next, total()));
      within.hidden = match === 'contains' || !asked.text || items.length + damaged.length > 0;
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
    tellExact();
    remember(address('users', wanted()));
    asking.now();
  }

  function tellExact() {
    exact.replaceChildren(...(asked.text ? [t('open_exactly'), ' ', foreign(asked.text)] : []));
    exact.hidden = !asked.text;
  }

  const search = field(t('search_users'), asked.text, (text) => change({ text }), { maxlength: '128', id: 'search' });
  const how = choice(
    t('match'),
    match,
    [
      ['prefix', t('match_prefix')],
      ['contains', t('match_contains')],
    ],
    (value) => {
      match = value;
      change({});
    },
  );
  const state = choice(
    t('state'),
    asked.state,
    [['', t('any')], ...STATES.map((state) => /** @type {[string, string]} */ ([state, t(state)]))],
    (state) => change({ state }),
  );
  // The beginning is found at once among however many; inside the ids, the hub has to look at each.
  const within = el(
    'button',
    {
      type: 'button',
      id: 'search-within',
      hidden: '',
      on: {
        click: () => {
          how.select.value = match = 'contains';
          change({});
        },
      },
    },
    t('search_within'),
  );
  const exact = el('button', { class: 'primary', id: 'open-exactly', hidden: '' });
  const form = el('form', { class: 'filters' }, search.element, how.element, state.element, exact);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (search.input.value) location.hash = address('users', {}, search.input.value);
  });
  tellExact();

  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('users_lead')),
      el('div', { class: 'card' }, form, problem.element, list.element, el('div', {}, within), pages.element),
    ),
    close: asking.end,
  };
}
