// The inside of elements.js; not part of the API. The explanations are here because pages download elements.js with its
// comments.

import type { PresenceElementsApi } from './elements';
import type { Kicked, PresenceClient } from './presence';

/** The client, which may know who is away, and who nobody is. */
export type Client = {
  get(user: string | null): any;
  subscribe(users: string | string[] | null, callback: () => void): () => void;
} & PresenceClient;

/** What all elements share. */
export interface Shared {
  /** Absent until it is set, which is checked wherever it may be. */
  client: Client;
  /** The client was connected here, and is logged out here. */
  owned: boolean;
  /** Why the session was ended, until it goes on or is over. */
  notice?: Kicked | null;
  nameOf: (user: string) => string;
  /** Take the listeners off the client. */
  ends: (() => void)[];
  /** Those in a document. */
  elements: Set<any>;
}

/** What an element keeps. */
export interface Own {
  /** The users that were set by script. */
  given?: string[] | null;
  /** The client that it follows somebody by, and what ends that. */
  from?: any;
  end?: any;
  /** It will be drawn at the end of this turn. */
  due?: boolean;
  /** Of the watch list, who was named so far. */
  listed?: any;
  /** The rows of a list, by all that they show. */
  rows?: Map<string, HTMLElement>;
  /** Why the custom status was not saved. */
  trouble?: string;
}

/** An element. */
export interface Element extends HTMLElement, Own {
  users: string[];
  draw(): void;
}

export type Base = new () => HTMLElement & Own;

export type Api = Omit<PresenceElementsApi, 'client'> & { client: any };

/** A state as it is shown: one of `UserState`; `away` (Online, and not at it); `unknown` while nothing is known for sure. */
export type Shown = string;

/** The functions that need no element. */
export interface Tools {
  /**
   * Each element in a document begins anew, or is drawn. `begin` after each login: a logout has forgotten all
   * subscriptions. It sends nothing more than the login would, as all subscriptions of one turn go in one message.
   */
  each(action: 'begin' | 'draw'): void;
  /** Keeps a notice for `<presence-kicked>`, and shows it. */
  tell(news?: Kicked | null): void;
  stateOf(user: string | null): Shown;
  /** A word in the language of the nearest ancestor that has one, through shadow roots; else in the browser's. */
  word(it: any, key: string): string;
  /** An element. Everything from outside becomes text or an attribute, never markup. */
  make(tag: string, part: string, attributes?: Record<string, any>, ...children: (Node | string)[]): any;
  /** A state by shape and word. Without room for the word, it is the shape's name and tooltip. */
  badge(state: Shown, said: string, compact?: boolean): HTMLElement;
}

/** One kind of element. */
export interface Kind {
  attributes?: string[];
  /** Subscribes to what the element shows; returns what ends it. The new subscription begins before the last one ends. */
  follow(it: Element): (() => void) | null;
  /** Draws it, once for all that changed in a turn. */
  render(it: Element, root: any): void;
}

export type Kinds = Record<string, Kind>;

export type Client = PresenceClient;
