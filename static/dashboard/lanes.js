// What the log says, put in order: in which state each device and the user were, from when to when.

/** @import { Cause, HubEvent, State, UserDetail } from './shapes.d.ts' */

/** @typedef {{ from: number, to: number, state: State }} Piece */
/** @typedef {{ platform: ?string, device: ?string, pieces: Piece[], events: HubEvent[] }} Lane the user's has no device */

const NAMELESS = 'before ';
/** What is marked in the user's lane though the state stays. @type {Cause[]} */
const SHOWN_UNCHANGED = ['custom', 'visibility', 'idle', 'active'];
/** @type {Record<State, number>} */
const RANK = { Offline: 0, PushOnline: 1, Online: 2 };

/**
 * The user's lane, then those of the devices that were there at any time between, in the order of their platforms.
 *
 * @param {HubEvent[]} events all of the user that happened since `from`, the earliest first
 * @param {Pick<UserDetail, 'state' | 'terminals'>} now how the user is, by the last of them
 * @param {number} from
 * @param {number} to
 * @returns {Lane[]}
 */
export function lanesOf(events, now, from, to) {
  const devices = new Map();
  /** @param {{ platform: string, device: string }} it @returns {HubEvent[]} */
  const eventsOf = ({ platform, device }) => {
    const key = `${platform} ${device}`;
    if (!devices.has(key)) devices.set(key, { platform, device, events: [] });
    return devices.get(key).events;
  };
  for (const event of events) if (event.terminal) eventsOf(event.terminal).push(event);
  for (const terminal of now.terminals) eventsOf(terminal);

  const own = events.map(({ at, state }) => ({ at, state: state.to }));
  const lane = pieces(events[0]?.state.from ?? now.state, own, from, to);
  const shown = events.filter(({ at, state, cause }) => at <= to && (state.from !== state.to || SHOWN_UNCHANGED.includes(cause)));
  const others = [...devices.values()]
    .map(({ platform, device, events }) => ({
      platform,
      device,
      events: events.filter((/** @type {HubEvent} */ { at }) => at <= to),
      pieces: devicePieces(events, now, platform, device, from, to),
    }))
    .filter(({ events, pieces }) => events.length || pieces.some(({ state }) => state !== 'Offline'))
    .sort((a, b) => order(a).localeCompare(order(b)));
  return [{ platform: null, device: null, pieces: lane, events: shown }, ...others];
}

/**
 * A device is what the best of its sessions is: tabs of a browser stand side by side.
 *
 * @param {HubEvent[]} events
 * @param {Pick<UserDetail, 'terminals'>} now
 * @param {string} platform
 * @param {string} device
 * @param {number} from
 * @param {number} to
 */
function devicePieces(events, now, platform, device, from, to) {
  /** @type {Map<string, State>} */
  const sessions = new Map();
  for (const terminal of now.terminals) {
    if (terminal.platform === platform && terminal.device === device) sessions.set(terminal.session, terminal.state);
  }
  for (const { cause, terminal } of [...events].reverse()) if (terminal) undo(sessions, cause, terminal);
  const before = best(sessions);
  const changes = events.map(({ at, cause, terminal }) => {
    if (terminal) redo(sessions, cause, terminal);
    return { at, state: best(sessions) };
  });
  return pieces(before, changes, from, to);
}

/**
 * A login that found its device there took the place of a session that is not named. Going back in time it is a
 * nameless one, until an earlier event names it.
 *
 * @param {Map<string, State>} sessions
 * @param {Cause} cause
 * @param {NonNullable<HubEvent['terminal']>} terminal
 */
function undo(sessions, cause, { session, from, to }) {
  if (to && !sessions.has(session)) {
    const nameless = [...sessions.keys()].find((key) => key.startsWith(NAMELESS));
    if (nameless) sessions.delete(nameless);
  }
  sessions.delete(session);
  if (from) sessions.set(cause === 'login' ? NAMELESS + session : session, from);
}

/** @param {Map<string, State>} sessions @param {Cause} cause @param {NonNullable<HubEvent['terminal']>} terminal */
function redo(sessions, cause, { session, from, to }) {
  if (cause === 'login' && from && !sessions.delete(NAMELESS + session)) {
    // The earliest: where tabs don't share a device, it is the only one.
    const [first] = sessions.keys();
    sessions.delete(first);
  }
  if (to) sessions.set(session, to);
  else sessions.delete(session);
}

/** @param {Map<string, State>} sessions @returns {State} */
function best(sessions) {
  return [...sessions.values()].reduce((/** @type {State} */ a, b) => (RANK[a] >= RANK[b] ? a : b), 'Offline');
}

/** @param {State} first @param {{ at: number, state: State }[]} changes @param {number} from @param {number} to */
function pieces(first, changes, from, to) {
  /** @type {Piece[]} */
  const all = [];
  let state = first;
  let since = from;
  /** @param {number} until */
  const push = (until) => {
    const last = all[all.length - 1];
    if (until <= since) return;
    if (last?.state === state) last.to = until;
    else all.push({ from: since, to: until, state });
  };
  for (const change of changes) {
    const at = Math.min(Math.max(change.at, from), to);
    push(at);
    since = Math.max(since, at);
    state = change.state;
  }
  push(to);
  return all;
}

/** @param {{ platform: string, device: string }} lane */
function order({ platform, device }) {
  const platforms = ['ios', 'android', 'ipad', 'mac', 'windows', 'linux', 'web', 'miniprogram'];
  return `${platforms.indexOf(platform)} ${device}`;
}
