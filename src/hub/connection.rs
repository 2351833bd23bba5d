use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;

use super::{Hub, Mailbox, Unavailable};
use crate::presence::{Status, UserId};

/// A connection's place in the hub, given up when it is dropped.
pub struct Connection {
    pub(super) hub: Arc<Hub>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Connection {
    /// Its mailbox.
    pub const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Its hub.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Starts watching users: what happens to them is pushed once a snapshot of them is sent.
    /// Returns those that were not watched before.
    pub fn watch(&self, users: &[UserId]) -> Vec<UserId> {
        let mut added = Vec::new();
        for user in users {
            if self.mailbox.watch(user.clone()) {
                self.hub.watchers.add(user, &self.mailbox);
                self.hub.metrics.subscriptions.inc();
                added.push(user.clone());
            }
        }
        added
    }

    /// Stops watching users.
    pub fn unwatch(&self, users: &[UserId]) {
        for user in users {
            if self.mailbox.unwatch(user) {
                self.hub.watchers.remove(user, self.mailbox.id());
                self.hub.metrics.subscriptions.dec();
            }
        }
    }

    /// Stops watching everybody.
    pub fn unwatch_all(&self) {
        for user in self.mailbox.unwatch_all() {
            self.hub.watchers.remove(&user, self.mailbox.id());
            self.hub.metrics.subscriptions.dec();
        }
    }

    /// Sends a frame made of the users' present statuses, each at least as new as anything that
    /// this connection has seen of its user, and followed by everything newer (V3).
    ///
    /// # Errors
    ///
    /// The store's; then nothing was sent.
    pub async fn send_snapshot(
        &self,
        users: &[UserId],
        frame: impl Fn(&[Status]) -> Bytes,
    ) -> Result<(), Unavailable> {
        loop {
            let seen = self.mailbox.seen(users);
            let statuses = try_join_all(users.iter().map(|user| self.hub.status(user))).await?;
            let versions: Vec<_> = statuses.iter().map(|status| status.version).collect();
            if self.mailbox.post_snapshot(users, &seen, &versions, frame(&statuses)) {
                return Ok(());
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.unwatch_all();
        self.hub.registry.remove(self.mailbox.id());
        self.hub.metrics.connections.dec();
        self.hub.drained.notify_one();
    }
}
