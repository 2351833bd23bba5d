// The types of what react.mjs, vue.mjs and svelte.mjs share.

import type { ConnectionState, Kicked, PresenceClient, Session, Status } from './presence.js';

/** One user's id, several, or nobody. */
export type Ids = string | readonly (string | null | undefined)[] | null | undefined;

/** For a list: the statuses that are known, by id. For one id: its status, or null while it is not known. */
export type StatusesOf<I extends Ids> = I extends readonly unknown[] ? ReadonlyMap<string, Status> : Status | null;

/** Oneself. */
export interface Self {
  /** Who is logged in here; null before the first login. */
  user: string | null;
  connection: ConnectionState;
  /** The statuses shown may be out of date. */
  stale: boolean;
  /** One's own status, on all devices together; null while it is not known. */
  status: Status | null;
}

/** Why this session was ended. */
export interface KickedNotice extends Omit<Kicked, 'reason'> {
  /** `superseded`: another device logged in while this one was away. */
  reason: Kicked['reason'] | 'superseded';
  /** "Use here instead": a new login, whoever it kicks. */
  loginHere(): Promise<Session>;
}

/** A value that changes. */
export interface Store<T> {
  /** The same object until something changed. */
  get(): T;
  listen(changed: () => void): () => void;
}

type Client = PresenceClient | null;

/** Connects a client that is not, until the function it returns is called; twice for one client counts once. */
export function hold(client: PresenceClient): () => void;
export function statusesOf<I extends Ids>(client: Client, ids: I): Store<StatusesOf<I>>;
export function selfOf(client: Client): Store<Self>;
export function kickedOf(client: Client): Store<KickedNotice | null>;
