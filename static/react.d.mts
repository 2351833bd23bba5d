/**
 * Hooks for React 18 and later.
 *
 * ```jsx
 * const Dot = ({ user }) => <b>{usePresence(user)?.state ?? 'unknown'}</b>;
 * root.render(<PresenceProvider client={client}><Dot user="alice" /></PresenceProvider>);
 * ```
 */

import type { ReactElement, ReactNode } from 'react';
import type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';
import type { PresenceClient } from './presence.js';

export type { Ids, KickedNotice, Self, StatusesOf } from './bindings.mjs';

/**
 * Gives a client to the components in it. A client that is not connected yet is connected while this is mounted, and logged
 * out afterwards, or when another client takes its place. Null: nobody is logged in, and nothing is known.
 */
export function PresenceProvider(props: { client: PresenceClient | null; children?: ReactNode }): ReactElement;

/** The client, for its other methods: `setStatus`, `query`, `sessions` … */
export function usePresenceClient(): PresenceClient | null;

/** Subscribes to one user, or a list of users, while the component is mounted. The list may be a new one at each render. */
export function usePresence<const I extends Ids>(ids: I): StatusesOf<I>;

/** The connection, and one's own status. */
export function useSelf(): Self;

/** Why this session was ended; null: it was not. */
export function useKicked(): KickedNotice | null;
