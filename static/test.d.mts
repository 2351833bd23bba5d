/**
 * A hub in memory, for the unit tests of apps.
 *
 * ```js
 * const hub = new TestHub();
 * const client = hub.client('me'); // a PresenceClient
 * await client.connect();
 * hub.set('alice', 'Online');
 * ```
 */

import type { Kicked, Options, PresenceClient, Status, UserState } from './presence.js';

/** A request of a client, with the fields of the WebSocket protocol. */
export interface TestRequest {
  user: string;
  type: string;
  [field: string]: any;
}

/** What `set` may change. */
export type StatusChange = Partial<Pick<Status, 'state' | 'platforms' | 'custom' | 'since' | 'last_seen'>> & { away?: boolean };

/**
 * The clients are those of the SDK; only their socket is one in memory. So they resume, resubscribe and become stale as they do
 * with a real hub. Nobody is kicked or disconnected unless the test says so, and every user may watch everybody.
 */
export class TestHub {
  /** All requests, the oldest first. */
  readonly requests: TestRequest[];

  /** A client of this user, not connected yet. It retries after 1 to 10 ms, and is stale after 1 ms, unless `options` differ. */
  client(user?: string, options?: Partial<Options>): PresenceClient;

  /** A user's status. */
  get(user: string): Status;

  /** Changes a user's status, and tells all who watch them before it returns. */
  set(user: string, change: UserState | StatusChange): Status;

  /** Replaces a user's watch list, for `contacts`. */
  watchList(user: string, users: string[]): void;

  /** Ends all sessions of a user. Without `how`: because of a login on the device `phone`. */
  kick(user: string, how?: Partial<Pick<Kicked, 'reason' | 'by' | 'message'>>): void;

  /** As if another device had logged in while the user's clients were away. */
  supersede(user: string): void;

  /** The user may no longer watch these. */
  unwatch(user: string, users: string[]): void;

  /** The token of the user's clients expires in a minute. */
  expireToken(user: string): void;

  /** All connections are lost, and no new one opens, until `reconnect()`. */
  disconnect(): void;

  reconnect(): void;

  /** The next request of this type is refused: `refuse('set', 'rate_limited')`. */
  refuse(type: string, code: string): void;

  /** Logs all clients out. Without it, the timers of connected clients keep Node running. */
  close(): Promise<void>;
}
