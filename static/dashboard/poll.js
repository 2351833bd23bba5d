// Asking again and again, but only while somebody looks.

import { ApiError } from './api.js';

/**
 * Acts at once and then every so often after the last time was done, while the page is shown. What the hub refuses,
 * or is away for, is told by whoever asks: `api.js` tells everybody, `onError` this one.
 *
 * @param {number | (() => number)} everyMs
 * @param {(signal: AbortSignal) => Promise<void>} act its signal ends what is under way when nobody wants it any more
 * @param {(error: ApiError) => void} [onError]
 */
export function repeat(everyMs, act, onError = () => {}) {
  /** @type {number | undefined} */
  let timer;
  let running = new AbortController();
  let ended = false;

  async function turn() {
    clearTimeout(timer);
    running.abort();
    if (ended || document.hidden) return;
    const mine = (running = new AbortController());
    try {
      await act(mine.signal);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!mine.signal.aborted) onError(error);
    }
    if (!mine.signal.aborted) timer = setTimeout(turn, typeof everyMs === 'function' ? everyMs() : everyMs);
  }

  document.addEventListener('visibilitychange', turn);
  turn();
  return {
    /** Asks now, whatever is under way. */
    now: turn,
    end() {
      ended = true;
      document.removeEventListener('visibilitychange', turn);
      turn();
    },
  };
}
