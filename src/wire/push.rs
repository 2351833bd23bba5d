//! The messages that the hub sends: pushes, replies and kick notices.

use std::sync::Arc;

use serde::Serialize;

use super::ErrorBody;
use crate::presence::{DeviceId, Platform, Status, Timestamp, UserId};

/// A message that is not a reply.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Push<'a> {
    /// A watched user's status changed.
    Status(UserStatus<'a>),
    /// The session may no longer watch these users, whom it named (P7).
    Unwatched {
        /// The users.
        users: &'a [UserId],
    },
    /// The watch list that the session subscribed to has changed (P8).
    WatchList {
        /// Who was added, `Offline` or not.
        added: Vec<UserStatus<'a>>,
        /// Who was removed.
        removed: &'a [UserId],
    },
    /// The session is over; Close 4501 follows.
    Kicked(&'a KickNotice),
    /// The token is about to expire.
    TokenExpiring {
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The hub is draining; Close 1001 follows.
    Closing {
        /// The reason: `drain`.
        reason: &'static str,
        /// How long to wait before reconnecting.
        reconnect_ms: u64,
    },
    /// An error in a message without a valid id.
    Error {
        /// The error.
        error: ErrorBody,
    },
}

/// A user's status (V1) together with the user.
#[derive(Debug, Clone, Serialize)]
pub struct UserStatus<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The user's status.
    #[serde(flatten)]
    pub status: &'a Status,
}

/// The notice to a kicked session (L6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KickNotice {
    /// The reason.
    pub reason: KickReason,
    /// The device that kicked; `None` for the back end.
    pub by: Option<KickedBy>,
    /// The time of the kick.
    pub at: Timestamp,
    /// The back end's message for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
}

/// The device that kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KickedBy {
    /// The platform of the device.
    pub platform: Platform,
    /// The device's id.
    pub device: DeviceId,
}

/// Why a session was kicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KickReason {
    /// Another device logged in (L3).
    LoginElsewhere,
    /// Its own device logged in again (L5).
    SameDevice,
    /// The user ended it from another session.
    OwnRequest,
    /// The back end ended it.
    Admin,
}

impl KickReason {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoginElsewhere => "login_elsewhere",
            Self::SameDevice => "same_device",
            Self::OwnRequest => "own_request",
            Self::Admin => "admin",
        }
    }
}

/// The reply to a request.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "reply")]
pub struct Reply<T> {
    /// The request's id.
    pub id: u64,
    /// The result of the request.
    #[serde(flatten)]
    pub body: ReplyBody<T>,
}

/// The result of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody<T> {
    /// The request succeeded.
    Ok(T),
    /// The request failed.
    Error(ErrorBody),
}
