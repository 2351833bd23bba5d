// What presence.js is made of inside: no part of the API. The implementation is checked against it, and thereby against
// presence.d.ts, whose methods it takes over.

export type { Options, SocketTask } from './presence';
import type { ConnectionState, Events, Kicked, Options, PresenceClient, PresenceError, Session, Status, StorageLike } from './presence';

/** A public method, as declared there. */
type PublicMethods = {
  [Name in keyof PresenceClient as PresenceClient[Name] extends (...args: any) => any ? Name : never]: PresenceClient[Name];
};

/** Says whether what was begun then still matters. */
export type Live = () => boolean;

export interface Subscription {
  callback: (status: Status) => void;
}

export type Failure = PresenceError;

/** A promise that others settle, or time. */
export interface Deferred {
  promise: Promise<any>;
  /** Is called with the hub's answer, before whatever the answer brings along. */
  onOk?(ok: any): void;
  resolve(value?: any): void;
  reject(error: any): void;
}

/** What is kept over reloads; {} where there is nothing to go on with. */
export interface Kept {
  session?: string;
  kicked?: Kicked;
}

/** A place to keep texts, which never fails. */
export interface Keeper {
  get(key: string): string | undefined;
  set(key: string, value: string): void;
}

/** A socket, made and used. */
export interface Link {
  send(text: string): void;
  close(): void;
}

export type SocketClass = new (url: string, protocol: string) => Link & {
  onopen: LinkEvents['open'];
  onmessage: (event: { data: string }) => void;
  onclose: LinkEvents['close'];
  onerror: () => void;
};

/** What becomes of a socket. A close may come without a code, and more than once. */
export interface LinkEvents {
  open(): void;
  message(text: string): void;
  close(event: { code?: number; reason?: string }): void;
}

/** What a client needs of where it runs: a page's window, or a mini-program's host. */
export interface Host {
  platform: 'web' | 'miniprogram';
  /**
   * How long the connection is taken to live while no timer came, in ms. A browser answers the hub's pings itself, so
   * only a sleep makes the client ask; a mini-program's socket is closed as idle, so it asks at each heartbeat.
   */
  trustMs: number;
  /** The storage that lives as long as the tab. */
  tab(): StorageLike | null | undefined;
  /** The storage that outlives the app. */
  local(): StorageLike | null | undefined;
  /** The listeners to what tells the client to look up, by the event's name. */
  events(client: Client): Record<string, (event: any) => void>;
  /** Adds a listener, or takes it off. */
  listen(on: boolean, name: string, listener: (event: any) => void): void;
  /** The one place that makes a socket. */
  dial(url: string, on: LinkEvents): Link;
}

export interface Fields {
  state: ConnectionState;
  platform: Exclude<Options['platform'], undefined>;
  device: string;
  user: string | null;
  session: string | null;
  _options: Options & { minDelay: number; maxDelay: number; timeout: number; probeTimeout: number; heartbeat: number };
  _host: Host;
  /** What is kept for this tab, under this key. */
  _kept: Keeper;
  _key: string;
  /** The token in use; none: `getToken` is asked, and told that the last one has expired where this is empty. */
  _token: string | null | undefined;
  _listeners: Map<string, Set<(value: any) => void>>;
  /** Who is watched, and by which subscriptions. */
  _watched: Map<string, Set<Subscription>>;
  /** The last status of each, and the newest version that was ever told. */
  _known: Map<string, { status: Status; newest: number }>;
  /** Whom this connection is subscribed to. */
  _told: Set<string>;
  /** A message of subscriptions is about to be sent. */
  _syncing?: boolean;
  /** Requests without an answer yet. */
  _pending: Map<number, Deferred>;
  _lastId: number;
  /** The socket, and the promise of its end. */
  _link?: Link | null;
  _gone?: Promise<unknown>;
  /** Counts sockets: late events of an old one are nobody's. */
  _generation: number;
  /** Counts logouts: who listened before is told nothing more. */
  _life: number;
  /** The time that an attempt may take, or that is waited before the next. */
  _timer?: any;
  /** Attempts that failed in a row. */
  _attempts: number;
  /** The user asked just now, so the login may kick. */
  _asked?: boolean;
  /** It waits, for a time or for the foreground. */
  _resting?: boolean;
  /** A ping is under way. */
  _probing?: boolean;
  /** How a mini-program went to the background. */
  _hidden?: 'hide' | 'exit' | null;
  /** When to come back, as a hub said that drains. */
  _comeBackMs?: number | undefined;
  /** When the token may be renewed again. */
  _renewAt: number;
  /** Why the login was refused; the close that follows says what to do. */
  _refusal?: any;
  /** The answer to the last login. */
  _answer?: Session | undefined;
  /** Whoever waits for a connection. */
  _awaited?: Deferred | null;
  /** Ends the listening to the host, which lasts from `connect()` until the client stays away. */
  _deafen?: (() => void) | null;
}

export interface Methods extends PublicMethods {
  _open(): void;
  _askToken(expired: boolean): Promise<any>;
  _login(live: Live): void;
  _closed(event: { code?: number; reason?: string }): void;
  /** What a failure of this kind does to the present attempt. */
  _failed(code: string): (error?: any) => void;
  /** Tries again after a while; without `delay`, with back-off. */
  _retry(error: Failure, delay?: number): void;
  /** Stays away. */
  _stop(error: Failure, notice?: Kicked): void;
  /** Lets go of the socket, and of all that hangs on it. */
  _drop(error: Failure): void;
  _live(): Live;
  _ready(): Promise<Session>;
  _settle(how: 'resolve' | 'reject', value: unknown): void;
  _send(message: object): void;
  /** Asks the hub, once it is logged in. */
  _request(type: string, fields?: object, onOk?: (ok: any) => void): Promise<any>;
  /** Asks the hub. */
  _ask(type: string, fields?: object, onOk?: (ok: any) => void): Promise<any>;
  _receive(text: string, live: Live): void;
  _reply(reply: { id: number; ok?: any; error?: any }, live: Live): void;
  /** Asks for another token and shows it to the hub, once per `timeout` at most: the next may be as short of time. */
  _renew(live: Live): unknown;
  _learn(status: Status): void;
  _show(user: string, subscriptions: Subscription[]): void;
  /** Tells the hub who is watched, once for all calls of a turn. */
  _sync(): void;
  _subscribe(users: string[], live: Live): void;
  _listen(): void;
  /** A browser may keep a page that was left, its socket open and answering: the client closes it. */
  _leave(): void;
  /** A dead connection does not tell: it is asked. */
  _probe(): void;
  /** Tells the app of a failure that ends nothing. */
  _report(error: any, code?: string): void;
  _recall(): Kept;
  _keep(what: Kept): void;
  _setState(state: ConnectionState, code?: number): void;
  _emit<E extends keyof Events>(event: E, value: Events[E]): void;
}

export interface Client extends Fields, Methods {}

/** The implementation: what is called on a client. */
export type Implementation = Methods & ThisType<Client>;
