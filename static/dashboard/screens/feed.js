// What happens, as it happens.

import { t } from '../../i18n.js';
import { clock, el } from '../../ui.js';
import { ApiError, follow, get } from '../api.js';
import { CAUSES } from '../causes.js';
import { exactly, number } from '../format.js';
import { live } from '../live.js';
import {
  choice,
  deviceName,
  field,
  filters,
  heading,
  mark,
  platformOptions,
  table,
  userChange,
  userLink,
  whatHappened,
} from '../parts.js';
import { address, remember } from '../router.js';
import { Sampler } from '../sampler.js';
/** @import { Hole, HubEvent, StatusPage } from '../shapes.d.ts' */

export const ROWS_MAX = 500;
const ROWS_PER_SECOND = 50;
const SHOW_MS = 250;
const AGAIN_MS = 1000;

/** A change, one that is damaged on disk, or a gap in what was looked at. @typedef {{ id: string, event?: HubEvent, hole?: Hole, gap?: number }} Row */

/** @param {import('../router.js').Route} route @returns {import('../main.js').Screen} */
export function open({ query }) {
  const wanted = Object.fromEntries(['user', 'platform', 'state', 'cause'].map((name) => [name, query.get(name) ?? '']));
  /** @type {Sampler<Row>} */
  const sampler = new Sampler(ROWS_PER_SECOND);
  /** The latest first. @type {Row[]} */
  let rows = [];
  /** What came since rows were last shown. @type {Row[]} */
  let waiting = [];
  /** How many matched and are not shown. */
  let skipped = 0;
  let total = 0;
  let isPaused = false;
  let isOpen = false;
  let stream = new AbortController();
  let isClosed = false;

  const title = t('screen_feed');
  const notice = el('p', { class: 'hint', id: 'feed-sampled', role: 'status' });
  const rate = el('span', { class: 'num', id: 'feed-rate' });
  const pause = el('button', { type: 'button', id: 'feed-pause', on: { click: () => setPaused(!isPaused) } });
  const list = table({
    label: title,
    empty: 'feed_none',
    key: ({ id }) => id,
    data: ({ event, hole }) => ({ user: (event ?? hole)?.user ?? '', cause: event?.cause ?? (hole ? 'damaged' : 'gap') }),
    columns: /** @type {import('../parts.js').Column<Row>[]} */ ([
      {
        title: 'at',
        value: ({ id }) => id,
        cell: ({ event, gap }) => {
          const at = event?.at ?? gap;
          if (at === undefined) return t('never');
          return el('time', { class: 'num', datetime: new Date(at).toISOString(), title: exactly(at) }, clock(at));
        },
      },
      { title: 'user', value: ({ id }) => id, cell: ({ event, hole }) => userCell(event ?? hole), kind: 'main-cell' },
      {
        title: 'device',
        value: ({ id }) => id,
        cell: ({ event }) => (event?.terminal ? deviceName(event.terminal) : null),
      },
      {
        title: 'what',
        value: ({ id }) => id,
        cell: ({ event, hole }) =>
          event
            ? whatHappened(event)
            : hole
              ? mark('bad', t('change_damaged'))
              : el('span', { class: 'hint' }, t('feed_gap')),
        kind: 'wide-cell',
      },
      { title: 'user_state', value: ({ id }) => id, cell: ({ event }) => (event ? userChange(event) : null) },
    ]),
  });

  /** Follows the log from now on, and from now on again where the hub was away or nobody looked. */
  async function run() {
    stream.abort();
    if (isClosed || document.hidden) return;
    const mine = (stream = new AbortController());
    const { signal } = mine;
    while (!signal.aborted) {
      try {
        // A page of one tells where the log is now.
        /** @type {StatusPage & { cursor: string }} */
        const { cursor } = await get('snapshot?limit=1', signal);
        await follow(cursor, signal, take, () => {
          isOpen = true;
          tell();
        });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) return;
      }
      if (signal.aborted) return;
      lose();
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  /** What comes now may not be all that happened since the last row. */
  function lose() {
    if (isOpen && rows.length && !rows[0].gap) rows.unshift({ id: `gap ${live.now()}`, gap: live.now() });
    isOpen = false;
    tell();
  }

  /** @param {HubEvent | Hole} it */
  function take(it) {
    /** @type {Row} */
    const row = 'damaged' in it ? { id: it.cursor, hole: it } : { id: it.id, event: it };
    if (!matches(row)) return;
    total++;
    waiting.push(row);
    // Bounded also where nobody looks for long.
    if (waiting.length > 20 * ROWS_MAX) {
      skipped += waiting.length - ROWS_MAX;
      waiting = waiting.slice(-ROWS_MAX);
    }
  }

  /** Of a damaged change only the user is known: it may be any. @param {Row} row */
  function matches({ event, hole }) {
    if (!event) return hole !== undefined && hole.user.includes(wanted.user);
    const { user, terminal, state, cause } = event;
    return (
      (!wanted.user || user.includes(wanted.user)) &&
      (!wanted.platform || terminal?.platform === wanted.platform) &&
      (!wanted.state || state.to === wanted.state) &&
      (!wanted.cause || cause === wanted.cause)
    );
  }

  function turn() {
    const now = Date.now();
    if (!isPaused) {
      const shown = sampler.take(waiting, now);
      skipped += waiting.length - shown.length;
      waiting = [];
      if (shown.length) {
        rows = [...shown.reverse(), ...rows].slice(0, ROWS_MAX);
        list.show(rows);
      }
    }
    tell();
  }

  function tell() {
    const perSecond = sampler.rate(Date.now());
    rate.textContent = !isOpen
      ? t('feed_connecting')
      : isPaused
        ? t('feed_paused', { count: number(waiting.length) })
        : t('feed_rate', { count: number(perSecond), all: number(total) });
    notice.textContent = skipped ? t('feed_sampled', { max: ROWS_PER_SECOND, count: number(skipped) }) : '';
  }

  /** @param {boolean} to */
  function setPaused(to) {
    isPaused = to;
    pause.textContent = t(isPaused ? 'feed_resume' : 'feed_pause');
    pause.setAttribute('aria-pressed', String(isPaused));
    turn();
  }

  /** @param {Record<string, string>} to */
  function change(to) {
    Object.assign(wanted, to);
    remember(address('feed', wanted));
    rows = rows.filter(matches);
    waiting = waiting.filter(matches);
    skipped = 0;
    list.show(rows);
    tell();
  }

  const looked = () => {
    if (document.hidden) lose();
    run();
  };
  const any = /** @type {[string, string]} */ (['', t('any')]);
  const form = filters(
    field(t('user_contains'), wanted.user, (user) => change({ user }), { maxlength: '128' }).element,
    choice(t('platform'), wanted.platform, platformOptions(), (platform) => change({ platform })).element,
    choice(
      t('becomes_state'),
      wanted.state,
      [any, ...['Online', 'PushOnline', 'Offline'].map((name) => /** @type {[string, string]} */ ([name, t(name)]))],
      (state) => change({ state }),
    ).element,
    choice(
      t('cause'),
      wanted.cause,
      [any, ...CAUSES.map((name) => /** @type {[string, string]} */ ([name, t(`cause_${name}`)]))],
      (cause) => change({ cause }),
    ).element,
    pause,
  );
  document.addEventListener('visibilitychange', looked);
  const timer = setInterval(turn, SHOW_MS);
  list.show(rows);
  setPaused(false);
  run();
  return {
    title,
    element: el(
      'section',
      { class: 'screen' },
      heading(title, t('feed_lead', { max: ROWS_MAX })),
      el('div', { class: 'card' }, form, el('div', { class: 'title' }, rate, notice), list.element),
    ),
    close() {
      isClosed = true;
      stream.abort();
      clearInterval(timer);
      document.removeEventListener('visibilitychange', looked);
    },
  };
}

/** @param {{ user: string }} [of] */
const userCell = (of) => (of ? userLink(of.user) : null);
