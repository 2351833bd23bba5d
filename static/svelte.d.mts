/**
 * Stores for Svelte 4 and later.
 *
 * ```svelte
 * <script>
 *   const statuses = usePresence(['alice', 'bob']); // providePresence(client) in the component of the app
 * </script>
 * {$statuses.get('alice')?.state}
 * ```
 */

import type { Readable } from 'svelte/store';
import type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';
import type { PresenceClient } from './presence.js';

export type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';

/**
 * Gives a client, or a store of one, to the components below this one. A client that is not connected yet is connected while
 * this component is mounted, and logged out afterwards, or when another client takes its place. Null: nobody is logged in,
 * and nothing is known.
 */
export function providePresence(client: PresenceClient | null | Readable<PresenceClient | null>): void;

/** The client, for its other methods: `setStatus`, `query`, `sessions` … */
export function usePresenceClient(): Readable<PresenceClient | null>;

/** Subscribes to one user, or a list of users, or those in a store, while the store is subscribed to. */
export function usePresence<I extends Ids>(ids: I | Readable<I>): Readable<StatusesOf<I>>;

/** The connection, and one's own status. */
export function useSelf(): Readable<Self>;

/** Why this session was ended; null: it was not. */
export function useKicked(): Readable<KickedNotice | null>;
