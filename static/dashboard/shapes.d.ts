// What the server API answers, as far as the dashboard reads it. Times are milliseconds since the Unix epoch.

export type State = 'Online' | 'PushOnline' | 'Offline';
export type Platform = 'android' | 'ios' | 'ipad' | 'windows' | 'mac' | 'linux' | 'web' | 'miniprogram';
export type Counts = Record<string, number>;

/** `GET`, `POST /v1/admin/session`. */
export interface Session {
  role: 'admin' | 'viewer' | 'api';
  expires: number | null;
  key: string | null;
  /** Whom a proxy with single sign-on named. */
  user: string | null;
}

/** A point of `GET /v1/stats/series`: what `GET /v1/stats` said then. */
export interface Point {
  at: number;
  uptime_ms: number;
  memory_bytes: number | null;
  connections: number;
  sessions: Counts;
  sessions_by_state: Counts;
  users: Record<State, number>;
  /** How many of the Online users are away. */
  users_away: number;
  subscriptions: number;
  logins: number;
  logins_by_kind: Counts;
  refusals: number;
  refusals_by_reason: Counts;
  kicks: number;
  kicks_by_reason: Counts;
  closes: number;
  closes_by_reason: Counts;
  slow_consumers: number;
  transitions: number;
  transitions_by_cause: Counts;
  deliveries: number;
  conflated: number;
  stalls: number;
  accept_errors: number;
  store: {
    state: 'up' | 'failing';
    commits: number;
    commit_us: number;
    slow_commits: number;
    failures: number;
    damaged_rows: number;
    disk_low: boolean;
  };
  webhook: { state: WebhookState; accepted: number; dead: number; dead_waiting: number };
  outbox: { depth: number; bytes: number; age_ms: number };
}

/** `GET /v1/stats`. */
export interface Stats extends Point {
  nodes: Node[];
}

/** `GET /v1/addresses`. */
export interface AddressPage {
  addresses: { address: string; connections: number }[];
  count: number;
}

/** One of `GET /v1/refusals`. */
export interface Refusal {
  at: number;
  reason: string;
  user: string | null;
  /** Whether the token proved the user. */
  verified: boolean;
  platform: Platform | null;
  device: string | null;
  address: string | null;
  message?: string | null;
}

export interface RefusalPage {
  refusals: Refusal[];
}

/** One of `GET /v1/audit`. */
export interface AuditEntry {
  at: number;
  outcome: 'done' | 'failed' | 'refused';
  role: 'viewer' | 'api' | 'admin' | 'tencent' | null;
  key: string | null;
  identifier: string | null;
  address: string | null;
  action: string;
  whom: string | null;
  what: string | null;
  why: string | null;
}

export interface AuditPage {
  entries: AuditEntry[];
}

/** `GET /v1/stats/series`. */
export interface Series {
  every_ms: number;
  points: Point[];
}

export interface Node {
  id: string;
  address: string;
  version: string;
  started: number;
  uptime_ms: number;
  state: 'up' | 'full' | 'draining' | 'lost';
  sessions: number;
  connections: number;
  subscriptions: number;
  /** Its wall clock minus that of the store's server. */
  clock_ms: number | null;
  memory_bytes: number | null;
  open_files: { used: number; limit: number | null } | null;
  /** Of the data directory. */
  disk: { free_bytes: number; total_bytes: number } | null;
}

export interface Status {
  user: string;
  state: State;
  platforms: Platform[];
  custom: string | null;
  since: number | null;
  last_seen: number | null;
  version: number;
  /** Online, but at none of the devices. */
  away: boolean;
  /** Whether everybody else sees the user as Offline. In an event only if true. */
  hidden?: boolean;
}

/** `GET`, `PUT /v1/users/{user}/visibility`. */
export interface Visibility {
  hidden: boolean;
  hidden_since: number | null;
  blocked: string[];
}

/** `GET /v1/users/{user}/watch-list`. */
export interface WatchList {
  users: string[];
  count: number;
}

export interface Terminal {
  platform: Platform;
  device: string;
  state: State;
  since: number;
  session: string;
  last_heard: number;
  background: { reason: 'hide' | 'exit'; since: number; deadline: number | null } | null;
  /** null unless Online. */
  activity: 'active' | 'idle' | null;
  /** Since when it is active, or when it was last touched. */
  active_at: number | null;
  address: string | null;
  app: string | null;
  node: string;
}

/** `GET /v1/users/{user}`. */
export interface UserDetail extends Status {
  terminals: Terminal[];
}

/** One of `GET /v1/sessions`, and a watcher. */
export interface SessionDetail extends Terminal {
  user: string;
}

export interface StatusPage {
  statuses: Status[];
  next: string | null;
  damaged?: string[];
}

export interface SessionPage {
  sessions: SessionDetail[];
  next: string | null;
  damaged?: string[];
}

/** `GET /v1/users/{user}/watchers`. */
export interface WatcherPage {
  count: number;
  watchers: SessionDetail[];
  next: string | null;
  damaged?: string[];
}

export type Cause =
  | 'login' | 'resume' | 'logout' | 'close' | 'silence' | 'background' | 'exit' | 'expired' | 'kicked'
  | 'token_expired' | 'node_lost' | 'custom' | 'visibility' | 'idle' | 'active' | 'recovered';

export interface Device {
  platform: Platform;
  device: string;
  session: string;
}

/** An entry of the transition log. */
export interface HubEvent {
  id: string;
  user: string;
  at: number;
  cause: Cause;
  version: number;
  state: { from: State; to: State };
  terminal: (Device & { from: State | null; to: State | null }) | null;
  status: Status;
  by: (Partial<Device> & { kind: 'login' | 'own' | 'admin'; message?: string | null }) | null;
  kicked?: Device[];
  /** Who may see the user since this event, whose cause is `visibility`. */
  visibility?: Visibility;
  evidence: {
    last_heard?: number;
    address?: string;
    close_code?: number;
    deadline?: number;
    background?: 'hide' | 'exit';
  };
}

/** What stands for an event that is damaged on disk. */
export interface Hole {
  user: string;
  cursor: string;
  damaged: true;
}

/** `GET /v1/users/{user}/history`, `GET /v1/events`. */
export interface EventPage {
  events: HubEvent[];
  next: string | null;
  damaged?: Hole[];
}

/** `POST /v1/users/{user}/kick`. */
export interface Kicked {
  kicked: Device[];
  revoked: boolean;
}

/** `DELETE /v1/users/{user}`. */
export interface Erased {
  kicked: Device[];
  erased: true;
}

export type Victims = { platform: Platform; count: number }[];

/** `GET /v1/policy/explain`. */
export interface Explained {
  policy: string;
  kicked: Victims;
  rejected: boolean;
  presets: Record<'single' | 'dual' | 'triple' | 'multi', Victims>;
}

/** The figures of a day. */
export interface Day {
  day: number;
  peak_users: number;
  peak_sessions: number;
  peak_sessions_by_platform: Record<string, number>;
  users: number;
  logins: number;
  kicks: number;
  online_ms: number;
  session_ms: number | null;
  blinks: number;
}

/** `GET /v1/figures`. */
export interface DayPage {
  days: Day[];
}

export type WebhookState = 'off' | 'up' | 'failing' | 'down' | 'elsewhere';

/** `GET /v1/webhooks`: the webhook without a name, and the others. */
export interface Webhooks extends Webhook {
  named: Webhook[];
}

/** A webhook. */
export interface Webhook {
  name: string;
  url: string | null;
  format: 'native' | 'tencent' | null;
  delivery: {
    state: WebhookState;
    under_way: number;
    waiting: number;
    held: number;
    held_since: number | null;
    last_success: number | null;
    failures: { at: number; events: number; attempts: number; error: string }[];
  };
  backlog: { events: number; bytes: number; oldest: number | null; age_ms: number };
  dead_waiting: number;
}

export interface Dead {
  id: string;
  at: number;
  attempts: number;
  last_error: string;
  event: HubEvent & { damaged?: true };
}

/** `GET /v1/webhooks/dead`. */
export interface DeadPage {
  dead: Dead[];
  next: string | null;
}

/** `GET /v1/config`, `…/defaults`: sections of settings. */
export type Config = Record<string, Record<string, unknown>>;
