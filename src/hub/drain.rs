//! Closes all connections before the process stops.

use std::sync::Arc;
use std::time::Duration;

use super::{Hub, Mailbox};
use crate::wire::{Close, Push, text_frame};

impl Hub {
    /// Whether the hub is draining and admits no new session.
    pub fn is_draining(&self) -> bool {
        self.draining.load().is_some()
    }

    /// Closes every connection, and tells each client to reconnect at a random time within `over`.
    /// Returns when all are closed and every end is stored, or after `over`. Records do not change (T11).
    pub async fn drain(&self, over: Duration) {
        self.draining.store(Some(Arc::new(over)));
        for mailbox in self.registry.all() {
            self.send_away(&mailbox, over);
        }
        self.unfinished.close();
        if tokio::time::timeout(over, self.unfinished.wait()).await.is_err() {
            let connections = self.registry.all().len();
            tracing::warn!(connections, "drain timed out; connections are still open");
        }
    }

    /// Closes a connection; its client reconnects at a random time within `over`, so that not all
    /// reconnect at once.
    pub(super) fn send_away(&self, mailbox: &Mailbox, over: Duration) {
        let most = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        let reconnect_ms = self.random.within(0..=most);
        let last = text_frame(&Push::Closing { reason: "drain", reconnect_ms });
        mailbox.end(Close::Draining, Some(last));
    }
}
