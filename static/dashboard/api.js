// The server API, by the cookie of this browser. What goes wrong is an `ApiError`, and who listens to `link` hears
// whether the hub answers at all.

const ANSWER_MS = 8000;
const QUIET_MS = 40_000;
/** See `pageOf`. */
const CALLS_MAX = 20;
/** The hub's code for a user whose record is damaged. */
const DAMAGED = 'damaged';
/** What a page of another origin cannot send along unasked: without it, the hub takes no order by cookie. */
const ACTS = { 'X-Presence-Hub': 'dashboard' };

/** Tells `change`: the hub went away, came back, or wants a key. */
export const link = new (class extends EventTarget {
  /** Since when it does not answer. @type {?number} */
  awaySince = null;
  /** Whether it is known to want a key. */
  isDenied = false;

  /** @param {boolean} answers @param {boolean} isDenied */
  report(answers, isDenied) {
    const awaySince = answers ? null : (this.awaySince ?? Date.now());
    if (awaySince === this.awaySince && isDenied === this.isDenied) return;
    this.awaySince = awaySince;
    this.isDenied = isDenied;
    this.dispatchEvent(new Event('change'));
  }
})();

export class ApiError extends Error {
  /**
   * @param {number} status 0: no answer
   * @param {string} code
   * @param {string} message
   * @param {number} [retryAfter] in seconds
   */
  constructor(status, code, message, retryAfter) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether asking again is in vain. */
  get isRefused() {
    return this.status >= 400 && this.status < 500;
  }

  /** Whether the user's record is damaged on disk. The hub answers 500, and is not away. */
  get isDamage() {
    return this.code === DAMAGED;
  }

  /** Whether it is the question's own fault, and not told by `link`. */
  get isOwn() {
    return (this.isRefused && this.status !== 401) || this.isDamage;
  }
}

/**
 * @template T
 * @param {string} path below `/v1/`
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function get(path, signal) {
  const answer = await ask(path, { signal: either(signal, AbortSignal.timeout(ANSWER_MS)) }, signal);
  return json(answer);
}

/**
 * Gives an order. What an order cannot do, it says itself; it is never repeated.
 *
 * @template T
 * @param {'POST' | 'PUT' | 'PATCH' | 'DELETE'} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<T>}
 */
export async function act(method, path, body = {}) {
  const answer = await ask(path, {
    method,
    headers: { 'Content-Type': 'application/json', ...ACTS },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  return json(answer);
}

/**
 * The transition log as it is written, event by event, until the signal ends it or the hub does.
 *
 * @param {string} after
 * @param {AbortSignal} signal
 * @param {(event: import('./shapes.d.ts').HubEvent | import('./shapes.d.ts').Hole) => void} onEvent
 * @param {() => void} onOpen
 */
export async function follow(after, signal, onEvent, onOpen) {
  const answer = await ask(
    `events?${new URLSearchParams({ after })}`,
    { headers: { Accept: 'text/event-stream' }, signal },
    signal,
  );
  if (!answer.body) throw new ApiError(0, 'away', 'no stream');
  onOpen();
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  /** @type {number | undefined} */
  let timer;
  try {
    for (;;) {
      // A stream that has nothing to say shows every 15 s that it is there.
      clearTimeout(timer);
      timer = setTimeout(() => reader.cancel().catch(() => {}), QUIET_MS);
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const frames = text.split('\n\n');
      text = frames.pop() ?? '';
      for (const frame of frames) {
        const [, cursor] = /^id: ?(.*)$/m.exec(frame) ?? [];
        const [, data] = /^data: ?(.*)$/m.exec(frame) ?? [];
        if (cursor && data) onEvent(JSON.parse(data));
      }
    }
  } catch (error) {
    throw signal.aborted ? aborted() : new ApiError(0, 'away', String(error));
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {}); // over already
  }
}

/** A path of `/v1` with what is asked for: what is empty is left out. @param {string} path @param {Record<string, string | number | null | undefined>} query */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  return given.length ? `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : path;
}

/**
 * A page of a list, put together of several answers where the hub found too few in one: it looks at so many in a call
 * and no more. `damaged` are the users whom the hub left out.
 *
 * @template T
 * @param {(next: ?string, limit: number) => Promise<{ items: T[], next: ?string, damaged?: string[] }>} ask
 * @param {string} cursor where the page begins
 * @param {number} size
 */
export async function pageOf(ask, cursor, size) {
  /** @type {T[]} */
  const all = [];
  /** @type {Set<string>} */
  const damaged = new Set();
  /** @type {?string} */
  let next = cursor || null;
  let calls = 0;
  do {
    const page = await ask(next, size - all.length);
    all.push(...page.items);
    for (const user of page.damaged ?? []) damaged.add(user);
    next = page.next;
  } while (next !== null && all.length < size && ++calls < CALLS_MAX);
  return { items: all, next, damaged: [...damaged] };
}

/** @param {string} user @param {string} [rest] */
export const userPath = (user, rest = '') => `users/${encodeURIComponent(user)}${rest}`;

/** @param {string} path @param {RequestInit} how @param {AbortSignal} [signal] the asker's own */
async function ask(path, how, signal) {
  let answer;
  try {
    answer = await fetch(`/v1/${path}`, { cache: 'no-store', credentials: 'same-origin', ...how });
  } catch (error) {
    if (signal?.aborted) throw aborted();
    link.report(false, link.isDenied);
    throw new ApiError(0, 'away', String(error));
  }
  if (answer.ok) {
    link.report(true, false);
    return answer;
  }
  const { error } = await answer.json().catch(() => ({ error: {} }));
  link.report(answer.status < 500 || error?.code === DAMAGED, answer.status === 401);
  const retryAfter = Number(answer.headers.get('Retry-After')) || undefined;
  throw new ApiError(answer.status, error?.code ?? '', error?.message ?? `HTTP ${answer.status}`, retryAfter);
}

/** @param {Response} answer */
const json = (answer) =>
  answer.json().catch((error) => {
    throw new ApiError(0, 'away', String(error));
  });

const aborted = () => new ApiError(0, 'aborted', 'not wanted any more');

/** @param {AbortSignal | undefined} one @param {AbortSignal} other */
function either(one, other) {
  if (!one) return other;
  const both = new AbortController();
  for (const it of [one, other]) {
    if (it.aborted) both.abort();
    it.addEventListener('abort', () => both.abort(), { once: true });
  }
  return both.signal;
}
