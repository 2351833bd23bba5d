//! The close codes: the one place that names them.

use std::ops::RangeInclusive;

use serde::Serialize;

/// A peer's Close frame had no code (RFC 6455, section 7.4.1).
pub const NO_STATUS: u16 = 1005;
/// There was no Close frame (RFC 6455, section 7.4.1).
pub const ABNORMAL: u16 = 1006;
/// The codes that RFC 6455 and its registry name.
const STANDARD: RangeInclusive<u16> = Close::LoggedOut.code()..=Close::TryAgainLater.code();

/// Whether a code is one of the standard's or of this protocol's, not one that a client made up.
pub fn has_name(code: u16) -> bool {
    STANDARD.contains(&code) || Close::ALL.iter().any(|close| close.code() == code)
}

/// Why the hub closes a connection.
///
/// Clients need only the range: from 4000 to 4499 they reconnect, with back-off and `resume`; from 4500
/// to 4999 they do not reconnect until the user acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum Close {
    /// After `logout`.
    LoggedOut = 1000,
    /// The hub is draining: connect again after `reconnect_ms`.
    Draining = 1001,
    /// The client broke RFC 6455.
    ProtocolError = 1002,
    /// A text frame was not UTF-8 (RFC 6455, section 8.1).
    NotUtf8 = 1007,
    /// A message was larger than `max_message_bytes`.
    TooLarge = 1009,
    /// No login is possible now: connect again, back off.
    TryAgainLater = 1013,
    /// No login came within `login.timeout`.
    LoginTimeout = 4000,
    /// The token expired (T10): fetch a new one first.
    TokenExpired = 4001,
    /// Nothing was heard for the window (T4, T5).
    Silence = 4002,
    /// The mini-program stayed in the background (T6, T7).
    Background = 4003,
    /// Too many messages, for too long.
    RateLimited = 4004,
    /// Nothing was read for the slow-consumer window (V4).
    SlowConsumer = 4005,
    /// The store cannot be reached.
    Unavailable = 4006,
    /// The session was resumed on another connection (L7): come back with `resume: ""`.
    Moved = 4007,
    /// The session was kicked, or a resume named a kicked session.
    Kicked = 4501,
    /// The token was refused.
    InvalidToken = 4502,
    /// The resume conflicts with other sessions of the user (L7).
    Superseded = 4503,
    /// Too many malformed messages.
    ProtocolViolation = 4504,
    /// The login conflicts with other sessions of the user (L3, `reject_new`).
    LoginConflict = 4505,
}

impl Close {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::LoggedOut,
        Self::Draining,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooLarge,
        Self::TryAgainLater,
        Self::LoginTimeout,
        Self::TokenExpired,
        Self::Silence,
        Self::Background,
        Self::RateLimited,
        Self::SlowConsumer,
        Self::Unavailable,
        Self::Moved,
        Self::Kicked,
        Self::InvalidToken,
        Self::Superseded,
        Self::ProtocolViolation,
        Self::LoginConflict,
    ];

    /// The code in the Close frame.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason in the Close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LoggedOut => "logout",
            Self::Draining => "drain",
            Self::ProtocolError => "protocol_error",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::TryAgainLater => "try_again_later",
            Self::LoginTimeout => "login_timeout",
            Self::TokenExpired => "token_expired",
            Self::Silence => "silence",
            Self::Background => "background",
            Self::RateLimited => "rate_limited",
            Self::SlowConsumer => "slow_consumer",
            Self::Unavailable => "unavailable",
            Self::Moved => "moved",
            Self::Kicked => "kicked",
            Self::InvalidToken => "invalid_token",
            Self::Superseded => "superseded",
            Self::ProtocolViolation => "protocol_violation",
            Self::LoginConflict => "login_conflict",
        }
    }
}
