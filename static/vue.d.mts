/**
 * Composables for Vue 3.5 and later.
 *
 * ```js
 * providePresence(client); // in the setup of the app
 * const status = usePresence(() => props.user); // in that of a component
 * ```
 */

import type { ComputedRef, MaybeRefOrGetter, ShallowRef } from 'vue';
import type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';
import type { PresenceClient } from './presence.js';

export type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';

/**
 * Gives a client to the components below this one. A client that is not connected yet is connected while this component is
 * mounted, and logged out afterwards, or when another client takes its place. Null: nobody is logged in, and nothing is known.
 */
export function providePresence(client: MaybeRefOrGetter<PresenceClient | null>): void;

/** The client, for its other methods: `setStatus`, `query`, `sessions` … */
export function usePresenceClient(): ComputedRef<PresenceClient | null>;

/** Subscribes to one user, or a list of users, while the component is mounted. */
export function usePresence<I extends Ids>(ids: MaybeRefOrGetter<I>): Readonly<ShallowRef<StatusesOf<I>>>;

/** The connection, and one's own status. */
export function useSelf(): Readonly<ShallowRef<Self>>;

/** Why this session was ended; null: it was not. */
export function useKicked(): Readonly<ShallowRef<KickedNotice | null>>;
