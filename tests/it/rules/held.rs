//! A session as the model holds it.

use presence_hub::presence::{
    BackgroundReason, ConnectionId, DeviceId, Platform, SessionId, Timestamp,
};

/// The state of a session's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Connected,
    Gone { since: Timestamp, until: Option<Timestamp> },
    Push { until: Timestamp },
}

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) session: SessionId,
    pub(super) platform: Platform,
    pub(super) device: DeviceId,
    pub(super) connection: ConnectionId,
    pub(super) link: Link,
    /// Why and when it went to the background, and its deadline.
    pub(super) background: Option<(BackgroundReason, Timestamp, Option<Timestamp>)>,
    pub(super) token_until: Timestamp,
    pub(super) is_idle: bool,
}

impl Held {
    pub(super) fn is_online(&self) -> bool {
        !matches!(self.link, Link::Push { .. })
    }

    pub(super) fn is_device(&self, platform: Platform, device: &DeviceId) -> bool {
        self.platform == platform && self.device == *device
    }
}
