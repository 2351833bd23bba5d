// What react.mjs, vue.mjs and svelte.mjs share: parts of a client as stores, and who connects it.

/** @import { PresenceClient, Status } from './presence' */
/** @import { KickedNotice, Self } from './bindings.mjs' */

/** How often each client is held, and whether it was connected here. @type {WeakMap<PresenceClient, { count: number, own: boolean }>} */
const held = new WeakMap();
/** Why each client's session was ended. @type {WeakMap<PresenceClient, { value: ?KickedNotice }>} */
const notices = new WeakMap();

/** @type {typeof import('./bindings.mjs').hold} */
export function hold(client) {
  keepNotice(client);
  const mine = held.get(client) ?? { count: 0, own: client.state === 'disconnected' };
  if (!held.has(client) && mine.own) client.connect();
  held.set(client, mine);
  mine.count += 1;
  return () => {
    mine.count -= 1;
    // React's StrictMode mounts everything twice: what is mounted again at once has not left.
    setTimeout(() => {
      if (mine.count > 0 || held.get(client) !== mine) return;
      held.delete(client);
      if (mine.own) client.logout();
    }, 0);
  };
}

/** @type {typeof import('./bindings.mjs').statusesOf} */
export function statusesOf(client, ids) {
  const users = /** @type {string[]} */ ([ids].flat().filter((user) => user != null));
  const all = () => new Map(users.flatMap((user) => {
    const status = client?.get(user);
    return status ? [/** @type {[string, Status]} */ ([user, status])] : [];
  }));
  const sameMap = (/** @type {Map<string, Status>} */ one, /** @type {Map<string, Status>} */ other) =>
    one.size === other.size && [...other].every(([user, status]) => one.get(user) === status);
  const get = Array.isArray(ids) ? kept(all, sameMap) : () => (users[0] != null && client?.get(users[0])) || null;
  return /** @type {any} */ ({ get, listen: following(client, () => users) });
}

/** @type {typeof import('./bindings.mjs').selfOf} */
export function selfOf(client) {
  const now = () => {
    const { user = null, state: connection = 'disconnected', stale = false } = client ?? {};
    return { user, connection, stale, status: (user != null && client?.get(user)) || null };
  };
  const sameSelf = (/** @type {Self} */ one, /** @type {Self} */ other) =>
    one.user === other.user && one.connection === other.connection && one.stale === other.stale && one.status === other.status;
  return { get: kept(now, sameSelf), listen: following(client, () => (client?.user == null ? [] : [client.user])) };
}

/** @type {typeof import('./bindings.mjs').kickedOf} */
export function kickedOf(client) {
  return {
    get: () => (client && notices.get(client)?.value) ?? null,
    listen(changed) {
      if (!client) return () => {};
      keepNotice(client); // first, so that the notice is there when `changed` is called
      const ends = /** @type {const} */ (['kicked', 'superseded', 'state', 'stale']).map((event) => client.on(event, changed));
      return () => ends.forEach((end) => end());
    },
  };
}

/** Keeps the notice of a client, which tells it once, for whoever asks later. @param {PresenceClient} client */
function keepNotice(client) {
  if (notices.has(client)) return;
  /** @type {{ value: ?KickedNotice }} */
  const notice = { value: null };
  notices.set(client, notice);
  const loginHere = () => client.loginHere();
  const clear = () => {
    if (client.state !== 'disconnected' || !client.stale) notice.value = null;
  };
  client.on('kicked', (kicked) => (notice.value = { ...kicked, loginHere }));
  client.on('superseded', () => (notice.value = { reason: 'superseded', by: null, at: null, loginHere }));
  client.on('state', clear);
  client.on('stale', clear);
}

/**
 * Subscribes to these users as long as it is listened to. A logout forgets subscriptions, so each login begins them anew. This
 * sends nothing more, as all subscriptions of one turn go in one message.
 *
 * @param {?PresenceClient} client
 * @param {() => string[]} users
 * @returns {(changed: () => void) => () => void}
 */
const following = (client, users) => (changed) => {
  if (!client) return () => {};
  let end = () => {};
  const begin = () => {
    const last = end;
    end = client.subscribe(users(), changed);
    last();
    changed();
  };
  const ends = [client.on('session', begin), .../** @type {const} */ (['state', 'stale', 'unwatched']).map((event) => client.on(event, changed))];
  begin();
  return () => [...ends, end].forEach((stop) => stop());
};

/**
 * What `now` returns; the last one again, while it is the same.
 *
 * @template T
 * @param {() => T} now
 * @param {(one: T, other: T) => boolean} isSame
 */
function kept(now, isSame) {
  let last = now();
  return () => {
    const next = now();
    if (!isSame(last, next)) last = next;
    return last;
  };
}
