// One user: how they are and were, on which devices, why, and who watches.

import { t } from '../../i18n.js';
import { el, foreign, moment, platformName, presenceBadge } from '../../ui.js';
import { ApiError, act, get, userPath, withQuery } from '../api.js';
import { evidenceOf, sentence } from '../causes.js';
import { exactly, number } from '../format.js';
import { lanesOf } from '../lanes.js';
import { live } from '../live.js';
import {
  confirm,
  damageNotice,
  damagedChanges,
  damagedUsers,
  deviceName,
  fact,
  kickColumn,
  mark,
  once,
  outcome,
  sessionColumns,
  table,
  userChange,
  userLink,
  whatHappened,
} from '../parts.js';
import { refusalTable } from '../refusals.js';
import { repeat } from '../poll.js';
import { address, remember } from '../router.js';
import { mayAct } from '../session.js';
import { visibilityOf } from '../visibility.js';
import '../timeline.js';
/** @import { HubTimeline } from '../timeline.js' */
/** @import { Erased, EventPage, HubEvent, Kicked, RefusalPage, SessionDetail, Terminal, UserDetail, WatcherPage } from '../shapes.d.ts' */

const EVERY_MS = 2000;
const WATCHERS_EVERY_MS = 5000;
const WATCHERS = 20;
const REFUSALS_EVERY_MS = 5000;
const REFUSALS = 20;
const HOUR_MS = 3_600_000;
/** @type {Record<string, number>} */
const RANGES = { hour: HOUR_MS, shift: 6 * HOUR_MS, day: 24 * HOUR_MS, week: 7 * 24 * HOUR_MS };
/** A history is read in pages; past so many the timeline begins later, and says so. */
const PAGE = 1000;
const PAGES_MAX = 10;
const TABLE_MAX = 200;
/**
 * Of a user whose record is damaged, only the log says something.
 *
 * @type {Pick<UserDetail, 'version' | 'state' | 'terminals'>}
 */
const DAMAGED = { version: -1, state: 'Offline', terminals: [] };

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ user: asked, query }) {
  const user = asked ?? '';
  const state = el('span', { id: 'user-state', 'aria-live': 'polite' });
  const facts = el('dl', { class: 'facts-row' });
  const unknown = el('p', { class: 'hint', hidden: '' }, t('user_unknown'));
  const damage = el(
    'div',
    { class: 'damage', id: 'user-damaged', role: 'status', hidden: '' },
    el('p', {}, mark('bad', t('damaged')), ' ', t('user_damaged')),
    el('p', {}, t('user_damaged_mended')),
  );
  const told = outcome();
  const kickAll = el('button', { class: 'danger', id: 'kick-all', type: 'button', on: { click: () => kick() } }, t('kick_all'));
  const eraseUser = el('button', { class: 'danger', id: 'erase-user', type: 'button', on: { click: () => erase() } }, t('erase'));

  const devices = table({
    label: t('devices_and_sessions'),
    empty: 'terminals_none',
    key: ({ session }) => session,
    data: ({ platform, device, state }) => ({ platform, device, state }),
    columns: [
      ...sessionColumns(),
      mayAct() && kickColumn(kick),
    ],
  });
  const count = el('span', { class: 'hint num', id: 'watchers-count' });
  const watchers = table({
    label: t('watchers'),
    empty: 'watchers_none',
    key: ({ session }) => session,
    data: ({ user }) => ({ user }),
    columns: [
      { title: 'user', value: ({ user }) => user, cell: ({ user }) => userLink(user), kind: 'main-cell' },
      ...sessionColumns().filter(({ title }) => ['platform', 'device', 'state', 'since', 'node'].includes(title)),
    ],
  });

  const refusals = refusalTable({ ofUser: true });
  const devicesCard = el('section', { class: 'card' }, el('h2', {}, t('devices_and_sessions')), devices.element);
  /** How many devices are logged in; null: not known, for the record is damaged. @type {?number} */
  let terminals = 0;

  const visibility = visibilityOf(user, told);
  const timeline = timelineOf(user, query);
  const show = once();
  const asking = repeat(
    EVERY_MS,
    async (signal) => {
      const now = await detailOf(user, signal);
      await timeline.update(now, signal);
      show(state, now && [now.state, now.away, now.hidden], () =>
        now === null ? [mark('bad', t('damaged'))] : [presenceBadge(now), ...(now.hidden ? [mark('warn', t('hidden'))] : [])],
      );
      damage.hidden = now !== null;
      facts.hidden = devicesCard.hidden = now === null;
      unknown.hidden = now?.version !== 0;
      terminals = now && now.terminals.length;
      kickAll.toggleAttribute('disabled', terminals === 0);
      if (now === null) return;
      show(facts, { ...now, terminals: [] }, ({ since, state, last_seen, platforms, custom }) => [
        fact('since', moment(since)),
        fact('last_seen', state === 'Online' ? t('now') : moment(last_seen)),
        fact('platforms', platforms.map(platformName).join(' · ') || t('never')),
        fact('custom', custom === null ? t('never') : foreign(custom)),
      ]);
      devices.show(now.terminals.map((terminal) => ({ user, ...terminal })));
    },
    (error) => error.isOwn && told.tell(t('failed', { message: error.message }), true),
  );
  const watching = repeat(WATCHERS_EVERY_MS, async (signal) => {
    /** @type {WatcherPage} */
    const page = await get(withQuery(userPath(user, '/watchers'), { limit: WATCHERS }), signal);
    watchers.show(page.watchers, damagedUsers(page.damaged ?? []));
    count.textContent =
      page.count > page.watchers.length
        ? t('shown_of', { count: number(page.watchers.length), all: number(page.count) })
        : number(page.count);
  });

  const askingRefusals = repeat(REFUSALS_EVERY_MS, async (signal) => {
    /** @type {RefusalPage} */
    const page = await get(withQuery('refusals', { user, limit: REFUSALS }), signal);
    refusals.show(page.refusals);
  });

  /** @param {Terminal} [one] else everything */
  async function kick(one) {
    const reason = await confirm({
      title: one
        ? t('confirm_session', { user, platform: platformName(one.platform), device: one.device })
        : t('confirm_all', { user }),
      hint: t(one ? 'confirm_session_hint' : 'confirm_all_hint'),
      action: one
        ? t('kick_session')
        : terminals === null
          ? t('kick_all_unknown')
          : t('kick_all_count', { count: number(terminals) }),
      asksReason: true,
    });
    if (reason === null) return;
    try {
      /** @type {Kicked} */
      const { kicked, revoked } = await act('POST', userPath(user, '/kick'), {
        ...(one ? { session: one.session } : { all: true }),
        ...(reason && { message: reason }),
      });
      told.tell(t(revoked ? 'kicked_revoked' : 'kicked_count', { count: kicked.length }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      told.tell(t('failed', { message: error.message }), true);
    }
    asking.now();
  }

  async function erase() {
    const answer = await confirm({
      title: t('confirm_erase', { user }),
      hint: t('confirm_erase_hint'),
      action: t('erase'),
      typed: user,
    });
    if (answer === null) return;
    try {
      /** @type {Erased} */
      const { kicked } = await act('DELETE', userPath(user));
      told.tell(t('erased', { count: kicked.length }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      told.tell(t('failed', { message: error.message }), true);
    }
    asking.now();
  }

  const name = el('h1', { id: 'user-name' }, foreign(user));
  return {
    title: user,
    element: el(
      'section',
      { class: 'screen user-screen' },
      el('p', { class: 'crumb' }, el('a', { href: address('users') }, t('screen_users'))),
      el('div', { class: 'heading' }, el('div', { class: 'title' }, name, state), mayAct() ? el('div', { class: 'buttons' }, kickAll, eraseUser) : null),
      unknown,
      damage,
      told.element,
      facts,
      timeline.element,
      devicesCard,
      timeline.changes,
      visibility.element,
      el('section', { class: 'card', id: 'user-refusals' }, el('h2', {}, t('refused_logins')), refusals.element),
      el('section', { class: 'card' }, el('div', { class: 'title' }, el('h2', {}, t('watchers')), count), watchers.element),
    ),
    close() {
      asking.end();
      visibility.end();
      watching.end();
      askingRefusals.end();
    },
  };
}

/** Null where the user's record is damaged. @param {string} user @param {AbortSignal} signal @returns {Promise<?UserDetail>} */
async function detailOf(user, signal) {
  try {
    return await get(userPath(user), signal);
  } catch (error) {
    if (error instanceof ApiError && error.isDamage) return null;
    throw error;
  }
}

/** The timeline with its choice of time, and the same as a table. @param {string} user @param {URLSearchParams} query */
function timelineOf(user, query) {
  let range = query.get('range') ?? 'day';
  if (!(range in RANGES)) range = 'day';
  /** Where it ends; null: now, whatever the time. @type {?number} */
  let end = Number(query.get('end')) || null;
  /** All that is known, the earliest first. @type {HubEvent[]} */
  let events = [];
  /** How far back they reach; nothing older is known to have happened. */
  let reach = Infinity;
  /** How many more were found damaged when they were read. */
  let holes = 0;
  /** @type {?typeof DAMAGED} */
  let now = null;
  let isCut = false;

  const drawn = /** @type {HubTimeline} */ (el('hub-timeline'));
  const note = el('p', { class: 'hint', hidden: '' });
  const notice = damageNotice();
  const buttons = Object.keys(RANGES).map((name) =>
    el(
      'button',
      { type: 'button', class: 'segment', data: { range: name }, on: { click: () => choose(name, end) } },
      t(`range_${name}`),
    ),
  );
  const earlier = el(
    'button',
    { type: 'button', title: t('earlier'), 'aria-label': t('earlier'), on: { click: () => move(-1) } },
    '‹',
  );
  const later = el('button', { type: 'button', title: t('later'), 'aria-label': t('later'), on: { click: () => move(1) } }, '›');
  const toNow = el('button', { type: 'button', on: { click: () => choose(range, null) } }, t('to_now'));
  const span = el('span', { class: 'hint num', id: 'timeline-span' });
  const list = table({
    label: t('changes'),
    empty: 'changes_none',
    key: ({ id }) => id,
    data: ({ cause }) => ({ cause }),
    columns: /** @type {import('../parts.js').Column<HubEvent>[]} */ ([
      {
        title: 'at',
        value: ({ at }) => at,
        cell: ({ at }) => el('time', { datetime: new Date(at).toISOString(), class: 'num' }, exactly(at)),
      },
      {
        title: 'device',
        value: ({ terminal }) => terminal && [terminal.platform, terminal.device],
        cell: ({ terminal }) => (terminal ? deviceName(terminal) : el('span', {}, t('never'))),
        kind: 'wrap-cell',
      },
      { title: 'what', value: (event) => sentence(event), cell: whatHappened, kind: 'wide-cell' },
      { title: 'user_state', value: ({ state }) => state, cell: userChange, kind: 'wrap-cell' },
      {
        title: 'evidence',
        value: evidenceOf,
        kind: 'wide-cell',
        cell: (event) =>
          el(
            'span',
            { class: 'hint' },
            foreign(
              evidenceOf(event)
                .map(([name, value]) => t('fact', { name: t(name), value: typeof value === 'number' ? exactly(value) : value }))
                .join(' · '),
            ),
          ),
      },
    ]),
  });
  const listNote = el('p', { class: 'hint', hidden: '' });

  /** @param {string} name @param {?number} to */
  function choose(name, to) {
    range = name;
    end = to !== null && to < live.now() ? to : null;
    remember(address('users', { range: range === 'day' ? '' : range, end }, user));
    show();
    const at = now;
    // What is asked for in vain is asked for again soon.
    if (at)
      reachBack(at).then(show, (error) => {
        if (!(error instanceof ApiError)) throw error;
      });
  }

  /** By half of what is shown. @param {number} direction */
  const move = (direction) => choose(range, (end ?? live.now()) + (direction * RANGES[range]) / 2);

  function limits() {
    const to = end ?? live.now();
    return { from: to - RANGES[range], to };
  }

  function show() {
    for (const it of buttons) it.setAttribute('aria-pressed', String(it.dataset.range === range));
    const { from, to } = limits();
    later.toggleAttribute('disabled', end === null);
    toNow.hidden = end === null;
    span.textContent = t('from_to', { from: exactly(from), to: exactly(to) });
    if (!now) return;
    const begin = Math.max(from, isCut ? reach : from);
    note.hidden = begin === from;
    note.textContent = t('history_cut', { at: exactly(begin) });
    const known = events.filter(({ at }) => at >= from);
    // Of a damaged record it is not known how the user is after the last change: nothing is drawn there.
    const until = now === DAMAGED ? Math.min(to, known[known.length - 1]?.at ?? from) : to;
    drawn.show(lanesOf(known, now, from, until), from, to);
    const damage = damagedChanges(holes);
    notice.show(damage);
    const shown = known.filter(({ at }) => at <= to).reverse();
    list.show(shown.slice(0, TABLE_MAX), damage);
    listNote.hidden = shown.length <= TABLE_MAX;
    listNote.textContent = t('shown_of', { count: TABLE_MAX, all: shown.length });
  }

  /** Reads the history back to where the timeline begins. @param {typeof DAMAGED} status @param {AbortSignal} [signal] */
  async function reachBack(status, signal) {
    const { from } = limits();
    if (reach <= from) return;
    /** @type {HubEvent[]} */
    const read = [];
    /** @type {?string} */
    let before = null;
    let damagedCount = 0;
    isCut = false;
    for (let page = 0; ; page++) {
      if (page === PAGES_MAX) {
        isCut = true;
        break;
      }
      /** @type {EventPage} */
      const { events, next, damaged } = await get(withQuery(userPath(user, '/history'), { limit: PAGE, before }), signal);
      read.push(...events);
      damagedCount += damaged?.length ?? 0;
      before = next;
      if (next === null || (events.length && events[events.length - 1].at < from)) break;
    }
    events = read.reverse();
    holes = damagedCount;
    reach = isCut && events.length ? events[0].at : from;
    now = status;
  }

  return {
    element: el(
      'section',
      { class: 'card timeline-card' },
      el(
        'div',
        { class: 'title' },
        el('h2', {}, t('timeline')),
        el('div', { class: 'segments', role: 'group', 'aria-label': t('range') }, ...buttons),
        el('div', { class: 'segments' }, earlier, later, toNow),
        span,
      ),
      notice.element,
      drawn,
      note,
      el(
        'p',
        { class: 'hint legend-states' },
        ...['Online', 'PushOnline', 'Offline'].map((state) => el('span', { class: `legend-state ${state}` }, t(state))),
        el('span', {}, t('legend_kicked')),
      ),
    ),
    changes: el('section', { class: 'card' }, el('h2', {}, t('changes')), list.element, listNote),

    /** @param {?UserDetail} detail null: damaged @param {AbortSignal} signal */
    async update(detail, signal) {
      const status = detail ?? DAMAGED;
      // Nothing new without a new version.
      if (!now || reach > limits().from || status.version !== now.version) {
        reach = Infinity;
        await reachBack(status, signal);
      }
      now = status;
      show();
    },
  };
}
