//! The labels of the hub's counters.

use std::borrow::Cow;

use super::tally::Label;
use crate::presence::Cause;
use crate::wire::{Close, ErrorCode, KickReason, close};

/// How a session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoginKind {
    /// With a login.
    Login,
    /// With a resume.
    Resume,
}

/// Why a login or an upgrade was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// The error that the client got.
    Error(ErrorCode),
    /// No login within `login.timeout`.
    LoginTimeout,
    /// Memory is too short for more logins.
    TryAgainLater,
    /// The page's origin is not allowed.
    OriginNotAllowed,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The hub closed it.
    ByHub(Close),
    /// The peer closed it with this code, or was lost without a Close frame.
    ByPeer(Option<u16>),
}

/// How a connection ended. Codes that a client made up share one label, so that clients cannot add
/// labels without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CloseLabel {
    /// The hub closed it.
    ByHub(Close),
    /// The peer closed it; the code if it has a name.
    ByPeer(Option<u16>),
    /// The peer was lost without a Close frame.
    Lost,
}

/// A limit on what one key of the server API may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyLimit {
    /// The rate of requests.
    Requests,
    /// The number of open event streams.
    Streams,
}

/// A long-lived task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskName(pub(super) &'static str);

/// Who has taken the places for sockets: `all` clients, or one `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketsTaken(pub(super) &'static str);

impl RefusalReason {
    /// The name in metrics, statistics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error(code) => code.name(),
            Self::LoginTimeout => Close::LoginTimeout.reason(),
            Self::TryAgainLater => Close::TryAgainLater.reason(),
            Self::OriginNotAllowed => "origin_not_allowed",
        }
    }
}

impl KeyLimit {
    /// Every limit.
    pub(super) const ALL: [Self; 2] = [Self::Requests, Self::Streams];

    /// The setting that sets the limit.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Requests => "limits.requests_per_key_per_second",
            Self::Streams => "limits.streams_per_key",
        }
    }
}

impl Closed {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::ByHub(close) => close.code(),
            Self::ByPeer(code) => code.unwrap_or(close::ABNORMAL),
        }
    }

    /// Who closed it.
    pub const fn by(self) -> &'static str {
        match self {
            Self::ByHub(_) => "hub",
            Self::ByPeer(_) => "peer",
        }
    }

    pub(super) fn label(self) -> CloseLabel {
        match self {
            Self::ByHub(close) => CloseLabel::ByHub(close),
            Self::ByPeer(Some(code)) => {
                CloseLabel::ByPeer(Some(code).filter(|code| close::has_name(*code)))
            }
            Self::ByPeer(None) => CloseLabel::Lost,
        }
    }
}

impl Label for LoginKind {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Resume => "resume",
        }
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("kind", self.name().into())]
    }
}

impl Label for RefusalReason {
    fn name(self) -> &'static str {
        self.name()
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("reason", self.name().into())]
    }
}

impl Label for KeyLimit {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Streams => "streams",
        }
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("limit", self.name().into())]
    }
}

impl Label for KickReason {
    fn name(self) -> &'static str {
        self.name()
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("reason", self.name().into())]
    }
}

impl Label for Cause {
    fn name(self) -> &'static str {
        self.name()
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("cause", self.name().into())]
    }
}

impl Label for SocketsTaken {
    fn name(self) -> &'static str {
        self.0
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("by", self.0.into())]
    }
}

impl Label for TaskName {
    fn name(self) -> &'static str {
        self.0
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        vec![("task", self.0.into())]
    }
}

impl Label for CloseLabel {
    fn name(self) -> &'static str {
        match self {
            Self::ByHub(close) => close.reason(),
            Self::ByPeer(_) => "peer",
            Self::Lost => "lost",
        }
    }

    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)> {
        let (code, by) = match self {
            Self::ByHub(close) => (Some(close.code()), "hub"),
            Self::ByPeer(code) => (code, "peer"),
            Self::Lost => (Some(close::ABNORMAL), "peer"),
        };
        let code = code.map_or("other".into(), |code| code.to_string().into());
        vec![("code", code), ("by", by.into())]
    }
}
