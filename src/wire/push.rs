//! What the hub sends: replies, and pushes of its own accord.

use std::sync::Arc;

use serde::Serialize;

use super::ErrorBody;
use crate::presence::{DeviceId, Platform, Status, Timestamp, UserId};

/// A message of the hub's own accord.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Push<'a> {
    /// A watched user's status changed.
    Status(UserStatus<'a>),
    /// The session is over; Close 4501 follows.
    Kicked(&'a KickNotice),
    /// The token is about to expire.
    TokenExpiring {
        /// When it does.
        expires_at: Timestamp,
    },
    /// The hub restarts; Close 1001 follows.
    Closing {
        /// Why: `drain`.
        reason: &'static str,
        /// When to come back.
        reconnect_ms: u64,
    },
    /// An error in what had no readable id.
    Error {
        /// Which.
        error: ErrorBody,
    },
}

/// A user's status with its user (V1).
#[derive(Debug, Clone, Serialize)]
pub struct UserStatus<'a> {
    /// Whose.
    pub user: &'a UserId,
    /// What others see.
    #[serde(flatten)]
    pub status: &'a Status,
}

/// Why a session is over (L6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KickNotice {
    /// Why.
    pub reason: KickReason,
    /// By which device; `None` for the back end.
    pub by: Option<KickedBy>,
    /// When.
    pub at: Timestamp,
    /// The back end's words for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
}

/// The device that kicked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KickedBy {
    /// What it runs on.
    pub platform: Platform,
    /// Its id.
    pub device: DeviceId,
}

/// Why a session was kicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KickReason {
    /// Another device logged in (L3).
    LoginElsewhere,
    /// Its own device logged in anew (L5).
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

/// The one answer to a request.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "reply")]
pub struct Reply<T> {
    /// The request's.
    pub id: u64,
    /// How it went.
    #[serde(flatten)]
    pub body: ReplyBody<T>,
}

/// How a request went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody<T> {
    /// It was done.
    Ok(T),
    /// It was not.
    Error(ErrorBody),
}
