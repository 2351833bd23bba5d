// Hooks for React. See README.md.
'use client';

import { createContext, createElement, useContext, useEffect, useMemo, useSyncExternalStore } from 'react';
import { hold, kickedOf, selfOf, statusesOf } from './bindings.mjs';

/** @import { PresenceClient } from './presence' */
/** @import { Store } from './bindings.mjs' */

const Context = createContext(/** @type {?PresenceClient | undefined} */ (undefined));

/** @type {typeof import('./react.mjs').PresenceProvider} */
export function PresenceProvider({ client, children }) {
  useEffect(() => (client ? hold(client) : undefined), [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** @type {typeof import('./react.mjs').usePresenceClient} */
export function usePresenceClient() {
  const client = useContext(Context);
  if (client === undefined) throw new Error('presence-hub/react: no <PresenceProvider client={…}> around this component');
  return client;
}

/** @type {typeof import('./react.mjs').usePresence} */
export function usePresence(ids) {
  const client = usePresenceClient();
  return useStore(() => statusesOf(client, ids), () => statusesOf(null, ids), [client, JSON.stringify(ids)]);
}

/** @type {typeof import('./react.mjs').useSelf} */
export function useSelf() {
  const client = usePresenceClient();
  return useStore(() => selfOf(client), () => selfOf(null), [client]);
}

/** @type {typeof import('./react.mjs').useKicked} */
export function useKicked() {
  const client = usePresenceClient();
  return useStore(() => kickedOf(client), () => kickedOf(null), [client]);
}

/**
 * The value of a store, and on a server, and at the first render of a page that came from one, that of another.
 *
 * @template T
 * @param {() => Store<T>} open
 * @param {() => Store<T>} openOnServer
 * @param {unknown[]} parts what the stores depend on
 */
function useStore(open, openOnServer, parts) {
  const store = useMemo(open, parts);
  const onServer = useMemo(openOnServer, parts);
  return useSyncExternalStore(store.listen, store.get, onServer.get);
}
