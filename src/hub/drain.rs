//! Sends all connections away before the process stops.

use std::sync::Arc;
use std::time::Duration;

use super::{Ending, Hub, Mailbox};
use crate::wire::{Close, Push, text_frame};

impl Hub {
    /// Whether no new session is admitted any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load().is_some()
    }

    /// Sends every connection away, to come back at some time within `over`; returns when all are
    /// gone and every end is stored, or after `over`. Records stay as they are (T11).
    pub async fn drain(&self, over: Duration) {
        self.draining.store(Some(Arc::new(over)));
        for mailbox in self.registry.all() {
            send_away(&mailbox, over);
        }
        self.unfinished.close();
        if tokio::time::timeout(over, self.unfinished.wait()).await.is_err() {
            let connections = self.registry.all().len();
            tracing::warn!(connections, "not all were gone in time");
        }
    }
}

/// Tells a client to come back at some time within `over`, so that not all come at once.
pub(super) fn send_away(mailbox: &Mailbox, over: Duration) {
    let most = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    let reconnect_ms = rand::random_range(0..=most);
    let last = text_frame(&Push::Closing { reason: "drain", reconnect_ms });
    mailbox.end(Ending { close: Close::Draining }, Some(last));
}
