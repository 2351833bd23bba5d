//! What is remembered of one user.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Answer, BackgroundReason, Cause, ConnectionId, DeviceId, Effects, EventId, Moment, Platform,
    Policy, SessionId, Stall, State, Status, Timestamp,
};

/// How many ended sessions of a user are remembered, and for how long, so that a resume of one is
/// told that it was kicked (L7).
pub const ENDED_MAX: usize = 64;
/// See [`ENDED_MAX`].
pub const ENDED_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many events back a commit whose answer was lost is recognised.
pub const RECENT_EVENTS_MAX: usize = 4;

/// All that is known of one user; a value, stored whole. What is not there is not written.
///
/// Times that people read are the wall clock's, those that end a window are the process's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The user's terminals, the earliest login first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terminals: Vec<Terminal>,
    /// The text the user set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Arc<str>>,
    /// When the user's state last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When any terminal was last heard, those that are gone included; kept while the user is
    /// `Online`, too, when nobody is shown it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// The version of the last logged transition.
    pub version: u64,
    /// Sessions that a kick or a replacement ended, the latest last.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub ended: VecDeque<Ended>,
    /// Which tokens are refused from a kick on (L9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
    /// The last events applied, with what they led to.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub recent: VecDeque<Applied>,
}

/// What the hub remembers of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The login it stands for.
    pub session: SessionId,
    /// What it runs on.
    pub platform: Platform,
    /// The installation.
    pub device: DeviceId,
    /// Free text of the client's, for the dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Arc<str>>,
    /// The connection it lives on, or lived on last.
    pub connection: ConnectionId,
    /// Where that connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How it stands with that connection.
    pub link: Link,
    /// When its state became what it is, on the wall clock.
    pub since: Timestamp,
    /// When it was last heard, as far as the record was told, on the wall clock.
    pub heard: Timestamp,
    /// Set while the app says that it is in the background (T15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// When its token has expired, leeway included (T10).
    pub token_until: Timestamp,
    /// Up to when the deadlines above allow for stalls of the hub (T12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood: Option<Timestamp>,
}

/// How a terminal stands with its connection.
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
    /// `Online` still: the connection is gone, and the device may come back unseen (T3, T17).
    Lost {
        /// When the connection went.
        since: Timestamp,
        /// When that counts as the end; `None` leaves it to the deadline of the background.
        until: Option<Timestamp>,
        /// How it went.
        how: Loss,
    },
    /// `PushOnline`.
    Push {
        /// When push gives up on it (T8), on the wall clock.
        until: Timestamp,
    },
}

/// How a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// It was closed, with this code if any (T3).
    Closed(Option<u16>),
    /// With its hub (T11).
    WithNode,
}

/// That an app is in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Background {
    /// How it went there.
    pub reason: BackgroundReason,
    /// Since when.
    pub since: Timestamp,
    /// When it counts as gone (T6, T7); null where only a mini-program would have a clock.
    pub deadline: Option<Timestamp>,
}

/// A session that a kick or a replacement ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The session.
    pub session: SessionId,
    /// What it ran on.
    pub platform: Platform,
    /// Its device.
    pub device: DeviceId,
    /// When this is forgotten.
    pub until: Timestamp,
}

/// That tokens issued before a kick are refused (L9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The second of the kick: a token whose `iat` lies before it is refused.
    pub before_secs: u64,
    /// When no token from before can be alive any more, on the wall clock.
    pub until: Timestamp,
}

/// An event that was applied, with what it led to, should its commit's answer have been lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The event.
    pub event: EventId,
    /// What the outside had to do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effects: Effects,
    /// What its sender was told, where that is more than that it was [`Done`](Answer::Done).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<Answer>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// When a record next needs a [`Tick`](super::EventKind::Tick).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// On the process's own time.
    pub running: Option<Timestamp>,
    /// On the wall clock.
    pub wall: Option<Timestamp>,
}

/// How many terminals and users there are of each kind: what a record adds to the hub's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// `Online` terminals, by platform.
    pub online: [u32; Platform::ALL.len()],
    /// `PushOnline` terminals, by platform.
    pub push_online: [u32; Platform::ALL.len()],
    /// The user's state; `None` for a record that remembers no user.
    pub state: Option<State>,
}

impl Record {
    /// The user's state: that of the best terminal (S3).
    pub fn state(&self) -> State {
        self.terminals.iter().map(Terminal::state).max().unwrap_or_default()
    }

    /// What others see of the user (V1).
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
        }
    }

    /// Finds a terminal by its session.
    pub fn terminal(&self, session: SessionId) -> Option<&Terminal> {
        self.terminals.iter().find(|terminal| terminal.session == session)
    }

    /// Whether nothing at all is remembered, so that a store need not keep it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a token issued then is refused (L9).
    pub fn revokes(&self, issued_at_secs: u64, wall: Timestamp) -> bool {
        self.revoked.is_some_and(|r| issued_at_secs < r.before_secs && wall < r.until)
    }

    /// When it next needs a tick.
    pub fn due(&self, policy: &Policy) -> Due {
        let mut due = Due::default();
        for terminal in &self.terminals {
            match terminal.link {
                Link::Push { until } => due.wall = earlier(due.wall, Some(until)),
                Link::Connected | Link::Lost { .. } => {
                    let deadline = terminal.deadline().map(|(at, _)| at);
                    due.running = earlier(due.running, deadline);
                }
            }
        }
        due.wall = earlier(due.wall, self.forget_at(policy));
        due.wall = earlier(due.wall, self.revoked.map(|revoked| revoked.until));
        due
    }

    /// Whether it needs a tick now.
    pub(super) fn is_due(&self, policy: &Policy, moment: &Moment) -> bool {
        let Due { running, wall } = self.due(policy);
        running.is_some_and(|at| at <= moment.now) || wall.is_some_and(|at| at <= moment.wall)
    }

    /// When a user who is offline is forgotten, on the wall clock.
    pub(super) fn forget_at(&self, policy: &Policy) -> Option<Timestamp> {
        let since = self.since.filter(|_| self.terminals.is_empty())?;
        Some(since + policy.record_ttl)
    }

    /// What it adds to the hub's counts.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for terminal in &self.terminals {
            let counts = match terminal.state() {
                State::Online => &mut census.online,
                State::PushOnline | State::Offline => &mut census.push_online,
            };
            counts[terminal.platform as usize] += 1;
        }
        census.state = (self.version > 0).then(|| self.state());
        census
    }
}

impl Terminal {
    /// Its state (S1).
    pub const fn state(&self) -> State {
        match self.link {
            Link::Connected | Link::Lost { .. } => State::Online,
            Link::Push { .. } => State::PushOnline,
        }
    }

    /// Whether it lives on this connection now.
    pub fn is_on(&self, connection: ConnectionId) -> bool {
        self.link == Link::Connected && self.connection == connection
    }

    /// Moves its open windows by the time in which its hub stood still (T12).
    pub(super) fn allow_for(&mut self, stalls: &[Stall], now: Timestamp) {
        let stood = self.stood.unwrap_or_default();
        let mut is_moved = false;
        let mut moved = |at: Timestamp, since: Timestamp| {
            let lag = Stall::lag(stalls, since.max(stood));
            is_moved |= !lag.is_zero();
            at + lag
        };
        if let Link::Lost { since, until: Some(until), .. } = &mut self.link {
            *until = moved(*until, *since);
        }
        if let Some(Background { since, deadline: Some(deadline), .. }) = &mut self.background {
            *deadline = moved(*deadline, *since);
        }
        if is_moved {
            self.stood = Some(now);
        }
    }

    /// Its earliest deadline, and the cause that will end it then (T3, T6, T7, T10, T11).
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

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
