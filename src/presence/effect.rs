//! The result of a step: the new record, transitions for the log, effects, and the answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    BackgroundReason, ConnectionId, DeviceId, EventId, Kicker, Platform, Record, SessionId, State,
    Status, Timestamp, VisibilityView,
};

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record to store.
    pub record: Record,
    /// The transitions to log with it, in order.
    pub transitions: Vec<Transition>,
    /// The effects to carry out once both are stored.
    pub effects: Effects,
    /// The answer to the event's sender.
    pub answer: Answer,
}

/// What the hub must do after a step is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effects {
    /// Connections to end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// If connections end by a kick: who kicked, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kick: Option<Box<(Kicker, Timestamp)>>,
    /// Whether watchers must be told the new status.
    pub status_changed: bool,
}

/// A connection to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The connection's id.
    pub connection: ConnectionId,
    /// The reason, which decides the close code.
    pub why: EndReason,
}

/// Why the rules end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Another device's login took its place (L3).
    LoginElsewhere,
    /// Its own device logged in again (L5).
    SameDevice,
    /// Its user ended it from another session.
    OwnRequest,
    /// The back end ended it (L9).
    Admin,
    /// Its session continues on another connection (L7).
    Moved,
    /// Its mini-program stayed in the background (T6), or was left (T7).
    Background,
    /// Its token expired (T10).
    TokenExpired,
}

/// The answer to the sender of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The event was applied.
    #[default]
    Done,
    /// The event was ignored: its session has ended or has moved to another connection.
    Stale,
    /// The login was accepted.
    Admitted {
        /// The resumed session, or the new one.
        session: SessionId,
        /// Whether a session was resumed.
        resumed: bool,
        /// The terminals that the login kicked (L6).
        kicked: Vec<Victim>,
    },
    /// Terminals were kicked.
    Kicked {
        /// The terminals that ended.
        kicked: Vec<Victim>,
        /// Whether tokens were revoked (L9).
        revoked: bool,
    },
    /// The app is in the background.
    Background {
        /// When the terminal is ended, if it has a deadline.
        deadline: Option<Timestamp>,
    },
    /// The event was refused.
    Refused(Refusal),
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session to resume was kicked or replaced (L7).
    Kicked,
    /// The resume would conflict with another session (L7).
    Superseded,
    /// These devices conflict with the login under `reject_new` (L3).
    LoginConflict(Vec<(Platform, DeviceId)>),
    /// The token was issued before a kick (L9).
    TokenRevoked,
    /// An offline user has no custom status.
    NotLoggedIn,
    /// The user has filled the quota of the transition log (V7).
    LogQuota,
    /// The user would block more than [`BLOCKED_MAX`](super::BLOCKED_MAX) viewers (P3).
    TooManyBlocked,
}

/// A terminal that was kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Victim {
    /// The platform of its device.
    pub platform: Platform,
    /// The device that had logged in.
    pub device: DeviceId,
    /// The session that ended.
    pub session: SessionId,
}

/// One entry of the transition log (V5, V6); the log stores the user beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The event's id, and the position among that event's transitions.
    pub id: (EventId, u8),
    /// When it was decided, on the wall clock.
    pub at: Timestamp,
    /// Why the transition happened.
    pub cause: Cause,
    /// The version of the status after it.
    pub version: u64,
    /// The user's state before.
    pub from: State,
    /// The user's state after.
    pub to: State,
    /// The changed terminal; `None` if the back end made the change, and for [`Cause::Recovered`].
    pub terminal: Option<TerminalChange>,
    /// The whole status after it.
    pub status: Status,
    /// For a kicked terminal: who kicked it.
    pub by: Option<Kicker>,
    /// For a login: the terminals that it kicked (L6).
    pub kicked: Vec<Victim>,
    /// The facts that led to the transition.
    pub evidence: Evidence,
    /// For [`Cause::Visibility`]: who may not see the user from now on.
    pub visibility: Option<Box<VisibilityView>>,
}

/// A terminal's change in a transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalChange {
    /// The platform of its device.
    pub platform: Platform,
    /// The device of the terminal.
    pub device: DeviceId,
    /// The session of the terminal.
    pub session: SessionId,
    /// The terminal's state before; null if it did not exist.
    pub from: Option<State>,
    /// The terminal's state after; null if it ended.
    pub to: Option<State>,
}

/// The facts that led to a transition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// When the terminal was last heard.
    #[serde(rename = "last_heard", skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The close code of its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// The deadline that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Why the app was in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundReason>,
}

/// Why a transition happened (V6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A login (T1).
    Login,
    /// A resume of a `PushOnline` session (L7).
    Resume,
    /// A logout (T2).
    Logout,
    /// A closed connection (T3).
    Close,
    /// A silent connection (T4, T5).
    Silence,
    /// A mini-program stayed in the background (T6).
    Background,
    /// A mini-program was left by its close button (T7).
    Exit,
    /// `PushOnline` expired (T8).
    Expired,
    /// A kick (T9).
    Kicked,
    /// An expired token (T10).
    TokenExpired,
    /// The hub of the session died (T11).
    NodeLost,
    /// The custom status changed.
    Custom,
    /// The store could not read the user's record.
    Recovered,
    /// Who may see the user changed (P2, P3).
    Visibility,
    /// The user left the last device that was in use (A6).
    Idle,
    /// The user, who was away, is at a device again (A6).
    Active,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 16] = [
        Self::Login,
        Self::Resume,
        Self::Logout,
        Self::Close,
        Self::Silence,
        Self::Background,
        Self::Exit,
        Self::Expired,
        Self::Kicked,
        Self::TokenExpired,
        Self::NodeLost,
        Self::Custom,
        Self::Recovered,
        Self::Visibility,
        Self::Idle,
        Self::Active,
    ];

    /// The name as the log writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Resume => "resume",
            Self::Logout => "logout",
            Self::Close => "close",
            Self::Silence => "silence",
            Self::Background => "background",
            Self::Exit => "exit",
            Self::Expired => "expired",
            Self::Kicked => "kicked",
            Self::TokenExpired => "token_expired",
            Self::NodeLost => "node_lost",
            Self::Custom => "custom",
            Self::Recovered => "recovered",
            Self::Visibility => "visibility",
            Self::Idle => "idle",
            Self::Active => "active",
        }
    }
}
