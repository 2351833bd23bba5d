// The figures of the last days, as a table.

import { locale, t } from '../i18n.js';
import { el } from '../ui.js';
import { get } from './api.js';
import { duration, number } from './format.js';
import { table } from './parts.js';
import { repeat } from './poll.js';
/** @import { Day, DayPage } from './shapes.d.ts' */

const EVERY_MS = 60_000;
const DAYS = 30;

/** Days are counted in UTC, wherever the reader is. @param {number} at */
const dateOf = (at) => new Date(at).toLocaleDateString(locale(), { timeZone: 'UTC' });

/** A card with the figures, and a function that ends its calls. */
export function days() {
  /** @param {'peak_users' | 'peak_sessions' | 'users' | 'logins' | 'kicks' | 'blinks'} name */
  const count = (name) => ({
    title: `day_${name}`,
    value: (/** @type {Day} */ day) => day[name],
    cell: (/** @type {Day} */ day) => number(day[name]),
    kind: 'num',
  });
  const all = table({
    label: t('days'),
    empty: 'days_none',
    key: ({ day }) => String(day),
    data: ({ day }) => ({ day: String(day) }),
    columns: /** @type {import('./parts.js').Column<Day>[]} */ ([
      { title: 'day', value: ({ day }) => day, cell: ({ day }) => dateOf(day), kind: 'main-cell' },
      count('peak_users'),
      count('peak_sessions'),
      count('users'),
      count('logins'),
      count('kicks'),
      {
        title: 'day_session',
        value: ({ session_ms }) => session_ms,
        cell: ({ session_ms }) => (session_ms == null ? t('never') : duration(session_ms)),
        kind: 'num',
      },
      count('blinks'),
    ]),
  });
  const asking = repeat(EVERY_MS, async (signal) => {
    /** @type {DayPage} */
    const page = await get(`figures?days=${DAYS}`, signal);
    all.show([...page.days].reverse());
  });
  return {
    element: el('section', { class: 'card', id: 'days' }, el('h2', {}, t('days')), el('p', { class: 'hint' }, t('days_hint')), all.element),
    end: () => asking.end(),
  };
}
