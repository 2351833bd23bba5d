// The webhook's last failures: those of one kind are one.

/** @typedef {{ kind: string, error: string, requests: number, events: number, attempts: number, first: number, last: number }} Failures `error` is what was said last */

/**
 * @param {{ at: number, events: number, attempts: number, error: string }[]} failures the latest last
 * @returns {Failures[]} the latest first
 */
export function groupsOf(failures) {
  /** @type {Map<string, Failures>} */
  const groups = new Map();
  for (const { at, events, attempts, error } of failures) {
    const kind = kindOf(error);
    const group = groups.get(kind) ?? { requests: 0, events: 0, attempts: 0, first: at, last: at };
    groups.set(kind, {
      kind,
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

/** What a receiver adds to its status may differ each time, such as the number of a request. @param {string} error */
const kindOf = (error) => /^status \d+/.exec(error)?.[0] ?? error;
