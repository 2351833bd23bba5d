//! How a connection ends.

use std::time::Duration;

use crate::hub::Closed;
use crate::wire::Close;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// Its user logged out.
    LoggedOut,
    /// The hub ended it: the record knows why.
    ByHub(Close),
    /// The client closed it, or is gone.
    ByClient {
        /// The client's close code.
        close: Option<u16>,
    },
    /// The actor closes it for something the client did or failed to do.
    Expelled(Close),
    /// Nothing was heard for its window.
    Silent {
        /// For how long past the window that was not known.
        late: Duration,
    },
}

impl Disconnect {
    /// Who closed it, and with which code.
    pub(super) const fn closed(self) -> Closed {
        match self {
            Self::LoggedOut => Closed::ByHub(Close::LoggedOut),
            Self::ByHub(close) | Self::Expelled(close) => Closed::ByHub(close),
            Self::ByClient { close } => Closed::ByPeer(close),
            Self::Silent { .. } => Closed::ByHub(Close::Silence),
        }
    }

    /// Why, for the log.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::LoggedOut => "logout",
            Self::ByHub(close) => close.reason(),
            Self::ByClient { .. } | Self::Expelled(_) => "close",
            Self::Silent { .. } => "silence",
        }
    }
}
