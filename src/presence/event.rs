//! The events that can happen to a user: the input of a step.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Activity, ConnectionId, DeviceId, EventId, NodeId, Platform, Record, Rescued, SessionId, Stall,
    State, Terminal, Timestamp, VisibilityChange,
};

/// Something that happened to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made once per event, so that a retry is recognised.
    pub id: EventId,
    /// The kind of event, with its data.
    pub kind: EventKind,
}

/// The kind of an event.
///
/// Events of a connection carry the connection's id. If the session has moved to another
/// connection, they are ignored, so an old connection never ends its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A device logs in or resumes (T1, L1 to L7).
    Login(Box<Login>),
    /// A session logged out (T2).
    Logout(Origin),
    /// A session's connection ended (T3).
    Closed {
        /// The session, on its connection.
        origin: Origin,
        /// The close code, if there was one.
        close_code: Option<u16>,
    },
    /// A login failed because the store's answer was lost, and the hub closed its connection. The login may have
    /// been written, which the client does not know: a new session ends, and a resumed one is held for its
    /// client (T3).
    Unanswered {
        /// The connection of the login.
        connection: ConnectionId,
        /// The id that a new session got.
        fresh: SessionId,
        /// The close code.
        close_code: u16,
    },
    /// A session was silent for its whole window (T4, T5).
    Silent {
        /// The session, on its connection.
        origin: Origin,
        /// When the window ended.
        deadline: Timestamp,
    },
    /// A session's app went to the background (T6, T7, T15).
    Background {
        /// The session, on its connection.
        origin: Origin,
        /// Whether the app was hidden or left.
        reason: BackgroundReason,
    },
    /// A session's app came to the foreground (T15).
    Foreground(Origin),
    /// The user left a session's device alone (A2).
    Idle {
        /// The session, on its connection.
        origin: Origin,
        /// For how long it was not touched.
        untouched: Duration,
    },
    /// The user is at a session's device again (A2).
    Active(Origin),
    /// A session showed a newer token (T10).
    Refresh {
        /// The session, on its connection.
        origin: Origin,
        /// When that token expires, leeway included.
        token_until: Timestamp,
        /// The token's `iat`.
        issued_at_secs: u64,
    },
    /// The custom status is set or cleared (V1), the user is hidden or shown (P2), or both.
    Set {
        /// The session that asked for it; `None` for the back end.
        origin: Option<Origin>,
        /// Sets (`Some(Some)`) or clears (`Some(None)`) the custom status.
        custom: Option<Option<Arc<str>>>,
        /// Whether the user is hidden; `None` to leave it.
        hidden: Option<bool>,
    },
    /// Who may see the user is changed (P2, P3).
    Visibility {
        /// The session that asked for it; `None` for the back end.
        origin: Option<Origin>,
        /// The change.
        change: VisibilityChange,
    },
    /// The back end erases the user: kicks every session as [`Kick`](Self::Kick) does, and keeps only the
    /// revocation and the version.
    Erase,
    /// The back end or the user kicks terminals (T9, L9).
    Kick {
        /// The terminals to kick.
        target: Target,
        /// Who kicks them.
        by: Kicker,
    },
    /// A deadline in the record may have passed (T3, T6, T7, T8, T10, T11).
    Tick,
    /// A hub died and another one takes over its sessions, which are held until their silence
    /// windows end, counted from the last sign of life (T11).
    NodeLost {
        /// The hub that died.
        node: NodeId,
        /// The hub that takes over.
        successor: NodeId,
        /// The dead hub's last sign of life, on its own time.
        last: Timestamp,
        /// The same moment on the successor's time, on which all deadlines are from now on.
        at: Timestamp,
        /// The dead hub's stalls, on its own time (T12).
        stalls: Arc<[Stall]>,
    },
    /// The store could not read the user's record; the user restarts without terminals.
    Recovered {
        /// The last state in the log.
        was: State,
        /// The last version in the log: the next one is greater (V2).
        version: u64,
        /// What could still be read.
        rescued: Rescued,
    },
    /// The store lost commits that a node made or heard of. What they said is committed again, with a greater
    /// version (V2).
    Recall {
        /// The greatest version that was lost.
        version: u64,
        /// What the node knows of that commit.
        lost: LostCommit,
    },
}

/// What a node knows of the commit with the greatest version that the store has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostCommit {
    /// The record: the node made the commit.
    Record(Arc<Record>),
    /// The custom status: another node made the commit, and told this one.
    Custom(Option<Arc<str>>),
    /// Nothing but the version, which one of its watchers has seen.
    Version,
}

/// A session together with the connection that an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session's id.
    pub session: SessionId,
    /// Its connection when the event happened.
    pub connection: ConnectionId,
}

/// A login or resume by a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The id for the new session, if one is made.
    pub session: SessionId,
    /// The connection that the login came on.
    pub connection: ConnectionId,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The platform of the device.
    pub platform: Platform,
    /// The device that logs in.
    pub device: DeviceId,
    /// Whether to start a new session or to resume one.
    pub intent: Intent,
    /// Sets (`Some(Some)`) or clears (`Some(None)`) the custom status.
    pub custom: Option<Option<Arc<str>>>,
    /// With a resume: the activity of the terminal (A3). `None`: one that stands keeps its own, a new one is active.
    pub activity: Option<Activity>,
    /// A free text from the client, shown on the dashboard.
    pub app: Option<Arc<str>>,
    /// When the token expires, leeway included.
    pub token_until: Timestamp,
    /// The token's `iat`; 0 if it has none.
    pub issued_at_secs: u64,
}

/// Whether a login starts a new session or resumes one (L7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Start a new session, even if other terminals are kicked.
    New,
    /// Resume this session without kicking anything; `None` names no existing session.
    Resume(Option<SessionId>),
}

/// Why an app went to the background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackgroundReason {
    /// The app was hidden and may be shown again.
    #[default]
    Hide,
    /// The user left the app by its close button.
    Exit,
}

/// A selection of a user's terminals; `None` in a field matches every terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The platform to match.
    pub platform: Option<Platform>,
    /// The device to match.
    pub device: Option<DeviceId>,
    /// The session to match.
    pub session: Option<SessionId>,
}

impl Target {
    /// Whether no field is set, so that every terminal matches.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this terminal matches all fields.
    pub fn matches(&self, terminal: &Terminal) -> bool {
        self.platform.is_none_or(|platform| platform == terminal.platform)
            && self.device.as_ref().is_none_or(|device| *device == terminal.device)
            && self.session.is_none_or(|session| session == terminal.session)
    }
}

/// Who kicked a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kicker {
    /// A newer login (L3, L5).
    Login(Victor),
    /// The user, from another session.
    Own(Victor),
    /// The back end.
    Admin {
        /// A message for the user.
        message: Option<Arc<str>>,
    },
}

/// The session that kicked another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Victor {
    /// The platform of its device.
    pub platform: Platform,
    /// The device that is logged in.
    pub device: DeviceId,
    /// The session's id.
    pub session: SessionId,
}
