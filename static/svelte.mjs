// Stores for Svelte. See README.md.

import { getContext, onMount, setContext } from 'svelte';
import { derived, readable } from 'svelte/store';
import { hold, kickedOf, selfOf, statusesOf } from './bindings.mjs';

/** @import { Readable } from 'svelte/store' */
/** @import { PresenceClient } from './presence' */
/** @import { Store } from './bindings.mjs' */

const KEY = Symbol('presence-hub');
/** On a server nothing is connected and nothing subscribed to. */
const inPage = typeof window === 'object';

/** @type {typeof import('./svelte.mjs').providePresence} */
export function providePresence(client) {
  // A client has a `subscribe` of its own, so that alone does not make it a store.
  const given = client && !('connect' in client) ? client : readable(client);
  setContext(KEY, given);
  // With two parameters, what the function returns is called before the next client.
  onMount(() => derived(given, (now, _) => (now ? hold(now) : undefined)).subscribe(() => {}));
}

/** @type {typeof import('./svelte.mjs').usePresenceClient} */
export function usePresenceClient() {
  const client = getContext(KEY);
  if (!client) throw new Error('presence-hub/svelte: no component above this one calls providePresence(client)');
  return /** @type {Readable<?PresenceClient>} */ (client);
}

/** @type {typeof import('./svelte.mjs').usePresence} */
export function usePresence(ids) {
  const given = ids && typeof ids === 'object' && 'subscribe' in ids ? ids : readable(ids);
  return derived([usePresenceClient(), given], valueOf(([client, ids]) => statusesOf(client, ids)));
}

/** @type {typeof import('./svelte.mjs').useSelf} */
export const useSelf = () => derived(usePresenceClient(), valueOf(selfOf));

/** @type {typeof import('./svelte.mjs').useKicked} */
export const useKicked = () => derived(usePresenceClient(), valueOf(kickedOf));

/**
 * Sets a derived store to the value of a store that is opened for `from`.
 *
 * @template From, T
 * @param {(from: From) => Store<T>} open
 */
const valueOf = (open) => (/** @type {From} */ from, /** @type {(value: T) => void} */ set) => {
  const store = open(from);
  set(store.get());
  if (inPage) return store.listen(() => set(store.get()));
};
