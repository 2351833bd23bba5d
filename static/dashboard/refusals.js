// The table of refused logins, of everybody or of one user.

import { named, t } from '../i18n.js';
import { el, foreign, moment, platformName } from '../ui.js';
import { keyed, table, userLink } from './parts.js';
import { address } from './router.js';
/** @import { Refusal } from './shapes.d.ts' */

/** @param {{ ofUser?: boolean }} [how] */
export function refusalTable({ ofUser = false } = {}) {
  const list = table({
    label: t('refused_logins'),
    empty: ofUser ? 'refusals_none_of_user' : 'refusals_none',
    key: ({ key }) => key,
    data: ({ entry: { reason, user } }) => ({ reason, user: user ?? '' }),
    columns: /** @type {(import('./parts.js').Column<{ key: string, entry: Refusal }> | false)[]} */ ([
      { title: 'at', value: ({ entry }) => entry.at, cell: ({ entry }) => moment(entry.at) },
      {
        title: 'refused_why',
        value: ({ entry: { reason, message } }) => [reason, message],
        cell: ({ entry: { reason, message } }) =>
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
        value: ({ entry: { user, verified } }) => [user, verified],
        // Anybody may write a name into a token whose signature is wrong.
        cell: ({ entry: { user, verified } }) =>
          user === null
            ? el('span', { class: 'hint' }, t('user_unreadable'))
            : el('span', { class: 'what' }, userLink(user), verified ? null : el('span', { class: 'hint' }, t('user_unproved'))),
        kind: 'main-cell',
      },
      { title: 'platform', value: ({ entry: { platform } }) => (platform ? platformName(platform) : t('never')) },
      { title: 'device', value: ({ entry: { device } }) => device || t('never') },
      {
        title: 'address',
        value: ({ entry }) => entry.address,
        cell: ({ entry: { address: from } }) =>
          from ? el('a', { class: 'num', href: address('sessions', { address: from }) }, from) : t('never'),
      },
    ]),
  });
  return {
    element: list.element,
    /** @param {Refusal[]} refusals the latest first */
    show(refusals) {
      list.show(keyed(refusals));
    },
  };
}
