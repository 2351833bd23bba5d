//! The ways in which a connection ends.

use std::time::Duration;

use crate::hub::Closed;
use crate::wire::Close;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// The user logged out.
    LoggedOut,
    /// The hub ended it through the mailbox, for example after a kick. The record has the end already.
    ByHub(Close),
    /// The client closed it, or was lost.
    ByClient {
        /// The client's close code; `None` without a Close frame.
        close: Option<u16>,
    },
    /// The actor closes it because of something that the client did or failed to do.
    ByActor(Close),
    /// Nothing was heard for its window.
    Silent {
        /// How long after the end of the window the silence was detected.
        late: Duration,
    },
}

impl Disconnect {
    /// Who closed it, and with which code.
    pub(super) const fn closed(self) -> Closed {
        match self {
            Self::LoggedOut => Closed::ByHub(Close::LoggedOut),
            Self::ByHub(close) | Self::ByActor(close) => Closed::ByHub(close),
            Self::ByClient { close } => Closed::ByPeer(close),
            Self::Silent { .. } => Closed::ByHub(Close::Silence),
        }
    }

    /// The cause, for the log.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::LoggedOut => "logout",
            Self::ByHub(close) => close.reason(),
            Self::ByClient { .. } | Self::ByActor(_) => "close",
            Self::Silent { .. } => "silence",
        }
    }
}
