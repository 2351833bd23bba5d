// A screen of the latest entries of a kind: the hub answers all that it keeps, and the filters choose among them here.

import { el, number } from '../ui.js';
import { t } from '../i18n.js';
import { filters, outcome, shownOf } from './parts.js';
import { repeat } from './poll.js';

/** As many as the hub keeps, and as a call answers. */
export const KEPT = 1000;
const ROWS = 200;

/**
 * `show` shows anew what the filters choose.
 *
 * @template T
 * @param {object} how
 * @param {string} how.title
 * @param {Node} how.lead
 * @param {number} how.everyMs
 * @param {(signal: AbortSignal) => Promise<T[]>} how.ask the latest first
 * @param {(entry: T) => boolean} how.wants
 * @param {{ element: HTMLElement, show: (entries: T[]) => void }} how.list
 * @param {Node[]} how.fields
 * @param {(all: T[]) => void} [how.onShow]
 * @returns {{ screen: import('./main.js').Screen, show: () => void }}
 */
export function latest({ title, lead, everyMs, ask, wants, list, fields, onShow = () => {} }) {
  const problem = outcome();
  const count = el('p', { class: 'hint num', role: 'status' });
  /** @type {T[]} */
  let all = [];

  function show() {
    const found = all.filter(wants);
    const shown = found.slice(0, ROWS);
    list.show(shown);
    count.textContent = shown.length ? shownOf(shown.length, ROWS, null, found.length) : '';
    onShow(all);
  }

  const asking = repeat(
    everyMs,
    async (signal) => {
      all = await ask(signal);
      show();
      problem.tell('');
    },
    (error) => error.isOwn && problem.tell(t('failed', { message: error.message }), true),
  );
  const card = el('div', { class: 'card' }, filters(...fields), problem.element, list.element, count);
  return { screen: { title, element: el('section', { class: 'screen' }, lead, card), close: asking.end }, show };
}
