//! What happens to one user: the events that a step takes.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ConnectionId, DeviceId, EventId, NodeId, Platform, Revocation, SessionId, Stall, State,
    Terminal, Timestamp,
};

/// Something that happened to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made once, before the event is applied, however often that is tried.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
///
/// An event of a connection bears its id: where the session has moved on, it means nothing any
/// more, so an old connection never ends its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A device logs in or resumes (T1, L1 to L7).
    Login(Box<Login>),
    /// It logged out (T2).
    Logout(Origin),
    /// Its connection ended (T3).
    Closed {
        /// Whose.
        origin: Origin,
        /// The code it ended with, if there was one.
        close_code: Option<u16>,
    },
    /// Nothing was heard of it for its window (T4, T5).
    Silent {
        /// Whose.
        origin: Origin,
        /// When the window was over.
        deadline: Timestamp,
    },
    /// Its app went to the background (T6, T7, T15).
    Background {
        /// Whose.
        origin: Origin,
        /// How.
        reason: BackgroundReason,
    },
    /// Its app came to the foreground (T15).
    Foreground(Origin),
    /// It showed a newer token (T10).
    Refresh {
        /// Whose.
        origin: Origin,
        /// When that token has expired, leeway included.
        token_until: Timestamp,
        /// Its `iat`.
        issued_at_secs: u64,
    },
    /// The custom status is set or cleared (V1).
    Set {
        /// The session that did it; `None` for the back end.
        origin: Option<Origin>,
        /// The new text.
        custom: Option<Arc<str>>,
    },
    /// Terminals are ended by the back end or by their own user (T9, L9).
    Kick {
        /// Which.
        target: Target,
        /// By whom.
        by: Kicker,
    },
    /// A deadline in the record may have come (T3, T6, T7, T8, T10).
    Tick,
    /// A hub is gone, and another takes its sessions over: they are held until their own deadlines,
    /// from its last sign of life (T11).
    NodeLost {
        /// Which.
        node: NodeId,
        /// Who takes over.
        successor: NodeId,
        /// Its last sign of life, on its own time.
        last: Timestamp,
        /// The same moment on the successor's time, which counts from here on.
        at: Timestamp,
        /// When that hub stood still, on its own time (T12).
        stalls: Arc<[Stall]>,
    },
    /// The user's record was damaged, and the user begins anew without any terminal.
    Recovered {
        /// The state that the log shows last.
        was: State,
        /// The version that the log shows last: the next is greater (V2).
        version: u64,
        /// The tokens that were refused, as far as that could still be read (L9).
        revoked: Option<Revocation>,
    },
}

/// A session on the connection that speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// Where it lived when this happened.
    pub connection: ConnectionId,
}

/// A device that logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The id that a new session will have.
    pub session: SessionId,
    /// The connection it comes on.
    pub connection: ConnectionId,
    /// Where that comes from.
    pub address: Option<IpAddr>,
    /// What it runs on.
    pub platform: Platform,
    /// The installation.
    pub device: DeviceId,
    /// Whether this goes on with an earlier session, or demands a new one.
    pub intent: Intent,
    /// Sets (`Some(Some)`) or clears (`Some(None)`) the custom status.
    pub custom: Option<Option<Arc<str>>>,
    /// Free text, for the dashboard.
    pub app: Option<Arc<str>>,
    /// When the token has expired, leeway included.
    pub token_until: Timestamp,
    /// The token's `iat`; 0 where it has none.
    pub issued_at_secs: u64,
}

/// What a login is for (L7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A new session, even at the cost of others.
    New,
    /// Going on with this session, at nobody's cost; `None` is one that never was.
    Resume(Option<SessionId>),
}

/// How an app went to the background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackgroundReason {
    /// It is hidden, and may be shown again.
    #[default]
    Hide,
    /// It was left by its close button.
    Exit,
}

/// Which terminals of a user; what is not named is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Those on this platform.
    pub platform: Option<Platform>,
    /// Those of this device.
    pub device: Option<DeviceId>,
    /// This one.
    pub session: Option<SessionId>,
}

impl Target {
    /// Whether it names nothing, and so means every terminal.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it means this terminal.
    pub fn matches(&self, terminal: &Terminal) -> bool {
        self.platform.is_none_or(|platform| platform == terminal.platform)
            && self.device.as_ref().is_none_or(|device| *device == terminal.device)
            && self.session.is_none_or(|session| session == terminal.session)
    }
}

/// Who kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kicker {
    /// A newer login (L3, L5).
    Login(Victor),
    /// The user, from another session.
    Own(Victor),
    /// The back end.
    Admin {
        /// Its words for the user.
        message: Option<Arc<str>>,
    },
}

/// The session that kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Victor {
    /// What it runs on.
    pub platform: Platform,
    /// Its device.
    pub device: DeviceId,
    /// Its id.
    pub session: SessionId,
}
