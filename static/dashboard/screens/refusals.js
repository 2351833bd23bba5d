// The latest logins that the hub refused: who, from where, and why.

import { named, t } from '../../i18n.js';
import { el, number } from '../../ui.js';
import { get, withQuery } from '../api.js';
import { KEPT, latest } from '../latest.js';
import { live } from '../live.js';
import { choice, field, heading } from '../parts.js';
import { refusalTable } from '../refusals.js';
import { address, remember } from '../router.js';
/** @import { Refusal, RefusalPage } from '../shapes.d.ts' */

const EVERY_MS = 3000;

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const wanted = { user: query.get('user') ?? '', reason: query.get('reason') ?? '', address: query.get('address') ?? '' };

  /** @param {Partial<typeof wanted>} to */
  function change(to) {
    Object.assign(wanted, to);
    remember(address('refusals', wanted));
    show();
  }

  const any = /** @type {[string, string]} */ (['', t('any')]);
  const reason = choice(t('refused_why'), wanted.reason, [any], (reason) => change({ reason }));
  /** Those that there were since the start. @param {Refusal[]} all */
  function tellReasons(all) {
    const names = new Set([...Object.keys(live.stats?.refusals_by_reason ?? {}), ...all.map(({ reason }) => reason)]);
    if (wanted.reason) names.add(wanted.reason);
    if (reason.select.options.length === names.size + 1) return;
    reason.select.replaceChildren(
      ...[any, ...[...names].map((name) => [name, named('refused_', name)])].map(([value, word]) => el('option', { value }, word)),
    );
    reason.select.value = wanted.reason;
  }
  tellReasons([]);

  const title = t('screen_refusals');
  const { screen, show } = latest({
    title,
    lead: heading(title, t('refusals_lead', { count: number(KEPT) })),
    everyMs: EVERY_MS,
    async ask(signal) {
      /** @type {RefusalPage} */
      const page = await get(withQuery('refusals', { limit: KEPT }), signal);
      return page.refusals;
    },
    wants: ({ user, reason, address }) =>
      (!wanted.user || Boolean(user?.includes(wanted.user))) &&
      (!wanted.reason || reason === wanted.reason) &&
      (!wanted.address || Boolean(address?.startsWith(wanted.address))),
    list: refusalTable(),
    fields: [
      field(t('user_contains'), wanted.user, (user) => change({ user }), { maxlength: '128' }).element,
      reason.element,
      field(t('address_prefix'), wanted.address, (address) => change({ address: address.trim() }), { placeholder: '192.0.2.' }).element,
    ],
    onShow: tellReasons,
  });
  return screen;
}
