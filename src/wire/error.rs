//! Error codes, and errors as clients and back ends read them.

use serde::Serialize;
use utoipa::ToSchema;

use super::Close;
use crate::presence::{DeviceId, Platform};

/// What went wrong, as a client or a back end can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message is malformed, or a field is wrong.
    BadRequest,
    /// No such `type`.
    UnknownType,
    /// There is no login yet.
    NotLoggedIn,
    /// There is a login already.
    AlreadyLoggedIn,
    /// The token is refused.
    InvalidToken,
    /// The token has expired.
    TokenExpired,
    /// The token was issued before its user was kicked (L9).
    TokenRevoked,
    /// The token is not for this platform.
    PlatformNotAllowed,
    /// The device is missing or malformed, or the token is not for it.
    InvalidDevice,
    /// The session was kicked or replaced (L7).
    Kicked,
    /// The resume would cost somebody else (L7).
    Superseded,
    /// Devices stand in the way (L3).
    LoginConflict,
    /// Too many requests.
    RateLimited,
    /// The token does not allow this.
    Forbidden,
    /// The hub cannot do it now.
    Unavailable,
    /// A text that names no user.
    InvalidUser,
    /// Past the session's limit of subscriptions.
    TooMany,
    /// What the store has of this user is damaged; only back ends are told so.
    Damaged,
}

impl ErrorCode {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::NotLoggedIn => "not_logged_in",
            Self::AlreadyLoggedIn => "already_logged_in",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::PlatformNotAllowed => "platform_not_allowed",
            Self::InvalidDevice => "invalid_device",
            Self::Kicked => "kicked",
            Self::Superseded => "superseded",
            Self::LoginConflict => "login_conflict",
            Self::RateLimited => "rate_limited",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::InvalidUser => "invalid_user",
            Self::TooMany => "too_many",
            Self::Damaged => "damaged",
        }
    }

    /// How a connection ends whose login failed so.
    pub const fn closes_login(self) -> Close {
        match self {
            Self::TokenExpired => Close::TokenExpired,
            Self::RateLimited => Close::RateLimited,
            Self::Unavailable => Close::Unavailable,
            Self::Kicked => Close::Kicked,
            Self::Superseded => Close::Superseded,
            Self::LoginConflict => Close::LoginConflict,
            Self::BadRequest => Close::ProtocolViolation,
            Self::UnknownType
            | Self::NotLoggedIn
            | Self::AlreadyLoggedIn
            | Self::InvalidToken
            | Self::TokenRevoked
            | Self::PlatformNotAllowed
            | Self::InvalidDevice
            | Self::Forbidden
            | Self::InvalidUser
            | Self::TooMany
            | Self::Damaged => Close::InvalidToken,
        }
    }
}

/// An error as clients and back ends read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The devices in the way of a login.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRef>,
}

/// A device in the way of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRef {
    /// What it runs on.
    pub platform: Platform,
    /// Its id.
    pub device: DeviceId,
}

impl ErrorBody {
    /// An error with words for people.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), devices: Vec::new() }
    }

    /// A conflict with these devices.
    pub fn conflict(devices: Vec<(Platform, DeviceId)>) -> Self {
        let devices =
            devices.into_iter().map(|(platform, device)| DeviceRef { platform, device }).collect();
        let message = "other devices are logged in".to_owned();
        Self { code: ErrorCode::LoginConflict, message, devices }
    }
}
