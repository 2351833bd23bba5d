// The inside of presence.js; not part of the API. The compiler checks presence.js against this file, and thereby against
// presence.d.ts. The explanations are here because pages download presence.js with its comments.

export type { Options, SocketTask } from './presence';
import type { ConnectionState, Events, Kicked, Options, PresenceClient, PresenceError, Session, Status, StorageLike } from './presence';

/** A public method, as declared there. */
type PublicMethods = {
  [Name in keyof PresenceClient as PresenceClient[Name] extends (...args: any) => any ? Name : never]: PresenceClient[Name];
};

/** Whether the connection, or the attempt, that began something is still the current one. */
export type Live = () => boolean;

/**
 * What a value must be: a pattern for its type and its text, a character for each byte, such as `string alice`; and how
 * an error says it.
 */
export type Rule = [pattern: RegExp, expected: string];

export interface Subscription {
  callback: (status: Status) => void;
}

export type Failure = PresenceError;

/** A promise that is settled from outside, or rejected after a time. */
export interface Deferred {
  promise: Promise<any>;
  /** Is called with the hub's answer, before the statuses in it are shown. */
  onOk?(ok: any): void;
  resolve(value?: any): void;
  reject(error: any): void;
}

/** What is stored over reloads. */
export interface Kept {
  /** The session to resume; empty or absent: none. */
  session?: string;
  kicked?: Kicked;
}

/** Stores texts. Where the storage fails, memory does. */
export interface Keeper {
  /** Another program may have stored anything here. */
  get(key: string): any;
  set(key: string, value: string): void;
}

/** A socket. */
export interface Link {
  send(text: string): void;
  close(): void;
}

export type SocketClass = new (url: string, protocol: string) => Link & {
  onopen: LinkEvents['open'];
  onmessage: (event: { data: string }) => void;
  onclose: LinkEvents['close'];
  onerror: (event: any) => void;
};

/** What happens to a socket. */
export interface LinkEvents {
  open(): void;
  message(text: any): void;
  /**
   * The end: a browser's close event, or what a mini-program's host tells, be it a close or an error. It may come without a
   * code (Alipay), with the code as text (Douyin), and more than once.
   */
  close(event?: any): unknown;
}

/** What a client needs of where it runs: a page's window, or a mini-program's host. */
export interface Host {
  platform: 'web' | 'miniprogram';
  /**
   * The longest gap between two ticks of the heartbeat, in ms, after which the connection is still trusted. A hidden tab's
   * timers come once a minute, so in a browser only a longer gap means that the machine slept: then the client pings. A
   * mini-program must send something, or its host closes the socket as idle, so it pings at each tick: -1. The gap is
   * measured by the wall clock, as other clocks stop while a machine sleeps; one that was set back counts as a sleep.
   */
  trustMs: number;
  /** What else to check when no connection can be opened. */
  advice: string;
  /** The storage that lives as long as the tab. */
  tab(): StorageLike | null | undefined;
  /** The storage that outlives the app. */
  local(): StorageLike | null | undefined;
  /** The client's listeners to the host's events, by the event's name. */
  events(client: Client): Record<string, (event: any) => void>;
  /** Adds a listener, or takes it off. */
  listen(on: boolean, name: string, listener: (event: any) => void): void;
  /**
   * Opens a socket. A mini-program's host has room for five, and may refuse to close one that is still connecting. So the
   * host gets the same `timeout` as the attempt, the next socket waits until the last one has ended, for as long as that
   * at most, and one that opens after it was given up is closed then. Taro promises its task; Alipay wraps a message in
   * a message.
   */
  dial(url: string, timeout: number, on: LinkEvents): Link;
}

export interface Fields {
  state: ConnectionState;
  platform: Exclude<Options['platform'], undefined>;
  device: string;
  user: string | null;
  session: string | null;
  stale: boolean;
  _options: Options & Required<Pick<Options, 'minDelay' | 'maxDelay' | 'timeout' | 'probeTimeout' | 'heartbeat' | 'staleAfter'>>;
  _host: Host;
  /** What is kept for this tab, under this key. */
  _kept: Keeper;
  _key: string;
  /** The token in use. Empty or absent: `getToken` is asked, with `expired` where this is empty. */
  _token: string | null | undefined;
  /** This attempt uses a token that was not fetched for it, or the hub has accepted the token. */
  _reused?: any;
  /** A fresh token was refused as revoked, and the client waits once for a newer one: its back end's clock may be slow. */
  _patient?: any;
  /** The attempt's socket did open. */
  _opened?: boolean;
  _listeners: Map<string, Set<(value: any) => void>>;
  /** Who is watched, and by which subscriptions. */
  _watched: Map<string, Set<Subscription>>;
  /** The last status of each user, and its version as told on the connection `from`, by its generation. */
  _known: Map<string, { status: Status; newest: number; from: number }>;
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
  /** Ends the attempt, or begins the next one. */
  _timer?: any;
  /** Turns `stale` on. */
  _doubt?: any;
  /** The next renewal of the token; set once one was begun. */
  _renewal?: any;
  /** Looks for gaps that only a sleep explains; pings in a mini-program. Set while the client listens to its host. */
  _ticks?: any;
  _events?: [string, (event: any) => void][];
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
  /** Why the login was refused; the close that follows says what to do. */
  _refusal?: any;
  /** The answer to the last login. */
  _answer?: Session | undefined;
  /** The promise of `connect()`, and why there is no connection yet. */
  _awaited?: Deferred | null;
  _trouble?: Failure;
}

export interface Methods extends PublicMethods {
  /**
   * Begins an attempt to connect. A hidden mini-program makes none, as a resume would count as coming to the foreground.
   */
  _open(): void;
  /** Fetches a token and checks it. */
  _askToken(expired: boolean): Promise<any>;
  /**
   * Sends the login. Only one without `resume` may kick other devices: it is sent for a user's own action, never by an
   * automatic reconnect (L7).
   */
  _login(live: Live): void;
  /**
   * The socket ended, or never opened: stays away, or tries again, at once where the connection had died before it was
   * asked. A refused token that was reused is fetched anew, once; so is a fresh one that is refused as revoked, after the
   * hub's default leeway (5 s) and a second. The random part keeps many clients from asking all at once.
   */
  _closed: LinkEvents['close'];
  /** Ends the current attempt with this error code. */
  _failed(code: string): (error?: any) => void;
  /** Tries again after this time; without `delay`, with back-off. */
  _retry(error: Failure, delay?: number): void;
  /** Ends the connection and stays away. */
  _stop(error: Failure, notice?: Kicked): void;
  /** Closes the socket and rejects what was asked on it. */
  _drop(error: Failure): void;
  _live(): Live;
  _ready(): Promise<Session>;
  _settle(how: 'resolve' | 'reject', value: unknown): void;
  _send(message: object): void;
  /** Sends a request, if logged in. */
  _request(type: string, fields?: object, onOk?: (ok: any) => void): Promise<any>;
  /** Sends a request. */
  _ask(type: string, fields?: object, onOk?: (ok: any) => void): Promise<any>;
  /** Handles a message. One that cannot be read is ignored. */
  _receive(text: any, live: Live): void;
  /** Handles a reply. Its statuses are shown, as the hub does not push them again. */
  _reply(reply: { id: number; ok?: any; error?: any }, live: Live): void;
  /**
   * Fetches another token and shows it to the hub: the first time at once, later ones after `timeout`, as the next token
   * may be about to expire, too. It reads no clock.
   */
  _renew(live: Live): unknown;
  /**
   * Shows a status that is news. A push must be newer than what this connection told before, and an answer (`asked`) not
   * older. Another connection's versions do not count: the hub's data may have been restored meanwhile. Version 0 says
   * that the hub remembers nothing.
   */
  _learn(status: Status, asked?: boolean): void;
  _show(user: string, subscriptions: Iterable<Subscription>): void;
  /** Tells the hub who is watched, once for all calls of a turn. What is shown is fresh when it has answered. */
  _sync(): void;
  _subscribe(users: string[], live: Live): Promise<void>;
  /** The connection is lost or in doubt: what is shown will be stale, unless the hub is heard within `staleAfter`. */
  _suspect(): void;
  _setStale(stale: boolean): void;
  /** Listens to the host from `connect()` until the client stays away. */
  _listen(on: boolean): void;
  /** A browser may keep a page that was left, its socket open and answering: the client closes it. */
  _leave(): void;
  /** Pings the hub, as a dead connection does not tell; makes an attempt that waits now. */
  _probe(): void;
  /** Tells the app about a failure that ends nothing. */
  _report(error: any, code?: string): void;
  /** What is stored; what another program left there, or broke, counts as nothing. */
  _recall(): Kept;
  _keep(what: Kept): void;
  _setState(state: ConnectionState, code?: number): void;
  _emit<E extends keyof Events>(event: E, value: Events[E]): void;
}

export interface Client extends Fields, Methods {}

/** The implementation: what is called on a client. */
export type Implementation = Methods & ThisType<Client>;

/** The functions that need no client. */
export interface Tools {
  /** Returns the value, or throws a TypeError that names what is wrong, what was given and what is expected. */
  check(what: string, rule: Rule, value: any): any;
  /** The result, or undefined where it throws. */
  tried<T>(action: () => T): T | undefined;
  /** A rule for one of these names, parted by `|`. */
  oneOf(names: string): Rule;
  page(window: any, Socket: SocketClass): Host;
  miniProgram(wx: any): Host;
  keeper(storage: () => any, memory: Record<string, string>): Keeper;
  /** The stored device, or a new one. */
  deviceId(kept: Keeper): string;
  /** `onTimeout` may return the error; default: `timeout`, which names who did not answer. */
  deferred(ms: number, onTimeout?: () => any, who?: string): Deferred;
  /** A promise of the result, rejected where the action throws. */
  attempt<T>(action: () => T | PromiseLike<T>): Promise<T>;
  /** The same promise, whose rejection need not be handled. */
  settled(promise: Promise<any>): Promise<any>;
  /** Calls a listener. What it throws is thrown to the page, later. */
  call(listener: (value: any) => void, value: any): void;
  /** An object from JSON; from anything else an empty one. */
  parsed(text: any): any;
  /** User ids, each once. */
  list(users: any): string[];
  /** As many as one message may name. */
  batches(users: string[]): string[][];
}
