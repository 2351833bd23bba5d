//! The record of one user: terminals, custom status, ended sessions and revocation.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Activity, ActivityView, Answer, BackgroundReason, Cause, ConnectionId, DeviceId, Effects,
    EventId, LogUse, Moment, NodeId, Platform, Policy, SessionId, Stall, State, Status, Timestamp,
    UnknownFields, Visibility,
};

/// The number of ended sessions that a record keeps, so that a resume of one of them is refused as
/// kicked (L7).
pub const ENDED_MAX: usize = 64;
/// How long a record keeps an ended session (L7).
pub const ENDED_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The number of applied events that a record keeps, to recognise an event that is applied again
/// because the answer of its commit was lost.
pub const RECENT_EVENTS_MAX: usize = 4;

/// All that the hub knows of one user; stored as one value, in which absent fields are left out.
///
/// Times that are shown to people are on the wall clock. Times that end a window are on the own time of
/// the node that has the terminal's connection, and only that node compares them with its clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The user's terminals, the earliest login first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terminals: Vec<Terminal>,
    /// The custom status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Arc<str>>,
    /// When the user's state last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When any terminal was last heard, ended ones included. Statuses show it only while the user
    /// is not `Online`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// The version of the last logged transition.
    pub version: u64,
    /// The number of changes since then: they are not logged, and have no version.
    #[serde(skip_serializing_if = "is_default")]
    pub unlogged: u32,
    /// Sessions that were kicked or replaced, the latest last.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub ended: VecDeque<Ended>,
    /// Tokens that are refused since a kick (L9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
    /// Who may not see the user (P2, P3); `None` if all may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Box<Visibility>>,
    /// What the user has written into the transition log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_use: Option<LogUse>,
    /// The last applied events, the latest first.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub recent: VecDeque<RecentEvent>,
    /// What a later version has written.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Orders the states of one user's record: a later one is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition {
    /// The version of the last logged transition.
    pub version: u64,
    /// The number of changes since then.
    pub unlogged: u32,
}

/// The hub's record of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The session's id.
    pub session: SessionId,
    /// The platform of its device.
    pub platform: Platform,
    /// The device that logged in.
    pub device: DeviceId,
    /// A free text from the client, shown on the dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Arc<str>>,
    /// The current connection, or the last one.
    pub connection: ConnectionId,
    /// The client's address on that connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whether that connection is alive, lost, or replaced by push.
    pub link: Link,
    /// Since when it has its state, on the wall clock.
    pub since: Timestamp,
    /// When it was last heard, on the wall clock; updated only with the user's events.
    pub heard: Timestamp,
    /// Set while the app is in the background (T15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// Whether the user is at it (A1).
    #[serde(default, skip_serializing_if = "Activity::is_default")]
    pub activity: Activity,
    /// When its token expires, leeway included (T10).
    pub token_until: Timestamp,
    /// The deadlines above already include the stalls of the hub up to this time (T12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls_until: Option<Timestamp>,
    /// How often the session was resumed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resumes: u32,
    /// What a later version has written.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The state of a terminal's connection.
///
/// ```text
///   login, resume        closed              grace or deadline over
///  ───────────────▶ Connected ─────▶ Lost ──────────────────────────▶ gone
///                     │  ▲            │ resume
///        closed,      │  └────────────┤
///        silent       ▼               │
///       (mobile)     Push ────────────┘         7 days
///                     └───────────────────────────────────────────▶ gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// `Online`, on a live connection.
    Connected,
    /// Still `Online`: the connection is gone, but watchers see no change if the device comes back
    /// in time (T3, T11, T17).
    Lost {
        /// When the connection ended.
        since: Timestamp,
        /// When the terminal leaves `Online`; `None` if only the background's deadline applies (T17).
        until: Option<Timestamp>,
        /// Why the connection ended.
        how: Loss,
    },
    /// `PushOnline`.
    Push {
        /// When the terminal ends (T8), on the wall clock.
        until: Timestamp,
    },
}

/// Why a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// It was closed, with this close code if there was one (T3).
    Closed(Option<u16>),
    /// Its hub died (T11).
    WithNode,
}

/// The state of an app in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Background {
    /// Whether the app was hidden or left.
    pub reason: BackgroundReason,
    /// When it went to the background.
    pub since: Timestamp,
    /// When the terminal is ended (T6, T7); null except for mini-programs.
    pub deadline: Option<Timestamp>,
}

/// A session that was kicked or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The session's id.
    pub session: SessionId,
    /// The platform of its device.
    pub platform: Platform,
    /// The device that had logged in.
    pub device: DeviceId,
    /// When this entry expires.
    pub until: Timestamp,
}

/// The refusal of all tokens that were issued before a kick (L9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The second of the kick: a token with an earlier `iat` is refused.
    pub before_secs: u64,
    /// When every such token has expired, on the wall clock.
    pub until: Timestamp,
}

/// What could still be read of a damaged record: a ban should outlive the damage, and so should the wish not to
/// be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rescued {
    /// Tokens that are refused (L9).
    pub revoked: Option<Revocation>,
    /// Who may not see the user (P2, P3).
    pub visibility: Option<Box<Visibility>>,
}

impl Revocation {
    /// The revocation that refuses what either of two refuses.
    pub(super) fn stricter(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let both = one.zip(other).map(|(one, other)| Self {
            before_secs: one.before_secs.max(other.before_secs),
            until: one.until.max(other.until),
        });
        both.or(one).or(other)
    }
}

/// An applied event with its result, which is returned again if the event is applied again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentEvent {
    /// The event's id.
    pub event: EventId,
    /// The effects of the event.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effects: Effects,
    /// The answer to the event; `None` for [`Answer::Done`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<Answer>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The numbers that a record adds to the hub's counts of terminals and users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// `Online` terminals, by platform.
    pub online: [u32; Platform::ALL.len()],
    /// `PushOnline` terminals, by platform.
    pub push_online: [u32; Platform::ALL.len()],
    /// The user's state; `None` if the user was never seen or is forgotten.
    pub state: Option<State>,
    /// Whether the user is away (A1).
    pub away: bool,
}

impl Record {
    /// The user's state: the best state of any terminal (S3).
    pub fn state(&self) -> State {
        self.terminals.iter().map(Terminal::state).max().unwrap_or_default()
    }

    /// The user's true status (V1).
    pub fn status(&self) -> Status {
        let online = self.terminals.iter().filter(|t| t.state() == State::Online);
        let mut platforms: Vec<_> = online.map(|terminal| terminal.platform).collect();
        platforms.sort_unstable();
        platforms.dedup();
        let state = self.state();
        Status {
            state,
            platforms,
            custom: self.custom.clone(),
            since: self.since,
            last_seen: self.last_seen.filter(|_| state != State::Online),
            version: self.version,
            away: self.is_away(),
            hidden: self.visibility.as_deref().is_some_and(Visibility::is_hidden),
        }
    }

    /// Whether the user is away: `Online`, and every `Online` terminal is idle (A1).
    pub fn is_away(&self) -> bool {
        let mut online = self.terminals.iter().filter(|t| t.state() == State::Online).peekable();
        online.peek().is_some() && online.all(|terminal| terminal.activity.is_idle())
    }

    /// Finds a terminal by its session.
    pub fn terminal(&self, session: SessionId) -> Option<&Terminal> {
        self.terminals.iter().find(|terminal| terminal.session == session)
    }

    /// Whether a node has an `Online` terminal.
    pub fn is_held_by(&self, node: NodeId) -> bool {
        let mut online = self.terminals.iter().filter(|t| t.state() == State::Online);
        online.any(|terminal| terminal.connection.node == node)
    }

    /// Which of the states of this user's record it is.
    pub const fn edition(&self) -> Edition {
        Edition { version: self.version, unlogged: self.unlogged }
    }

    /// Whether the record is empty, so that a store can delete it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a token with this `iat` is revoked (L9).
    pub fn revokes(&self, issued_at_secs: u64, wall: Timestamp) -> bool {
        self.revoked.is_some_and(|r| issued_at_secs < r.before_secs && wall < r.until)
    }

    /// The earliest deadline that each node must apply to its terminals, on that node's own time.
    pub fn deadlines(&self) -> impl Iterator<Item = (NodeId, Timestamp)> {
        let deadline = |t: &Terminal| Some((t.connection.node, t.deadline()?.0));
        let all = move || self.terminals.iter().filter_map(deadline).enumerate();
        let is_earliest = move |(place, (node, at)): &(usize, (NodeId, Timestamp))| {
            !all().any(|(other, (of, earlier))| of == *node && (earlier, other) < (*at, *place))
        };
        all().filter(is_earliest).map(|(_, deadline)| deadline)
    }

    /// The earliest deadline on the wall clock, which any node may apply (T8, L9, forgetting).
    pub fn wall_deadline(&self, policy: &Policy) -> Option<Timestamp> {
        let push = self.terminals.iter().filter_map(|terminal| match terminal.link {
            Link::Push { until } => Some(until),
            Link::Connected | Link::Lost { .. } => None,
        });
        let revoked = self.revoked.map(|revoked| revoked.until);
        push.chain(self.forget_at(policy)).chain(revoked).min()
    }

    /// Whether a [`Tick`](super::EventKind::Tick) would change the record now.
    pub(super) fn is_due(&self, policy: &Policy, moment: &Moment) -> bool {
        self.deadlines().any(|(node, at)| node == moment.node && at <= moment.now)
            || self.wall_deadline(policy).is_some_and(|at| at <= moment.wall)
    }

    /// When the user is forgotten, on the wall clock; `None` while the user has a terminal, and once forgotten.
    pub(super) fn forget_at(&self, policy: &Policy) -> Option<Timestamp> {
        if !self.terminals.is_empty() || self.version == 0 {
            return None;
        }
        // A version is at least the time of its commit. A user who was erased, or hidden before the first
        // login, has no other.
        let since = self.since.unwrap_or(Timestamp::from_millis(self.version));
        Some(since + policy.record_ttl)
    }

    /// The numbers that this record adds to the hub's counts.
    pub fn census(&self) -> Census {
        let mut census = Census { away: self.is_away(), ..Census::default() };
        for terminal in &self.terminals {
            let counts = match terminal.state() {
                State::Online => &mut census.online,
                State::PushOnline | State::Offline => &mut census.push_online,
            };
            counts[terminal.platform as usize] += 1;
        }
        // Whoever was erased, or hidden before the first login, is not known.
        let is_known = !self.terminals.is_empty() || self.since.is_some();
        census.state = is_known.then(|| self.state());
        census
    }
}

impl Terminal {
    /// The terminal's state (S1).
    pub const fn state(&self) -> State {
        match self.link {
            Link::Connected | Link::Lost { .. } => State::Online,
            Link::Push { .. } => State::PushOnline,
        }
    }

    /// The activity as the terminal's details show it (A6).
    pub fn activity_view(&self) -> ActivityView {
        match self.state() {
            State::Online => ActivityView::online(self.activity, self.since),
            State::PushOnline | State::Offline => ActivityView::NONE,
        }
    }

    /// Takes an activity; returns whether it is another one. To say the same again changes nothing (A2).
    pub(super) fn becomes(&mut self, activity: Activity) -> bool {
        let is_other = self.activity.is_idle() != activity.is_idle();
        if is_other {
            self.activity = activity;
        }
        is_other
    }

    /// Whether it was taken over from a node that died, and no connection has had it since (T11).
    pub const fn is_taken_over(&self) -> bool {
        self.connection.serial == u64::MAX
    }

    /// Whether this is the terminal's live connection.
    pub fn is_on(&self, connection: ConnectionId) -> bool {
        self.link == Link::Connected && self.connection == connection
    }

    /// Extends the open windows by the hub's stalls (T12).
    pub(super) fn allow_for(&mut self, stalls: &[Stall], now: Timestamp) {
        let stalls_until = self.stalls_until.unwrap_or_default();
        let mut is_shifted = false;
        let mut shifted = |at: Timestamp, since: Timestamp| {
            let lag = Stall::lag(stalls, since.max(stalls_until));
            is_shifted |= !lag.is_zero();
            at + lag
        };
        if let Link::Lost { since, until: Some(until), .. } = &mut self.link {
            *until = shifted(*until, *since);
        }
        if let Some(Background { since, deadline: Some(deadline), .. }) = &mut self.background {
            *deadline = shifted(*deadline, *since);
        }
        if is_shifted {
            self.stalls_until = Some(now);
        }
    }

    /// The earliest deadline at which the terminal leaves `Online`, with its cause (T3, T6, T7, T10, T11).
    pub fn deadline(&self) -> Option<(Timestamp, Cause)> {
        let background = self.background.and_then(|background| {
            let cause = match background.reason {
                BackgroundReason::Hide => Cause::Background,
                BackgroundReason::Exit => Cause::Exit,
            };
            background.deadline.map(|at| (at, cause))
        });
        let closed = match self.link {
            Link::Lost { until, how: Loss::Closed(_), .. } => until.map(|at| (at, Cause::Close)),
            Link::Lost { until, how: Loss::WithNode, .. } => until.map(|at| (at, Cause::NodeLost)),
            Link::Connected => None,
            Link::Push { .. } => return None,
        };
        let token = Some((self.token_until, Cause::TokenExpired));
        [background, closed, token].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}
