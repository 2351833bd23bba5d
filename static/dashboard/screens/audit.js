// Who did what: the latest entries of the hub's audit log.

import { named, t } from '../../i18n.js';
import { el, foreign, moment, number } from '../../ui.js';
import { get, withQuery } from '../api.js';
import { KEPT, latest } from '../latest.js';
import { field, heading, keyed, mark, table, userLink } from '../parts.js';
import { address, remember } from '../router.js';
import { isAdmin } from '../session.js';
/** @import { AuditEntry, AuditPage } from '../shapes.d.ts' */

const EVERY_MS = 5000;
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

  const search = field(t('search_audit'), wanted, (text) => {
    wanted = text.trim();
    remember(address('audit', { text: wanted }));
    show();
  });
  const { screen, show } = latest({
    title,
    lead,
    everyMs: EVERY_MS,
    async ask(signal) {
      /** @type {AuditPage} */
      const page = await get(withQuery('audit', { limit: KEPT }), signal);
      return page.entries;
    },
    wants: (entry) => !wanted || textOf(entry).includes(wanted.toLowerCase()),
    list: { element: list.element, show: (entries) => list.show(keyed(entries)) },
    fields: [search.element],
  });
  return screen;
}

/** What is searched. @param {AuditEntry} entry */
const textOf = ({ action, whom, what, why, key, identifier, address }) =>
  [action, named('action_', action), whom, what, why, key, identifier, address].filter(Boolean).join(' ').toLowerCase();
