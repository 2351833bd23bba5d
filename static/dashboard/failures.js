// The webhook's last failures: those that say the same are one.

/** @typedef {{ error: string, requests: number, events: number, attempts: number, first: number, last: number }} Failures */

/**
 * @param {{ at: number, events: number, attempts: number, error: string }[]} failures the latest last
 * @returns {Failures[]} the latest first
 */
export function groupsOf(failures) {
  /** @type {Map<string, Failures>} */
  const groups = new Map();
  for (const { at, events, attempts, error } of failures) {
    const group = groups.get(error) ?? { error, requests: 0, events: 0, attempts: 0, first: at, last: at };
    groups.set(error, {
      error,
      requests: group.requests + 1,
      events: Math.max(group.events, events),
      attempts: Math.max(group.attempts, attempts),
      first: Math.min(group.first, at),
      last: Math.max(group.last, at),
    });
  }
  return [...groups.values()].sort((a, b) => b.last - a.last);
}
