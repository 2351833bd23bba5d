/**
 * Custom elements that show who is online. From a script tag, `PresenceElements` is a global.
 *
 * ```html
 * <script src="https://hub.example.com/static/presence.js"></script>
 * <script src="https://hub.example.com/static/elements.js" data-token-url="/presence-token"></script>
 * <presence-dot user="alice"></presence-dot>
 * ```
 */

import type { PresenceClient } from './presence';

export interface PresenceElementsApi {
  /**
   * The client of all elements. One that is not connected yet is connected when it is set, and logged out when another one,
   * or null, takes its place.
   */
  client: PresenceClient | null;
  /** The name to show for a user's id; at first the id. */
  nameOf: (user: string) => string;
}

/** `<presence-dot user="alice">`: a user's state. `compact`: without the word, which is then its name and tooltip. */
export interface PresenceDotElement extends HTMLElement {}

/**
 * `<presence-list users="alice,bob">`: users, each with name, state and custom status. `<presence-list contacts>`: those on
 * the watch list who are not Offline.
 */
export interface PresenceListElement extends HTMLElement {
  /** Whom it shows; any ids, also with commas. Null: the attribute counts again. */
  get users(): string[];
  set users(users: readonly string[] | null);
}

/** `<presence-self>`: the connection or one's own state, and a form for the custom status. */
export interface PresenceSelfElement extends HTMLElement {}

/** `<presence-kicked>`: why this session was ended, with a button "use here instead"; else empty. */
export interface PresenceKickedElement extends HTMLElement {}

declare global {
  var PresenceElements: PresenceElementsApi;
  interface HTMLElementTagNameMap {
    'presence-dot': PresenceDotElement;
    'presence-list': PresenceListElement;
    'presence-self': PresenceSelfElement;
    'presence-kicked': PresenceKickedElement;
  }
}
