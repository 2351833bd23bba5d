// Who did what: the latest entries of the hub's audit log.

import { named, t } from '../../i18n.js';
import { el, foreign, moment, number } from '../../ui.js';
import { get, withQuery } from '../api.js';
import { field, heading, keyed, mark, outcome, shownOf, table, userLink } from '../parts.js';
import { repeat } from '../poll.js';
import { address, remember } from '../router.js';
import { isAdmin } from '../session.js';
/** @import { AuditEntry, AuditPage } from '../shapes.d.ts' */

const EVERY_MS = 5000;
/** As many as a call answers. */
const KEPT = 1000;
const ROWS = 200;
/** @type {Record<string, 'good' | 'warn' | 'bad'>} */
const LEVELS = { done: 'good', failed: 'warn', refused: 'bad' };

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const title = t('screen_audit');
  const lead = heading(title, t('audit_lead', { count: number(KEPT) }));
  if (!isAdmin()) {
    const refused = el('p', { class: 'card hint', id: 'audit-refused' }, t('needs_admin'));
    return { title, element: el('section', { class: 'screen' }, lead, refused), close() {} };
  }
  let wanted = query.get('text') ?? '';
  const problem = outcome();
  const count = el('p', { class: 'hint num', role: 'status' });
  /** @type {AuditEntry[]} */
  let all = [];
  const list = table({
    label: title,
    empty: 'audit_none',
    key: ({ key: name }) => name,
    data: ({ entry }) => ({ action: entry.action, outcome: entry.outcome }),
    columns: /** @type {import('../parts.js').Column<{ key: string, entry: AuditEntry }>[]} */ ([
      { title: 'at', value: ({ entry }) => entry.at, cell: ({ entry }) => moment(entry.at) },
      {
        title: 'audit_outcome',
        value: ({ entry }) => entry.outcome,
        cell: ({ entry }) => mark(LEVELS[entry.outcome] ?? 'quiet', named('outcome_', entry.outcome)),
      },
      {
        title: 'audit_action',
        value: ({ entry }) => entry.action,
        cell: ({ entry }) => foreign(named('action_', entry.action)),
        kind: 'main-cell',
      },
      { title: 'user', value: ({ entry }) => entry.whom, cell: ({ entry }) => (entry.whom ? userLink(entry.whom) : null) },
      {
        title: 'audit_what',
        value: ({ entry }) => [entry.what, entry.why],
        cell: ({ entry: { what, why } }) =>
          el(
            'span',
            { class: 'what' },
            what ? foreign(what) : null,
            why ? el('span', { class: 'hint' }, foreign(t('quoted', { text: why }))) : null,
          ),
        kind: 'wide-cell',
      },
      {
        title: 'audit_who',
        value: ({ entry }) => [entry.role, entry.key, entry.identifier],
        cell: ({ entry: { role, key, identifier } }) =>
          role === null
            ? el('span', { class: 'hint' }, t('audit_stranger'))
            : el('span', {}, named('role_name_', role), ' ', el('code', {}, foreign(key ?? identifier ?? ''))),
      },
      { title: 'address', value: ({ entry }) => entry.address ?? t('never'), kind: 'num' },
    ]),
  });

  const asking = repeat(
    EVERY_MS,
    async (signal) => {
      /** @type {AuditPage} */
      const page = await get(withQuery('audit', { limit: KEPT }), signal);
      all = page.entries;
      show();
      problem.tell('');
    },
    (error) => error.isOwn && problem.tell(t('failed', { message: error.message }), true),
  );

  function show() {
    const text = wanted.toLowerCase();
    const found = all.filter((entry) => !text || textOf(entry).includes(text));
    const shown = found.slice(0, ROWS);
    list.show(keyed(shown));
    count.textContent = shown.length ? shownOf(shown.length, ROWS, null, found.length) : '';
  }

  const search = field(t('search_audit'), wanted, (text) => {
    wanted = text.trim();
    remember(address('audit', { text: wanted }));
    show();
  });
  const form = el('form', { class: 'filters' }, search.element);
  form.addEventListener('submit', (event) => event.preventDefault());
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      lead,
      el('div', { class: 'card' }, form, problem.element, list.element, count),
    ),
    close: asking.end,
  };
}

/** What is searched. @param {AuditEntry} entry */
const textOf = ({ action, whom, what, why, key, identifier, address }) =>
  [action, named('action_', action), whom, what, why, key, identifier, address].filter(Boolean).join(' ').toLowerCase();
