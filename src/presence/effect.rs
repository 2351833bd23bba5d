//! What a step leads to: the record, the log's transitions, what must be done, and the answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    BackgroundReason, ConnectionId, DeviceId, EventId, Kicker, Platform, Record, SessionId, State,
    Status, Timestamp,
};

/// What a step leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record to store.
    pub record: Record,
    /// What goes into the log with it, in order.
    pub transitions: Vec<Transition>,
    /// What must be done once both are stored.
    pub effects: Effects,
    /// What to tell the event's sender.
    pub answer: Answer,
}

/// What must be done once a step is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effects {
    /// Connections to end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// Who is behind those that end by a kick, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kick: Option<Box<(Kicker, Timestamp)>>,
    /// Whether watchers must be told the user's status.
    pub announce: bool,
}

/// A connection to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Which.
    pub connection: ConnectionId,
    /// Why.
    pub why: Why,
}

/// Why the rules end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Another device's login took its place (L3).
    LoginElsewhere,
    /// Its own device logged in anew (L5).
    SameDevice,
    /// Its user ended it from another session.
    OwnRequest,
    /// The back end ended it (L9).
    Admin,
    /// Its session goes on on another connection (L7).
    Moved,
    /// Its mini-program stayed in the background (T6), or was left (T7).
    Background,
    /// Its token expired (T10).
    TokenExpired,
}

/// What the sender of an event is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    #[default]
    Done,
    /// It no longer meant anything: the session ended, or lives elsewhere.
    Stale,
    /// The login was accepted.
    Admitted {
        /// The session that goes on, or the new one.
        session: SessionId,
        /// Whether it went on.
        resumed: bool,
        /// Whom the login kicked (L6).
        kicked: Vec<Victim>,
    },
    /// These were kicked.
    Kicked {
        /// The terminals that ended.
        kicked: Vec<Victim>,
        /// Whether tokens were revoked (L9).
        revoked: bool,
    },
    /// It is in the background.
    Background {
        /// Until when it may be.
        deadline: Option<Timestamp>,
    },
    /// It was refused.
    Refused(Refusal),
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session to resume was kicked or replaced (L7).
    Kicked,
    /// Admitting the resume would cost somebody else (L7).
    Superseded,
    /// Devices stand in the way (L3).
    LoginConflict(Vec<(Platform, DeviceId)>),
    /// The token was issued before a kick (L9).
    TokenRevoked,
    /// An offline user has no custom status.
    NotLoggedIn,
}

/// A terminal that was kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Victim {
    /// What it ran on.
    pub platform: Platform,
    /// Its device.
    pub device: DeviceId,
    /// Its session.
    pub session: SessionId,
}

/// One entry of the transition log (V5, V6), but for the user, whom the log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The event it comes of, and its place among that event's transitions.
    pub id: (EventId, u8),
    /// When it was decided.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// The version of the user's status that it made.
    pub version: u64,
    /// The user's state before.
    pub from: State,
    /// The user's state after.
    pub to: State,
    /// The terminal concerned; `None` for a change by the back end.
    pub terminal: Option<TerminalChange>,
    /// The whole status after it.
    pub status: Status,
    /// Who kicked.
    pub by: Option<Kicker>,
    /// Whom a login kicked (L6).
    pub kicked: Vec<Victim>,
    /// How it is known.
    pub evidence: Evidence,
}

/// What a transition did to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalChange {
    /// What it runs on.
    pub platform: Platform,
    /// Its device.
    pub device: DeviceId,
    /// Its session.
    pub session: SessionId,
    /// Its state before; null where it was not there.
    pub from: Option<State>,
    /// Its state after; null where it is gone.
    pub to: Option<State>,
}

/// How a transition is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// When the terminal was last heard.
    #[serde(rename = "last_heard", skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// Where its connection came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The code its connection closed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// The deadline that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How it had gone to the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundReason>,
}

/// Why a transition happened (V6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// T1.
    Login,
    /// T1, by a session that had left `Online`.
    Resume,
    /// T2.
    Logout,
    /// T3.
    Close,
    /// T4, T5.
    Silence,
    /// T6.
    Background,
    /// T7.
    Exit,
    /// T8.
    Expired,
    /// T9.
    Kicked,
    /// T10.
    TokenExpired,
    /// T11.
    NodeLost,
    /// The custom status changed.
    Custom,
    /// The store had lost what it knew of the user.
    Recovered,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 13] = [
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
        }
    }
}
