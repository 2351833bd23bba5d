// The latest logins that the hub refused: who, from where, and why.

import { named, t } from '../../i18n.js';
import { el, number } from '../../ui.js';
import { get, withQuery } from '../api.js';
import { live } from '../live.js';
import { choice, field, heading, outcome, shownOf } from '../parts.js';
import { repeat } from '../poll.js';
import { refusalTable } from '../refusals.js';
import { address, remember } from '../router.js';
/** @import { Refusal, RefusalPage } from '../shapes.d.ts' */

const EVERY_MS = 3000;
/** As many as the hub keeps. */
const KEPT = 1000;
const ROWS = 200;

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const wanted = { user: query.get('user') ?? '', reason: query.get('reason') ?? '', address: query.get('address') ?? '' };
  const title = t('screen_refusals');
  const problem = outcome();
  const list = refusalTable();
  const count = el('p', { class: 'hint num', role: 'status' });
  /** @type {Refusal[]} */
  let all = [];

  const asking = repeat(
    EVERY_MS,
    async (signal) => {
      /** @type {RefusalPage} */
      const page = await get(withQuery('refusals', { limit: KEPT }), signal);
      all = page.refusals;
      show();
      problem.tell('');
    },
    (error) => error.isOwn && problem.tell(t('failed', { message: error.message }), true),
  );

  function show() {
    const found = all.filter(
      ({ user, reason, address }) =>
        (!wanted.user || user?.includes(wanted.user)) &&
        (!wanted.reason || reason === wanted.reason) &&
        (!wanted.address || address?.startsWith(wanted.address)),
    );
    const shown = found.slice(0, ROWS);
    list.show(shown);
    count.textContent = shown.length ? shownOf(shown.length, ROWS, null, found.length) : '';
    tellReasons();
  }

  /** @param {Partial<typeof wanted>} to */
  function change(to) {
    Object.assign(wanted, to);
    remember(address('refusals', wanted));
    show();
  }

  const any = /** @type {[string, string]} */ (['', t('any')]);
  const reason = choice(t('refused_why'), wanted.reason, [any], (reason) => change({ reason }));
  /** Those that there were since the start. */
  function tellReasons() {
    const names = new Set([...Object.keys(live.stats?.refusals_by_reason ?? {}), ...all.map(({ reason }) => reason)]);
    if (wanted.reason) names.add(wanted.reason);
    if (reason.select.options.length === names.size + 1) return;
    reason.select.replaceChildren(
      ...[any, ...[...names].map((name) => [name, named('refused_', name)])].map(([value, word]) => el('option', { value }, word)),
    );
    reason.select.value = wanted.reason;
  }
  tellReasons();
  const form = el(
    'form',
    { class: 'filters' },
    field(t('user_contains'), wanted.user, (user) => change({ user }), { maxlength: '128' }).element,
    reason.element,
    field(t('address_prefix'), wanted.address, (address) => change({ address: address.trim() }), { placeholder: '192.0.2.' }).element,
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('refusals_lead', { count: number(KEPT) })),
      el('div', { class: 'card' }, form, problem.element, list.element, count),
    ),
    close: asking.end,
  };
}
