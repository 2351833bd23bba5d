// The inside of presence.js; not part of the API. The compiler checks presence.js against this file, and thereby against
// presence.d.ts. The explanations are here because pages download presence.js with its comments.

export type { Options } from './presence';
import type { ConnectionState, ContactNews, Events, Kicked, Options, PresenceClient, PresenceError, Session, SocketTask, Status, StorageLike } from './presence';

/** A public method, as declared there. */
type PublicMethods = {
  [Name in keyof PresenceClient as PresenceClient[Name] extends (...args: any) => any ? Name : never]: PresenceClient[Name];
};

/**
 * What a value must be, as an error says it; and a pattern for its type and its text, a character for each byte, such as
 * `string alice`. Without the pattern: one of these words, parted by `|`.
 */
export type Rule = [expected: string, pattern?: RegExp];

export type Subscription = (status: Status) => void;

export type Contact = (news: ContactNews) => void;

export type Failure = PresenceError;

/** Settles a promise. */
export interface Waiting {
  resolve(value: any): void;
  reject(error: any): void;
}

export interface Request extends Waiting {
  /** Is called with the hub's answer, before the statuses in it are shown. */
  onOk(ok: any): void;
}

/**
 * The states:
 *
 * ```text
 * idle --connect()--> token --token--> login --answer--> online
 *                     ^   |              |                 |
 *   time is up, wake  |   | failed       | closed, timeout, page left
 *                     |   v              v                 |
 *                 waiting, patient <-----+-----------------+
 *                         | time is up, in the background
 *                         v
 *                       hidden --foreground(), connect()--> token
 * ```
 *
 * Closed for good (kicked, superseded, refused), or logout(): idle. Only time ends patient.
 * A state is an object, `_at`: its timer, socket and requests end with it. token, login and online share one.
 */
export type StateName = 'idle' | 'token' | 'login' | 'online' | 'waiting' | 'patient' | 'hidden';

/** A state, with what ends when it is left. */
export interface State {
  name: StateName;
  /** Requests without an answer yet. */
  pending: Map<number, Request>;
  /** Why there is no connection yet. */
  trouble?: Failure | undefined;
  /** The close code that led here. */
  code?: number | undefined;
  /**
   * `waiting`, `patient`: begins the next attempt; a page that was left waits without. `login`: ends the attempt.
   * `online`: renews the token.
   */
  timer?: any;

  /** What a login resumes in a tab that has no session: nothing (''). Absent: the user asked, so the login may kick (L7). */
  resume?: string | undefined;
  /** The token was not fetched for this attempt, or the hub has accepted it. */
  reused?: any;
  /** This attempt follows `patient`. */
  patient?: boolean;

  /** The socket, a `Link`, and the promise of its close event. */
  link?: any;
  gone?: Promise<any>;
  /** The socket did open. */
  opened?: boolean;
  /** Why the login was refused; the close that follows says what to do. */
  refusal?: any;
  /** When to come back, as a hub said that drains. */
  comeBackMs?: number;

  /** `online`: the answer to the login. */
  answer?: Session;
  /** Whom this connection is subscribed to. */
  told: Set<string>;
  /** The reading of the watch list that this connection has begun; null: it failed, and begins anew. */
  listing?: Promise<any> | null;
  /** All pages of the watch list were read. */
  whole?: boolean;
  /** The newest version of each user that this connection has told. */
  newest: Map<string, number>;
  /** A ping is under way. */
  probing?: boolean;
  /** What the tabs of this browser tell each other of the user's input. */
  tabs?: any;
  /** When this connection last told the other tabs. */
  shared?: any;
  /** The word about the user's activity that this connection has sent since the last tick: true for `idle`. */
  saying?: boolean | undefined;
  /** When it said `idle`. */
  idled?: any;
  /** A renewal of the token was begun on this connection. */
  renewed?: any;
}

/** What is stored over reloads. */
export interface Kept {
  /** The session to resume; empty or absent: none. */
  session?: string;
  kicked?: Kicked;
}

/** Stores a text. Where the storage fails, memory does. */
export interface Keeper {
  /** Another program may have stored anything here. */
  get(): any;
  set(value: string): void;
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

/** A mini-program's host. What its `connectSocket` returns may be a promise. */
export interface MiniProgram {
  connectSocket(options: object): SocketTask;
  [name: string]: any;
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
  /** The storage that lives as long as the tab, where there is one. */
  tab?(): StorageLike | null | undefined;
  /** The storage that outlives the app. */
  local(): StorageLike | null | undefined;
  /** The client's listeners to the host's events, by the event's name. */
  events(client: Client): Record<string, (event: any) => void>;
  /** Whether the page is hidden. */
  hidden?: any;
  /** The class of a channel between the tabs of a browser. */
  Channel?: any;
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
  _options: Omit<Options, 'away'> & { away: { after?: any; hidden?: any } } & Required<Pick<Options, 'minDelay' | 'maxDelay' | 'timeout' | 'probeTimeout' | 'heartbeat' | 'staleAfter'>>;
  _host: Host;
  /** What is kept for this tab. */
  _kept: Keeper;
  /** The token in use. Empty or absent: `getToken` is asked, with `expired` where this is empty. */
  _token: string | null | undefined;
  _listeners: Map<string | undefined, Set<(value: any) => void>>;
  /** Who is watched, and by which subscriptions. `logout()` makes a new map, and nothing that began with another is told. */
  _watched: Map<string, Set<Subscription>>;
  /** Who wants to hear of the watch list. */
  _contacts: Set<Contact>;
  /**
   * The users who are known to be on the watch list, each with the state (`_at`) of the connection that said so last;
   * false: removed. Users who were `Offline` all the time are not here, as the pages do not name them.
   */
  _listed: Map<string, State | false>;
  /** The last status of each user. */
  _known: Map<string, Status>;
  /** Who waits in `connect()`. */
  _awaited: Waiting[];
  _lastId: number;
  /** Attempts that failed in a row. */
  _attempts: number;
  /** The state, and what it owns. */
  _at: Pick<State, 'name' | 'pending'>;
  /** A message of subscriptions is about to be sent. */
  _syncing?: boolean;
  /** How the app went to the background, in any state. */
  _hidden?: 'hide' | 'exit' | null;
  /** When the user last did something here, or the tab was shown or hidden. */
  _touched?: any;
  /** Whether nobody is at it. undefined: a page without input yet, which leaves a resumed session as it was (A3). */
  _idle?: boolean | undefined;
  /** What the hub holds of this session: idle (true) or active. undefined: a resumed session of which this page has said nothing. */
  _said?: boolean | undefined;
  /** `_look`, as a listener. */
  _looks?: (event: any) => void;
  /** Turns `stale` on. */
  _doubt?: any;
  /** Looks for gaps that only a sleep explains; pings in a mini-program. */
  _ticks?: any;
  _events?: [string, (event: any) => void][];
}

export interface Methods extends PublicMethods {
  /**
   * Leaves a state, and tells of the next one: by the event `state`, and by `event`. The socket and the requests go on
   * only where `own` is the object of the state that is left. A listener may have left the new state, too, when this
   * returns it.
   */
  _enter(name: StateName, own: Partial<State>, event?: keyof Events | '', value?: any): State;
  /** A callback that does nothing once this state is left. */
  _during<A, R>(action: (value: A) => R): (value?: any) => R | undefined;
  /**
   * Begins an attempt to connect. A hidden mini-program makes none, as a resume would count as coming to the foreground.
   * Only a login without `resume` may kick other devices: it is sent for a user's own action, never by an automatic
   * reconnect (L7).
   */
  _begin(resume?: string, trouble?: Failure): void;
  /** Fetches a token and checks it. */
  _askToken(expired: boolean): Promise<any>;
  _dial(token: string): Promise<unknown>;
  _login(): void;
  /**
   * The socket ended, or never opened: stays away, or tries again, at once where the connection had died before it was
   * asked. A refused token that was reused is fetched anew, once; so is a fresh one that is refused as revoked, after the
   * hub's default leeway (5 s) and a second: the back end's clock may be slow. The random part keeps many clients from
   * asking all at once.
   */
  _closed(event?: any): void;
  /** Tries again after this time; without `delay`, with back-off. */
  _retry(error: Failure, delay?: number, name?: 'waiting' | 'patient'): void;
  /** Stays away. */
  _stop(error: any, notice?: Kicked): void;
  /** Connected; rejected after a while, with the reason. */
  _ready(): Promise<Session>;
  /** Sends a request, if logged in. */
  _request(type: string, fields?: object, onOk?: Request['onOk']): Promise<any>;
  /** Sends a request. */
  _ask(type: string, fields?: object, onOk?: Request['onOk']): Promise<any>;
  /** Handles a message. One that cannot be read is ignored. */
  _receive(text: any): void;
  /** Handles a reply. Its statuses are shown, as the hub does not push them again. */
  _reply(reply: { id: number; ok?: any; error?: any }): void;
  /**
   * Fetches another token and shows it to the hub: the first time at once, later ones after `timeout`, as the next token
   * may be about to expire, too. It reads no clock.
   */
  _renew(): void;
  /** Tells the app about a failure that ends nothing. */
  _report(error: any, code?: string): void;
  /**
   * Shows a status that is news. A push must be newer than what this connection told before, and an answer (`asked`) not
   * older. Another connection's versions do not count: the hub's data may have been restored meanwhile. Version 0 says
   * that the hub remembers nothing. `quiet`: without the callbacks of `contacts`.
   */
  _learn(status: Status, asked?: boolean, quiet?: boolean): void;
  /** The watch list changed. Its callbacks hear nothing before all pages were read. */
  _listChanged(message: { added: Status[]; removed: string[] }): void;
  /** The hub has ended subscriptions. */
  _unwatched(message: { users: string[] }): void;
  /** Forgets a status that nobody wants any more. */
  _forget(user: string): void;
  /** What is known of the watch list, as `ContactNews`. */
  _list(): { whole: true; statuses: any[] };
  /**
   * Subscribes to the watch list, and reads it page by page. Whoever was not `Offline` on the connection before, and is not
   * named now, is `Offline`, or no longer on the list.
   */
  _readList(after?: string): Promise<void>;
  /** Calls back with news of the watch list: what is not empty of `ContactNews`. Without news: nothing. */
  _tell(news: any, contacts?: Iterable<Contact>): void;
  _show(user: string, subscriptions: Iterable<Subscription>): void;
  /** Tells the hub who is watched, once for all calls of a turn. What is shown is fresh when it has answered. */
  _sync(): void;
  /** The connection is lost or in doubt: what is shown will be stale, unless the hub is heard within `staleAfter`. */
  _suspect(): void;
  _setStale(stale: boolean): void;
  /** Listens to the host, in every state but `idle`. */
  _listen(on: boolean): void;
  /**
   * Looks whether the user is here, and tells the hub what is new: `active` at once, `idle` at most every 30 s. Called at
   * each tick, which is slow in a hidden tab, at each login, and with the event of each input, be it of this page or, as a
   * message, of another tab. Other tabs are told only so often that none is idle while another is in use, as a message wakes them. A word that the hub refuses is said
   * again at the next tick.
   */
  _look(event?: any): void;
  /** Pings the hub, as a dead connection does not tell; makes an attempt that waits now. */
  _wake(): void;
  /** What is stored; what another program left there, or broke, counts as nothing. */
  _recall(): Kept;
  _keep(what: Kept): void;
  /** Without an event: nothing. */
  _emit<E extends keyof Events>(event: E | '' | undefined, value: Events[E]): void;
}

export interface Client extends Fields, Methods {
  _at: State;
}

/** The implementation: what is called on a client. */
export type Implementation = Methods & ThisType<Client>;

/** The functions that need no client. */
export interface Tools {
  /** Returns the value, or throws a TypeError that names what is wrong, what was given and what is expected. */
  check(what: string, rule: Rule, value: any): any;
  /** The result, or undefined where it throws. */
  tried<T>(action: () => T): T | undefined;
  page(window: any, Socket: SocketClass): Host;
  miniProgram(wx: MiniProgram): Host;
  keeper(storage: any, key: string, memory?: Record<string, string>): Keeper;
  /** A promise that `start` settles, or time rejects: with what `late` returns, or else `timeout`, which names `who`. */
  timed(ms: number, start: (resolve: (value?: any) => void, reject: (error: any) => void) => unknown, late?: () => any, who?: string): Promise<any>;
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
