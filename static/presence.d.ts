/**
 * The client of presence-hub: who is online, on which devices, and who just left.
 *
 * ```js
 * const client = new PresenceClient({ url: 'wss://hub.example.com/ws', getToken });
 * client.subscribe(['alice', 'bob'], (status) => show(status.user, status.state));
 * client.on('kicked', ({ reason, by }) => offer('use here instead', () => client.loginHere()));
 * client.connect();
 * ```
 *
 * From a script tag, these names are properties of the global `PresenceHub`.
 */
export as namespace PresenceHub;

/** `connecting` is also the wait for the next attempt; `connected` is logged in. */
export type ConnectionState = 'disconnected' | 'connecting' | 'connected';

/** `PushOnline`: only a phone or tablet is left whose app is gone and that still wants push. */
export type UserState = 'Online' | 'PushOnline' | 'Offline';

/** Where a client runs. */
export type Platform = 'android' | 'ios' | 'ipad' | 'windows' | 'mac' | 'linux' | 'web' | 'miniprogram';

/** One installation on one platform. */
export interface Device {
  platform: Platform;
  device: string;
}

/** A session on its device. */
export interface DeviceSession extends Device {
  session: string;
}

/** What the hub knows of a user. Times are milliseconds since the Unix epoch. */
export interface Status {
  user: string;
  state: UserState;
  /** Where the user is Online now, sorted. */
  platforms: Platform[];
  /** The custom status; null once the user is Offline. */
  custom: string | null;
  /** When `state` last changed; null of a user whom the hub does not remember. */
  since: number | null;
  /** When the user was last heard before leaving `Online`; null while Online. */
  last_seen: number | null;
  /** Grows with every change; 0 of a user whom the hub does not remember. */
  version: number;
  /** Online, but at none of the devices: every one that is Online is idle. */
  away: boolean;
  /** In one's own status, while all others see one as Offline; otherwise absent. */
  hidden?: boolean;
}

/** News of the watch list. */
export interface ContactNews {
  /**
   * The first news, and the first after each reconnect: `statuses` has everybody on the list who is not Offline. All others
   * on the list are Offline.
   */
  whole: boolean;
  /** Of users on the list; if not `whole`, only changes. */
  statuses: Status[];
  /** Who came onto the list, Offline or not. */
  added: Status[];
  /** Who left it. */
  removed: string[];
}

/** One of one's own sessions. */
export interface Terminal extends DeviceSession {
  state: UserState;
  since: number;
  /** Whether the user is at this device; null unless it is Online. */
  activity: 'active' | 'idle' | null;
  /** `active`: since when; `idle`: when it was last touched. null unless it is Online. */
  active_at: number | null;
  app: string | null;
  /** It is this client's. */
  current: boolean;
}

/** The hub's answer to a login or resume. */
export interface Session {
  user: string;
  session: string;
  /** The session went on; else it is a new one. */
  resumed: boolean;
  /** The hub's time. */
  now: number;
  ping_ms: number;
  silence_ms: number;
  /** When the token expires. */
  expires_at: number;
  /** Whom this login kicked. */
  kicked: DeviceSession[];
  /** One's own. */
  status: Status;
}

/** Why this session is over. */
export interface Kicked {
  /** `session_over`: a resume was refused because of an earlier kick. */
  reason: 'login_elsewhere' | 'same_device' | 'own_request' | 'admin' | 'session_over';
  /** Who came instead, or who asked for it; null of an administrator. */
  by: Device | null;
  at: number | null;
  /** An administrator's words. */
  message?: string;
}

/** The users whom the hub does not answer for. */
export interface Refused {
  user: string;
  code: 'forbidden' | 'invalid_user' | 'too_many';
}

/** What went wrong. */
export class PresenceError extends Error {
  /** `evidence` is what else is known: the hub's answer, or what was thrown. */
  constructor(code: string, evidence?: unknown);
  /**
   * The hub's error code, the reason of a close, or the client's own: `unreachable`, `disconnected`, `timeout`, `token`,
   * `transport`, `logged_out`, `kicked`.
   */
  code: string;
  /** The close code, where a connection ended. */
  close?: number;
  /** Who is in the way, with `login_conflict`. */
  devices?: Device[];
  /** Whom it concerns, where a subscription was refused. */
  user?: string;
}

/** The events of a client, and what each tells. */
export interface Events {
  /** The connection's state changed; `code` is the close code behind it, if any. */
  state: { state: ConnectionState; previous: ConnectionState; code?: number };
  /** A login or resume succeeded. */
  session: Session;
  /** News of a user subscribed to, or of oneself. */
  status: Status;
  /** `PresenceClient.stale` changed. */
  stale: boolean;
  /** This session was ended by somebody; the client stays away until `connect({ force: true })` or `loginHere()`. */
  kicked: Kicked;
  /** Somebody else logged in while this client was away, which stays away until `loginHere()`. */
  superseded: PresenceError;
  /**
   * The user may no longer watch these, whom `subscribe` named: a narrower token, or a removal from the watch list. Their
   * subscriptions are over; subscribe again once the right is back.
   */
  unwatched: { users: string[] };
  /** 60 s before the token expires, or at once where less is left. With `getToken` the client refreshes by itself. */
  tokenExpiring: { expires_at: number };
  /** An attempt failed (the client tries on), the hub refused for good (`state` is disconnected), or refused a user. */
  error: PresenceError;
}

/** The task that `connectSocket` makes. */
export interface SocketTask {
  send(options: { data: string; fail?: (error: any) => void }): unknown;
  close(options: object): unknown;
  onOpen(listener: (event: any) => void): unknown;
  onMessage(listener: (event: any) => void): unknown;
  onClose(listener: (event: any) => void): unknown;
  onError(listener: (event: any) => void): unknown;
}

/** A mini-program's host, `wx`, `my` or `tt`, or what others make of one: `uni`, `Taro`. */
export interface MiniProgramHost {
  connectSocket(options: { url: string; protocols?: string[]; multiple?: boolean; timeout?: number; fail?: (error: any) => void }): any;
  onAppHide?(listener: (event?: any) => void): unknown;
  offAppHide?(listener: (event?: any) => void): unknown;
  onAppShow?(listener: (event?: any) => void): unknown;
  offAppShow?(listener: (event?: any) => void): unknown;
  onNetworkStatusChange?(listener: (event: any) => void): unknown;
  offNetworkStatusChange?(listener: (event: any) => void): unknown;
  getStorageSync?(key: any): any;
  setStorageSync?(key: any, value?: any): unknown;
}

/** What the client uses of a browser's window; whatever is missing is done without. */
export interface WindowHost {
  WebSocket?: new (url: string, protocol: string) => any;
  document?: { visibilityState: string };
  BroadcastChannel?: new (name: string) => any;
  localStorage?: StorageLike | null;
  sessionStorage?: StorageLike | null;
  addEventListener?(type: string, listener: (event: any) => void): void;
  removeEventListener?(type: string, listener: (event: any) => void): void;
}

/**
 * When a page is idle: a count and a unit, `s`, `m` or `h`, such as "90s". It may be noticed up to a minute later, as the
 * client sets no timer for it.
 */
export interface Away {
  /** While visible, this long without pointer, key, touch, wheel or scroll; default "5m". */
  after?: string;
  /** While hidden, this long after the tab was left, or after the last input in another tab of this browser; default "1m". */
  hidden?: string;
}

/** What the client uses of a storage. */
export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export interface Options {
  /** The hub: `wss://hub.example.com/ws`. */
  url: string;
  /**
   * Answers a token. `expired`: the last one has expired, is about to, or was refused: one from a cache will not do.
   */
  getToken?(how: { expired: boolean }): string | Promise<string>;
  /** A fixed token, where there is no `getToken`. */
  token?: string;
  /** What to log in as; default: `miniprogram` in one, else `web`. */
  platform?: Platform;
  /** Names this installation, 1 to 128 bytes; default: one that is made and kept in the host's storage. */
  device?: string;
  /** Free text for the dashboard, at most 256 bytes. */
  app?: string;
  /** Tells accounts apart that use the same tab one after another. */
  user?: string;
  /**
   * When this page tells the hub that nobody is at it; false: never. A mini-program or an app says it by `background()`, which
   * a mini-program's host calls by itself.
   */
  away?: Away | false;
  /** The least time between two attempts to connect, in ms; default 500. */
  minDelay?: number;
  /** The most, in ms; default 20000. */
  maxDelay?: number;
  /** How long an attempt to connect, or a request, may take, in ms; default 10000. */
  timeout?: number;
  /** How long the answer to a probe may take, in ms; default 5000. */
  probeTimeout?: number;
  /** In a mini-program: how often to ask whether the connection lives, in ms; default 20000. */
  heartbeat?: number;
  /** How long the hub may be out of reach before statuses count as stale, in ms; default 5000. */
  staleAfter?: number;
  /** The host, where it is not the one that is found: `uni`, `Taro`, a test's. */
  adapter?: MiniProgramHost | WindowHost;
  /** A WebSocket of the browser's shape, where the host has none. */
  WebSocket?: new (url: string, protocol: string) => any;
}

export class PresenceClient {
  /** Does nothing before `connect()`. Throws a TypeError for a wrong or unknown option. */
  constructor(options: Options);

  readonly state: ConnectionState;
  readonly platform: Platform;
  readonly device: string;
  /** Of the last login. */
  readonly user: string | null;
  /** The session's id, while connected. */
  readonly session: string | null;
  /**
   * The statuses known may be out of date: the hub could not be heard for `staleAfter`, or the client stays away. False
   * again when the hub has told them all anew.
   */
  readonly stale: boolean;

  /**
   * Connects and logs in, or resumes this tab's session, and stays connected. A tab that was kicked is refused until
   * `force`. Rejects when the hub refuses, or after `timeout`, while the client tries on.
   */
  connect(how?: { force?: boolean }): Promise<Session>;

  /** "Use here instead": a new login, whoever it kicks. */
  loginHere(): Promise<Session>;

  /**
   * Offline at once, where it is connected. Forgets the session and all subscriptions, and calls nothing back any more.
   * Resolves when the socket is closed, after `probeTimeout` at most.
   */
  logout(): Promise<void>;

  /** The same as `logout()`. */
  destroy(): Promise<void>;

  /**
   * Calls back with the status of each of these users, now and whenever it changes, until the function that it returns
   * is called. May be called at any time; holds over reconnects until `logout()`.
   */
  subscribe(users: string | string[], callback: (status: Status) => void): () => void;

  /**
   * Calls back with news of the watch list, which the back end keeps for this user: first all of it, then every change,
   * until the function that it returns is called. May be called at any time; holds over reconnects until `logout()`.
   * A user who is also named in `subscribe` may be told here, whether on the list or not.
   */
  contacts(callback: (news: ContactNews) => void): () => void;

  /** The last status known of somebody subscribed to or on the watch list, or of oneself. */
  get(user: string): Status | null;

  /** The statuses of these users, in the order asked, without subscribing. */
  query(users: string | string[]): Promise<{ statuses: Status[]; errors: Refused[] }>;

  /** Sets the custom status, at most 256 bytes; null clears it. */
  setStatus(custom: string | null): Promise<Status>;

  /** Hides oneself from all others, who see a logout, until `hide(false)`; `forbidden` unless the hub lets users do so. */
  hide(hidden?: boolean): Promise<Status>;

  /**
   * Blocks these viewers, 1 to 200, who then see one as Offline. Resolves with how many are blocked; rejects with
   * `too_many` beyond 200 in all.
   */
  block(users: string | string[]): Promise<number>;

  /** Blocks these viewers no longer. */
  unblock(users: string | string[]): Promise<number>;

  /** Whom one blocks. */
  blocked(): Promise<string[]>;

  /** One's own sessions, on all devices. */
  sessions(): Promise<Terminal[]>;

  /** Ends another of one's own sessions. */
  kick(session: string): Promise<void>;

  /**
   * Says that the app went to the background, for hosts that do not tell; `exit`: by a mini-program's close button.
   * Resolves with the moment when a mini-program will count as gone, else null.
   */
  background(reason?: 'hide' | 'exit'): Promise<number | null>;

  /** Says that the app is in the foreground again. */
  foreground(): Promise<void>;

  /**
   * Shows the hub a new token, which reconnects use from then on. While not connected, keeps it for the next login,
   * where there is no `getToken`.
   */
  refresh(token: string): Promise<{ expires_at: number } | void>;

  /** Listens to an event; returns what takes the listener off again. */
  on<E extends keyof Events>(event: E, listener: (it: Events[E]) => void): () => void;

  /** Takes a listener off. */
  off<E extends keyof Events>(event: E, listener: (it: Events[E]) => void): void;
}
