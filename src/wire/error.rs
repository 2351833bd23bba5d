//! Errors for clients and back ends: a code for programs and a message for people.

use serde::Serialize;
use utoipa::ToSchema;

use super::Close;
use crate::presence::{DeviceId, Platform};

/// An error code that a client or a back end can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message is malformed, or a field is missing or invalid.
    BadRequest,
    /// The `type` is unknown.
    UnknownType,
    /// The connection or the user is not logged in.
    NotLoggedIn,
    /// The connection is already logged in.
    AlreadyLoggedIn,
    /// The token is invalid.
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
    /// The resume conflicts with other sessions of the user (L7).
    Superseded,
    /// The login conflicts with other sessions of the user (L3).
    LoginConflict,
    /// Too many requests.
    RateLimited,
    /// The token does not allow this.
    Forbidden,
    /// The hub cannot do this now.
    Unavailable,
    /// The text is not a valid user id.
    InvalidUser,
    /// The session has too many subscriptions, or a list would have too many users.
    TooMany,
    /// The stored record of this user is damaged; only back ends get this code.
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

    /// The close code of a connection whose login failed with this error.
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

/// An error in a reply or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// The code, for programs.
    pub code: ErrorCode,
    /// The message, for people.
    pub message: String,
    /// The devices that conflict with a login.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRef>,
}

/// A device that conflicts with a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRef {
    /// The platform of the device.
    pub platform: Platform,
    /// The device's id.
    pub device: DeviceId,
}

impl ErrorBody {
    /// Makes an error with a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), devices: Vec::new() }
    }

    /// Makes the error of a login that conflicts with devices.
    pub fn conflict(devices: Vec<(Platform, DeviceId)>) -> Self {
        let devices =
            devices.into_iter().map(|(platform, device)| DeviceRef { platform, device }).collect();
        let message = "other devices are logged in".to_owned();
        Self { code: ErrorCode::LoginConflict, message, devices }
    }
}
