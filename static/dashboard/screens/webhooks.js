// How the back end is told: what it takes, what waits, and what was given up.

import { named, t } from '../../i18n.js';
import { badge, el, foreign, moment } from '../../ui.js';
import { ApiError, act, get, withQuery } from '../api.js';
import { groupsOf } from '../failures.js';
import { duration, number, size } from '../format.js';
import { choice, confirm, fact, heading, mark, once, outcome, pager, shownOf, table, userLink } from '../parts.js';
import { repeat } from '../poll.js';
import { mayAct } from '../session.js';
/** @import { Dead, DeadPage, Webhook, Webhooks } from '../shapes.d.ts' */

const EVERY_MS = 2000;
const DEAD_EVERY_MS = 5000;
const PAGE = 50;
/** @type {Record<string, 'good' | 'warn' | 'bad' | 'quiet'>} */
const LEVELS = { off: 'quiet', up: 'good', failing: 'warn', down: 'bad', elsewhere: 'good' };

/** @returns {import('../main.js').Screen} */
export function open() {
  const title = t('screen_webhooks');
  const state = el('span', { id: 'webhook-state', 'aria-live': 'polite' });
  const hint = el('p', { class: 'hint' });
  const facts = el('dl', { class: 'facts-row' });
  const tested = outcome();
  const told = outcome();
  const test = el('button', { type: 'button', id: 'webhook-test', on: { click: () => sendTest() } }, t('webhook_test'));
  const failures = table({
    label: t('failures'),
    empty: 'failures_none',
    key: ({ kind }) => kind,
    data: ({ requests }) => ({ requests: String(requests) }),
    columns: /** @type {import('../parts.js').Column<import('../failures.js').Failures>[]} */ ([
      { title: 'failure', value: ({ error }) => error, kind: 'wide-cell' },
      { title: 'requests_count', value: ({ requests }) => requests, cell: ({ requests }) => number(requests), kind: 'num' },
      { title: 'events_most', value: ({ events }) => events, cell: ({ events }) => number(events), kind: 'num' },
      { title: 'attempts_most', value: ({ attempts }) => attempts, cell: ({ attempts }) => number(attempts), kind: 'num' },
      { title: 'first_at', value: ({ first }) => first, cell: ({ first }) => moment(first) },
      { title: 'last_at', value: ({ last }) => last, cell: ({ last }) => moment(last) },
    ]),
  });

  /** @type {Set<string>} */
  const chosen = new Set();
  let cursor = '';
  const dead = table({
    label: t('dead_letters'),
    empty: 'dead_none',
    key: ({ id }) => id,
    data: ({ id }) => ({ dead: id }),
    columns: [
      mayAct() && {
        title: 'choose',
        value: ({ id }) => [id],
        cell: (/** @type {Dead} */ { id, event }) => checkbox(id, event.user),
      },
      { title: 'given_up', value: ({ at }) => at, cell: ({ at }) => moment(at) },
      { title: 'user', value: ({ event }) => event.user, cell: ({ event }) => userLink(event.user), kind: 'main-cell' },
      {
        title: 'event',
        value: ({ event }) => event.cause ?? null,
        // What was damaged on disk says no more than whose it was.
        cell: ({ event }) =>
          event.damaged
            ? mark('bad', t('event_damaged'))
            : el('span', { class: 'from-to' }, badge(event.state.to), el('span', {}, named('cause_', event.cause))),
      },
      { title: 'happened', value: ({ event }) => event.at, cell: ({ event }) => moment(event.at) },
      { title: 'attempts', value: ({ attempts }) => attempts, cell: ({ attempts }) => number(attempts), kind: 'num' },
      { title: 'last_error', value: ({ last_error }) => last_error, kind: 'wide-cell' },
    ],
  });
  const pages = pager((to) => {
    cursor = to;
    askingDead.now();
  }, cursor);
  const orders = /** @type {const} */ (['retry', 'drop']).flatMap((what) => [
    el(
      'button',
      {
        type: 'button',
        class: what === 'drop' ? 'danger' : '',
        data: { order: what, of: 'chosen' },
        on: { click: () => order(what, { ids: [...chosen] }, chosen.size) },
      },
    ),
    el(
      'button',
      {
        type: 'button',
        class: what === 'drop' ? 'danger' : '',
        data: { order: what, of: 'all' },
        on: { click: () => order(what, { all: true }, total()) },
      },
    ),
  ]);
  /** The webhook that is shown: its name, or nothing for the one without a name. */
  let name = '';
  let hasChosen = false;
  const which = choice(t('webhook_which'), name, [['', t('webhook_unnamed')]], (to) => {
    name = to;
    hasChosen = true;
    cursor = '';
    chosen.clear();
    asking.now();
    askingDead.now();
  });
  which.element.hidden = true;
  /** Offers the webhooks that there are, if there is more than one. @param {Webhook[]} others */
  function offer(others) {
    const names = ['', ...others.map(({ name }) => name)];
    which.element.hidden = names.length === 1;
    if (which.select.options.length === names.length && names.every((it, n) => which.select.options[n].value === it)) return;
    which.select.replaceChildren(...names.map((value) => el('option', { value }, value || t('webhook_unnamed'))));
    which.select.value = name;
  }

  /** How many are shown, how many there are in all, and whether these are all. */
  let shown = 0;
  let waiting = 0;
  let isWhole = false;
  const show = once();

  const asking = repeat(EVERY_MS, async (signal) => {
    /** @type {Webhooks} */
    const all = await get('webhooks', signal);
    if (!hasChosen && all.delivery.state === 'off' && all.named.length) name = all.named[0].name;
    offer(all.named);
    const found = all.named.find((it) => it.name === name);
    if (!found) name = '';
    /** @type {Webhook} */
    const now = found ?? all;
    const { delivery, backlog } = now;
    show(state, delivery.state, (state) => [mark(LEVELS[state] ?? 'quiet', named('webhook_', state))]);
    hint.textContent = named('webhook_hint_', delivery.state);
    test.toggleAttribute('disabled', delivery.state === 'off');
    show(facts, [now.url, now.format, { ...delivery, failures: [] }, backlog, now.dead_waiting], () => [
      fact('webhook_url', now.url ? foreign(now.url) : t('never')),
      fact('webhook_format', now.format ? named('format_', now.format) : t('never')),
      fact('last_success', moment(delivery.last_success)),
      fact('backlog', t('backlog_value', { count: number(backlog.events), size: size(backlog.bytes) })),
      fact('backlog_age', backlog.events ? duration(backlog.age_ms) : t('never')),
      fact('under_way', number(delivery.under_way)),
      fact('waiting_again', number(delivery.waiting)),
      fact('held_users', number(delivery.held)),
      fact('dead_letters', number(now.dead_waiting ?? 0)),
    ]);
    failures.show(groupsOf(delivery.failures));
    waiting = now.dead_waiting ?? 0;
    tellOrders();
  });
  const askingDead = repeat(DEAD_EVERY_MS, async (signal) => {
    /** @type {DeadPage} */
    const { dead: all, next } = await get(withQuery('webhooks/dead', { name, cursor, limit: PAGE }), signal);
    for (const id of chosen) if (!all.some((it) => it.id === id)) chosen.delete(id);
    shown = all.length;
    isWhole = !cursor && next === null;
    dead.show(all);
    pages.show(next, shownOf(shown, PAGE, next, total()));
    tellOrders();
  });

  /** @param {string} id @param {string} user */
  function checkbox(id, user) {
    const input = /** @type {HTMLInputElement} */ (el('input', { type: 'checkbox', 'aria-label': t('choose_of', { user }) }));
    input.checked = chosen.has(id);
    input.addEventListener('change', () => {
      if (input.checked) chosen.add(id);
      else chosen.delete(id);
      tellOrders();
    });
    return input;
  }

  /** How many dead letters there are. */
  const total = () => (isWhole ? shown : Math.max(waiting, shown));

  function tellOrders() {
    for (const it of orders) {
      const ofAll = it.dataset.of === 'all';
      const count = ofAll ? total() : chosen.size;
      it.toggleAttribute('disabled', count === 0);
      it.textContent = orderWord(it.dataset.order ?? '', ofAll, count);
    }
  }

  /** "Drop all 312", "Drop 3 chosen": what the button does, and what the button that confirms it does. @param {string} what @param {boolean} ofAll @param {number} count */
  const orderWord = (what, ofAll, count) =>
    count ? t(`dead_${what}_${ofAll ? 'all' : 'chosen'}`, { count: number(count) }) : t(`dead_${what}_none_${ofAll ? 'all' : 'chosen'}`);

  /** @param {'retry' | 'drop'} what @param {{ ids: string[] } | { all: true }} selection @param {number} count */
  async function order(what, selection, count) {
    const ofAll = 'all' in selection;
    const title = t(`confirm_${what}_${ofAll ? 'all' : 'chosen'}`, { count: number(count) });
    if ((await confirm({ title, hint: t(`confirm_${what}_hint`), action: orderWord(what, ofAll, count) })) === null) return;
    try {
      /** @type {{ count: number }} */
      const { count } = await act('POST', withQuery(`webhooks/dead/${what}`, { name }), selection);
      told.tell(t(`dead_${what}_done`, { count: number(count) }));
      chosen.clear();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      told.tell(t('failed', { message: error.message }), true);
    }
    askingDead.now();
    asking.now();
  }

  async function sendTest() {
    test.toggleAttribute('disabled', true);
    tested.tell(t('webhook_testing'));
    try {
      /** @type {{ accepted: boolean, error: ?string }} */
      const { accepted, error } = await act('POST', withQuery('webhooks/test', { name }));
      tested.tell(accepted ? t('webhook_test_accepted') : t('webhook_test_refused', { error: error ?? '' }), !accepted);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      tested.tell(t('failed', { message: error.message }), true);
    }
    asking.now();
  }

  tellOrders();
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('webhooks_lead')),
      which.element,
      el(
        'section',
        { class: 'card' },
        el('div', { class: 'title' }, el('h2', {}, t('delivery')), state, mayAct() ? test : null),
        hint,
        tested.element,
        facts,
      ),
      el('section', { class: 'card' }, el('h2', {}, t('failures')), failures.element),
      el(
        'section',
        { class: 'card' },
        el('h2', {}, t('dead_letters')),
        el('p', { class: 'hint' }, t('dead_hint')),
        mayAct() ? el('p', { class: 'buttons' }, ...orders) : null,
        told.element,
        dead.element,
        pages.element,
      ),
    ),
    close() {
      asking.end();
      askingDead.end();
    },
  };
}
