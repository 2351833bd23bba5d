// What several screens are made of.

import { named, t } from '../i18n.js';
import { absence, badge, byId, el, foreign, moment, number, platformName } from '../ui.js';
import { deviceState, why } from './causes.js';
import { address } from './router.js';
/** @import { HubEvent, Platform, SessionDetail } from './shapes.d.ts' */

/** @type {Platform[]} */
export const PLATFORMS = ['ios', 'android', 'ipad', 'mac', 'windows', 'linux', 'web', 'miniprogram'];

/** The choice of a platform, or any. @returns {[string, string][]} */
export const platformOptions = () => [['', t('any')], ...PLATFORMS.map((name) => /** @type {[string, string]} */ ([name, platformName(name)]))];

/**
 * @template T
 * @typedef {object} Column
 * @property {string} title a key
 * @property {(item: T) => unknown} value what the cell depends on: it is made anew where this changed
 * @property {(item: T) => Node | string | null} [cell] default: the value as text from outside
 * @property {string} [kind] a class
 */

/**
 * A table that is shown anew cell by cell, so that nothing under the pointer or the focus is replaced for nothing.
 *
 * @template T
 * @param {{ label: string, empty: string, columns: (Column<T> | false)[], key: (item: T) => string, data?: (item: T) => Record<string, string> }} how
 */
export function table({ label, empty, columns, key, data = () => ({}) }) {
  const shownColumns = columns.filter((column) => column !== false);
  // The roles are said, for a narrow page lays rows out as cards, which takes them from the elements.
  const head = el(
    'thead',
    { role: 'rowgroup' },
    el(
      'tr',
      { role: 'row' },
      ...shownColumns.map(({ title, kind }) => el('th', { scope: 'col', role: 'columnheader', class: kind ?? '' }, t(title))),
    ),
  );
  const body = el('tbody', { role: 'rowgroup' });
  const none = el('p', { class: 'hint none', hidden: '' }, t(empty));
  const notice = damageNotice();
  const scroll = el(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
    el('table', { role: 'table', 'aria-label': label }, head, body),
  );
  /** @type {Map<string, { row: HTMLElement, cells: { element: HTMLElement, shown: string }[] }>} */
  const rows = new Map();

  /** @param {T} item */
  function rowOf(item) {
    const id = key(item);
    let it = rows.get(id);
    if (!it) {
      const cells = shownColumns.map(({ title, kind }) => ({
        element: el('td', { role: 'cell', class: kind ?? '', data: { label: t(title) } }),
        shown: '',
      }));
      it = { row: el('tr', { role: 'row' }, ...cells.map(({ element }) => element)), cells };
      rows.set(id, it);
    }
    Object.assign(it.row.dataset, data(item));
    shownColumns.forEach(({ value, cell }, i) => {
      const now = JSON.stringify([value(item)]);
      const { element, shown } = /** @type {any} */ (it).cells[i];
      if (shown === now) return;
      /** @type {any} */ (it).cells[i].shown = now;
      const content = cell ? cell(item) : foreign(value(item));
      element.replaceChildren(...(content === null ? [] : [content]));
    });
    return it.row;
  }

  return {
    element: el('div', { class: 'listing' }, notice.element, scroll, none),
    /** @param {T[]} items @param {?Damage} [damage] what is left out of them */
    show(items, damage = null) {
      const wanted = new Set(items.map(key));
      for (const [id, { row }] of rows) {
        if (wanted.has(id)) continue;
        row.remove();
        rows.delete(id);
      }
      items.forEach((item, i) => {
        const row = rowOf(item);
        if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
      });
      scroll.hidden = items.length === 0;
      none.hidden = items.length > 0 || damage !== null;
      notice.show(damage);
    },
  };
}

/** What is left out because it is damaged on disk. @typedef {{ text: string, users: string[] }} Damage */

/** @param {string[]} users @returns {?Damage} */
export const damagedUsers = (users) =>
  users.length ? { text: t('damaged_users', { count: number(users.length) }), users } : null;

/** Changes of the user whose page is shown. @param {number} count @returns {?Damage} */
export const damagedChanges = (count) => (count ? { text: t('damaged_changes', { count: number(count) }), users: [] } : null);

/** Says what is left out because it is damaged on disk, and names the users. */
export function damageNotice() {
  const element = el('div', { class: 'damage', role: 'status', hidden: '' });
  const show = once();
  const links = (/** @type {string[]} */ users) =>
    el('ul', {}, ...users.map((user) => el('li', { data: { user } }, userLink(user))));
  return {
    element,
    /** @param {?Damage} damage */
    show(damage) {
      element.hidden = damage === null;
      show(element, damage, (damage) => {
        if (damage === null) return [];
        const { text, users } = damage;
        const [first, more] = [users.slice(0, DAMAGED_MAX), users.slice(DAMAGED_MAX)];
        return [
          el('p', {}, mark('bad', t('damaged')), ' ', text),
          ...(first.length ? [links(first)] : []),
          ...(more.length ? [el('details', {}, el('summary', {}, t('damaged_more', { count: number(more.length) })), links(more))] : []),
        ];
      });
    },
  };
}

/** So many damaged users are named at once; more are folded away. */
const DAMAGED_MAX = 20;

/** @param {string} user */
export const userLink = (user) => el('a', { href: address('users', {}, user) }, foreign(user));

/** @param {{ platform: string, device: string }} it */
export const deviceName = ({ platform, device }) => el('span', {}, el('b', {}, platformName(platform)), ' ', foreign(device));

/** @param {HubEvent} event */
export const whatHappened = (event) => el('span', { class: 'what' }, badge(deviceState(event)), foreign(why(event)));

/** What became of the user. @param {HubEvent} event */
export const userChange = ({ state: { from, to } }) =>
  from === to
    ? el('span', { class: 'hint' }, t('unchanged', { state: t(to) }))
    : el('span', { class: 'from-to' }, badge(from), el('span', { role: 'img', 'aria-label': t('becomes') }, '→'), badge(to));

/** The beginning of a long id, enough to tell it from others at a glance; the whole is its title. @param {string} id */
export const shortId = (id) => el('code', { title: id }, id.length > 9 ? `${id.slice(0, 8)}…` : id);

/**
 * What a session's row shows, but for its user.
 *
 * @returns {Column<SessionDetail>[]}
 */
export function sessionColumns() {
  return [
    { title: 'platform', value: ({ platform }) => platformName(platform) },
    { title: 'device', value: ({ device }) => device },
    { title: 'state', value: ({ state, background, activity, active_at }) => [state, background, activity, active_at], cell: stateCell },
    { title: 'since', value: ({ since }) => since, cell: ({ since }) => moment(since) },
    { title: 'address', value: ({ address }) => address ?? '—', kind: 'num address' },
    { title: 'app', value: ({ app }) => app ?? '—' },
    { title: 'last_heard', value: ({ last_heard }) => last_heard, cell: ({ last_heard }) => moment(last_heard) },
    { title: 'node', value: ({ node }) => node, cell: ({ node }) => shortId(node) },
    { title: 'session', value: ({ session }) => session, cell: ({ session }) => shortId(session) },
  ];
}

/**
 * What ends a session, in its row.
 *
 * @param {(session: SessionDetail) => void} kick
 * @returns {Column<SessionDetail>}
 */
export function kickColumn(kick) {
  const button = (/** @type {SessionDetail} */ it) =>
    el('button', { class: 'danger small', type: 'button', on: { click: () => kick(it) } }, t('kick'));
  return { title: 'actions', value: () => 0, kind: 'actions', cell: button };
}

/** @param {SessionDetail} it */
function stateCell({ state, background, activity, active_at }) {
  const isIdle = activity === 'idle';
  if (!background && !isIdle) return badge(state);
  return el(
    'span',
    { class: 'states' },
    badge(state),
    isIdle ? el('span', { class: 'hint' }, absence('device_idle'), ` · ${t('touched')} `, moment(active_at)) : null,
    background ? el('span', { class: 'hint' }, named('background_', background.reason), ' ', moment(background.since)) : null,
    background && background.deadline !== null ? el('span', { class: 'hint' }, t('background_deadline')) : null,
  );
}

/**
 * Asks before something is done. Answers the reason given (which may be empty), or null where it was thought better of.
 *
 * @param {{ title: string, hint: string, action: string, asksReason?: boolean, typed?: string }} what `typed`: what must be typed first
 * @returns {Promise<?string>}
 */
export function confirm({ title, hint, action, asksReason = false, typed }) {
  const dialog = byId('confirm');
  const reason = byId('reason');
  const typing = byId('typed');
  const problem = byId('confirm-problem');
  byId('confirm-title').textContent = title;
  byId('confirm-hint').textContent = hint;
  byId('confirm-ask').hidden = !asksReason;
  byId('confirm-typed').hidden = typed === undefined;
  byId('confirm-yes').textContent = action;
  problem.hidden = true;
  reason.value = typing.value = '';
  dialog.returnValue = '';
  const check = (/** @type {Event} */ event) => {
    if (/** @type {SubmitEvent} */ (event).submitter !== byId('confirm-yes')) return;
    const isTyped = typed === undefined || typing.value.trim() === typed;
    const isLong = new TextEncoder().encode(reason.value.trim()).length > REASON_BYTES;
    if (isTyped && !isLong) return;
    event.preventDefault();
    problem.hidden = false;
    problem.textContent = isLong ? t('reason_long', { max: REASON_BYTES }) : t('typed_wrong');
  };
  dialog.addEventListener('submit', check);
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener(
      'close',
      () => {
        dialog.removeEventListener('submit', check);
        done(dialog.returnValue === 'yes' ? reason.value.trim() : null);
      },
      { once: true },
    );
  });
}

const REASON_BYTES = 256;

/** A line that says how an order went. */
export function outcome() {
  const element = el('p', { class: 'outcome', role: 'status' });
  return {
    element,
    /** @param {string} text @param {boolean} [isBad] */
    tell(text, isBad = false) {
      element.textContent = text;
      element.classList.toggle('problem', isBad);
    },
  };
}

/**
 * First page, the one before, the next one. Cursors go forward only, so those of before are kept.
 *
 * @param {(cursor: string) => void} turn
 * @param {string} cursor where one begins
 */
export function pager(turn, cursor) {
  /** @type {string[]} */
  const before = [];
  /** @type {?string} */
  let next = null;
  const go = (/** @type {string} */ to) => {
    cursor = to;
    turn(to);
  };
  const first = el(
    'button',
    {
      type: 'button',
      on: {
        click: () => {
          before.length = 0;
          go('');
        },
      },
    },
    t('page_first'),
  );
  const back = el('button', { type: 'button', on: { click: () => go(before.pop() ?? '') } }, t('page_before'));
  const forward = el(
    'button',
    {
      type: 'button',
      on: {
        click: () => {
          before.push(cursor);
          go(next ?? '');
        },
      },
    },
    t('page_next'),
  );
  const count = el('span', { class: 'hint num' });
  return {
    element: el('nav', { class: 'pager', 'aria-label': t('pages') }, first, back, forward, count),
    /** @param {?string} after @param {string} text */
    show(after, text) {
      next = after;
      first.toggleAttribute('disabled', !cursor);
      back.toggleAttribute('disabled', !before.length);
      forward.toggleAttribute('disabled', !next);
      count.textContent = text;
    },
    /** Other things are asked for. */
    reset() {
      before.length = 0;
      cursor = '';
    },
  };
}

/**
 * Entries without an id, each with a key for `table`: those that are the same are told apart by their number.
 *
 * @template T
 * @param {T[]} entries
 * @returns {{ key: string, entry: T }[]}
 */
export function keyed(entries) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return entries.map((entry) => {
    const same = JSON.stringify(entry);
    const count = (seen.get(same) ?? 0) + 1;
    seen.set(same, count);
    return { key: `${same} ${count}`, entry };
  });
}

/**
 * How many of a page are shown, and of how many in all where that is known.
 *
 * @param {number} count
 * @param {number} size of a full page
 * @param {?string} next
 * @param {?number} [all]
 */
export function shownOf(count, size, next, all = null) {
  if (next !== null && count < size) return t('shown_so_far', { count: number(count) });
  if (all !== null && all >= count) return t('shown_of', { count: number(count), all: number(all) });
  return t(next === null ? 'shown' : 'shown_more', { count: number(count) });
}

/** What a screen asks so often that is costly for the hub: it rests so many times as long as it worked. */
export const REST = 50;

/** @param {string} label @param {string} value @param {[string, string][]} options value and word @param {(value: string) => void} onChange */
export function choice(label, value, options, onChange) {
  const select = /** @type {HTMLSelectElement} */ (
    el('select', {}, ...options.map(([value, word]) => el('option', { value }, word)))
  );
  select.value = value;
  select.addEventListener('change', () => onChange(select.value));
  return { element: el('label', {}, el('span', {}, label), select), select };
}

/** @param {string} label @param {string} value @param {(value: string) => void} onInput @param {Record<string, string>} [how] */
export function field(label, value, onInput, how = {}) {
  const input = /** @type {HTMLInputElement} */ (
    el('input', { type: 'search', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', ...how })
  );
  input.value = value;
  /** @type {number | undefined} */
  let timer;
  input.addEventListener('input', () => {
    clearTimeout(timer);
    // A screen that was left meanwhile asks for nothing, and must not change the address of the next one.
    timer = setTimeout(() => input.isConnected && onInput(input.value), TYPING_MS);
  });
  return { element: el('label', {}, el('span', {}, label), input), input };
}

/** What is typed is asked for when the typing pauses. */
const TYPING_MS = 250;

/** What a list is narrowed by, at once: nothing is to be submitted. @param {Node[]} fields */
export function filters(...fields) {
  const form = el('form', { class: 'filters' }, ...fields);
  form.addEventListener('submit', (event) => event.preventDefault());
  return form;
}

/** @param {string} title @param {string} [lead] @param {(Node | null)[]} more */
export const heading = (title, lead = '', ...more) =>
  el('div', { class: 'heading' }, el('div', {}, el('h1', {}, title), lead ? el('p', { class: 'hint' }, lead) : null), ...more);

/** Shows anew only what changed, so that nothing is read out or let go of for nothing. */
export function once() {
  /** @type {Map<HTMLElement, string>} */
  const shown = new Map();
  /** @template T @param {HTMLElement} place @param {T} value @param {(value: T) => Node[]} make */
  return (place, value, make) => {
    const now = JSON.stringify(value);
    if (shown.get(place) === now) return;
    shown.set(place, now);
    place.replaceChildren(...make(value));
  };
}

/** @param {string} name @param {Node | string} value */
export const fact = (name, value) =>
  el('div', { class: 'fact', data: { fact: name } }, el('dt', {}, t(name)), el('dd', {}, value));

/** A word with a shape, for conditions. @param {'good' | 'warn' | 'bad' | 'quiet'} level @param {string} word */
export const mark = (level, word) =>
  el('span', { class: `mark-word ${level}` }, `${{ good: '✓', warn: '▲', bad: '■', quiet: '○' }[level]} ${word}`);
