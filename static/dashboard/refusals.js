// The table of refused logins, of everybody or of one user.

import { named, t } from '../i18n.js';
import { el, foreign, moment, platformName } from '../ui.js';
import { table, userLink } from './parts.js';
import { address } from './router.js';
/** @import { Refusal } from './shapes.d.ts' */

/** @param {{ ofUser?: boolean }} [how] */
export function refusalTable({ ofUser = false } = {}) {
  const list = table({
    label: t('refused_logins'),
    empty: ofUser ? 'refusals_none_of_user' : 'refusals_none',
    key: ({ key }) => key,
    data: ({ reason, user }) => ({ reason, user: user ?? '' }),
    columns: /** @type {(import('./parts.js').Column<Refusal & { key: string }> | false)[]} */ ([

        { title: 'at', value: ({ at }) => at, cell: ({ at }) => moment(at) },
        {
          title: 'refused_why',
          value: ({ reason, message }) => [reason, message],
          cell: ({ reason, message }) =>
            el(
              'span',
              { class: 'what' },
              el('b', { title: reason }, named('refused_', reason)),
              message ? el('span', { class: 'hint' }, foreign(message)) : null,
            ),
          kind: 'wide-cell',
        },
        !ofUser && {
          title: 'user',
          value: ({ user, verified }) => [user, verified],
          // Anybody may write a name into a token that nobody signed.
          cell: ({ user, verified }) =>
            user === null
              ? el('span', { class: 'hint' }, t('user_unreadable'))
              : el('span', { class: 'what' }, userLink(user), verified ? null : el('span', { class: 'hint' }, t('user_unproved'))),
          kind: 'main-cell',
        },
        { title: 'platform', value: ({ platform }) => (platform ? platformName(platform) : t('never')) },
        { title: 'device', value: ({ device }) => device || t('never') },
        {
          title: 'address',
          value: ({ address }) => address,
          cell: ({ address: from }) =>
            from ? el('a', { class: 'num', href: address('sessions', { address: from }) }, from) : t('never'),
        },
    ]),
  });
  return {
    element: list.element,
    /** @param {Refusal[]} refusals the latest first */
    show(refusals) {
      /** Those of the same moment are told apart by their number. @type {Map<string, number>} */
      const seen = new Map();
      list.show(
        refusals.map((refusal) => {
          const key = JSON.stringify(refusal);
          const count = (seen.get(key) ?? 0) + 1;
          seen.set(key, count);
          return { ...refusal, key: `${key} ${count}` };
        }),
      );
    },
  };
}
