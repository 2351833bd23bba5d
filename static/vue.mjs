// Composables for Vue. See README.md.

import { computed, inject, provide, shallowReadonly, shallowRef, toRaw, toValue, watch } from 'vue';
import { hold, kickedOf, selfOf, statusesOf } from './bindings.mjs';

/** @import { ComputedRef, InjectionKey } from 'vue' */
/** @import { PresenceClient } from './presence' */
/** @import { Store } from './bindings.mjs' */

/** @type {InjectionKey<ComputedRef<?PresenceClient>>} */
const KEY = Symbol('presence-hub');
/** On a server nothing is connected and nothing subscribed to. */
const inPage = typeof window === 'object';

/** @type {typeof import('./vue.mjs').providePresence} */
export function providePresence(client) {
  const given = computed(() => toRaw(toValue(client))); // a client works only as it is, without Vue's proxy
  provide(KEY, given);
  if (inPage) watch(given, (now, _, onCleanup) => now && onCleanup(hold(now)), { immediate: true });
}

/** @type {typeof import('./vue.mjs').usePresenceClient} */
export function usePresenceClient() {
  const client = inject(KEY, null);
  if (!client) throw new Error('presence-hub/vue: no component above this one calls providePresence(client)');
  return client;
}

/** @type {typeof import('./vue.mjs').usePresence} */
export function usePresence(ids) {
  return useStore((client) => statusesOf(client, toValue(ids)), () => JSON.stringify(toValue(ids)));
}

/** @type {typeof import('./vue.mjs').useSelf} */
export const useSelf = () => useStore(selfOf);

/** @type {typeof import('./vue.mjs').useKicked} */
export const useKicked = () => useStore(kickedOf);

/**
 * The value of a store, which is opened anew for another client, or another `key`.
 *
 * @template T
 * @param {(client: ?PresenceClient) => Store<T>} open
 * @param {() => unknown} key
 */
function useStore(open, key = () => '') {
  const client = usePresenceClient();
  const value = shallowRef(open(null).get());
  watch([client, key], ([client], _, onCleanup) => {
    const store = open(client);
    const changed = () => void (value.value = store.get());
    changed();
    if (inPage) onCleanup(store.listen(changed));
  }, { immediate: true });
  return shallowReadonly(value);
}
