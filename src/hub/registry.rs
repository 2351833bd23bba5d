use std::collections::HashMap;
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::sharded::Sharded;
use crate::presence::{ConnectionId, UserId};

/// The connections of this node, by id: how word finds a session's socket.
#[derive(Default)]
pub(super) struct Registry(Sharded<ConnectionId, Arc<Mailbox>>);

impl Registry {
    pub(super) fn add(&self, mailbox: &Arc<Mailbox>) {
        self.0.lock(&mailbox.id()).insert(mailbox.id(), Arc::clone(mailbox));
    }

    /// Removes a connection; another one is never touched, for no two have the same id.
    pub(super) fn remove(&self, connection: ConnectionId) {
        self.0.lock(&connection).remove(&connection);
    }

    pub(super) fn get(&self, connection: ConnectionId) -> Option<Arc<Mailbox>> {
        self.0.lock(&connection).get(&connection).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.0.collect(|_, mailbox| Arc::clone(mailbox))
    }
}

/// Who watches whom on this node.
#[derive(Default)]
pub(super) struct Watchers(Sharded<UserId, HashMap<ConnectionId, Arc<Mailbox>>>);

impl Watchers {
    pub(super) fn add(&self, user: &UserId, mailbox: &Arc<Mailbox>) {
        let mut shard = self.0.lock(user);
        let watchers = shard.entry(user.clone()).or_default();
        watchers.insert(mailbox.id(), Arc::clone(mailbox));
    }

    pub(super) fn remove(&self, user: &UserId, connection: ConnectionId) {
        let mut shard = self.0.lock(user);
        let Some(watchers) = shard.get_mut(user) else { return };
        watchers.remove(&connection);
        if watchers.is_empty() {
            shard.remove(user);
        }
    }

    /// Everybody who watches a user now; who comes later takes a snapshot that is newer.
    pub(super) fn of(&self, user: &UserId) -> Vec<Arc<Mailbox>> {
        let shard = self.0.lock(user);
        shard.get(user).map(|watchers| watchers.values().cloned().collect()).unwrap_or_default()
    }

    /// Every user that somebody watches.
    pub(super) fn watched(&self) -> Vec<UserId> {
        self.0.collect(|user, _| user.clone())
    }
}
