// The counts, shared by all screens: once a second where they are looked at, every five elsewhere, and what they were
// in the last quarter of an hour.

import { get } from './api.js';
import { attentionOf } from './attention.js';
import { repeat } from './poll.js';
/** @import { Point, Series, Stats } from './shapes.d.ts' */

const CLOSE_MS = 1000;
const FAR_MS = 5000;
/** Rates are taken over so long, that a second without a login is no zero. */
const RATE_MS = 5000;
export const SERIES_MINUTES = 15;
const KEEP_MS = (SERIES_MINUTES + 1) * 60_000;

/** Tells `change` for each new count, and `series` for each new point of the past. */
export const live = new (class extends EventTarget {
  /** @type {?Stats} */
  stats = null;
  /** The earliest first. @type {Point[]} */
  points = [];
  /** The counts of the last seconds, the earliest first. @type {Stats[]} */
  #recent = [];
  #isClose = false;
  #ahead = 0;
  /** @type {?ReturnType<typeof repeat>} */
  #counts = null;
  /** @type {?ReturnType<typeof repeat>} */
  #past = null;

  /** @param {boolean} isClose whether the counts are what is looked at */
  watch(isClose) {
    this.#isClose = isClose;
    if (this.#counts) this.#counts.now();
    else
      this.#counts = repeat(
        () => (this.#isClose ? CLOSE_MS : FAR_MS),
        (signal) => this.#ask(signal),
      );
    if (isClose && !this.#past) this.#past = repeat(FAR_MS, (signal) => this.#askPast(signal));
    if (!isClose) this.#endPast();
  }

  /** Nobody may look any more. */
  stop() {
    this.#counts?.end();
    this.#counts = null;
    this.#endPast();
    this.stats = null;
    this.points = this.#recent = [];
  }

  /** What time it is at the hub, whose clock need not be that of the browser. */
  now() {
    return Date.now() + this.#ahead;
  }

  /** How much a count grows in a second; null where that is not known yet. @param {(point: Point) => number} count */
  rate(count) {
    const [first] = this.#recent;
    const last = this.stats;
    return first && last && last.at > first.at ? rateBetween(first, last, count) : null;
  }

  attention() {
    return this.stats ? attentionOf(this.stats, this.points) : [];
  }

  /** @param {AbortSignal} signal */
  async #ask(signal) {
    /** @type {Stats} */
    const stats = await get('stats', signal);
    const isRestarted = this.stats && stats.uptime_ms < this.stats.uptime_ms;
    this.#recent = isRestarted ? [] : this.#recent.filter(({ at }) => at >= stats.at - RATE_MS);
    this.#recent.push(stats);
    this.stats = stats;
    this.#ahead = stats.at - Date.now();
    this.dispatchEvent(new Event('change'));
  }

  /** @param {AbortSignal} signal */
  async #askPast(signal) {
    const last = this.points[this.points.length - 1];
    /** @type {Series} */
    const { points } = await get(`stats/series?minutes=${SERIES_MINUTES}${last ? `&after=${last.at}` : ''}`, signal);
    const now = points.length ? points[points.length - 1].at : (last?.at ?? 0);
    this.points = [...this.points, ...points].filter(({ at }) => at >= now - KEEP_MS);
    this.dispatchEvent(new Event('series'));
  }

  #endPast() {
    this.#past?.end();
    this.#past = null;
  }
})();

/**
 * How much a count grew in a second. A hub that was restarted began anew: not known.
 *
 * @param {Point} before
 * @param {Point} after
 * @param {(point: Point) => number} count
 */
export function rateBetween(before, after, count) {
  if (after.uptime_ms < before.uptime_ms) return null;
  return Math.max(0, ((count(after) - count(before)) * 1000) / (after.at - before.at));
}
