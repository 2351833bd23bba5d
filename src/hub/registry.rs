use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::mailbox::{Delivery, Mailbox};
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
pub(super) struct Watchers {
    watched: Sharded<UserId, Arc<Watched>>,
    next_id: AtomicU64,
}

/// A user whom somebody on this node watches.
pub(super) struct Watched {
    /// Names the user wherever a delivery goes, for less than its text.
    id: u64,
    user: UserId,
    by: Mutex<HashMap<u64, Arc<Mailbox>>>,
}

/// What became of a status on its way to a user's watchers.
#[derive(Default)]
pub(super) struct Deliveries {
    /// How many got it.
    pub(super) sent: u64,
    /// For how many of them it took the place of an older one that still waited.
    pub(super) conflated: u64,
    /// In whose mailboxes it waits for a flush that nobody else sees to.
    pub(super) unflushed: Vec<Arc<Mailbox>>,
}

impl Watchers {
    /// Has a connection watch a user.
    pub(super) fn add(&self, user: &UserId, mailbox: &Arc<Mailbox>) -> Arc<Watched> {
        let mut shard = self.watched.lock(user);
        let watched = shard.entry(user.clone()).or_insert_with_key(|user| {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            Arc::new(Watched { id, user: user.clone(), by: Mutex::default() })
        });
        // While the shard is held, or one that lost its last watcher might be gone meanwhile.
        watched.by.lock().insert(mailbox.id().serial, Arc::clone(mailbox));
        Arc::clone(watched)
    }

    pub(super) fn remove(&self, watched: &Watched, connection: ConnectionId) {
        let mut shard = self.watched.lock(&watched.user);
        let mut by = watched.by.lock();
        by.remove(&connection.serial);
        if by.is_empty()
            && let Entry::Occupied(entry) = shard.entry(watched.user.clone())
        {
            entry.remove();
        }
    }

    /// The user, where somebody watches it; who comes later takes a snapshot that is newer.
    pub(super) fn get(&self, user: &UserId) -> Option<Arc<Watched>> {
        self.watched.lock(user).get(user).cloned()
    }

    /// Every user that somebody watches.
    pub(super) fn all(&self) -> Vec<UserId> {
        self.watched.collect(|user, _| user.clone())
    }
}

impl Watched {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Puts a status in every watcher's mailbox.
    pub(super) fn push(&self, version: u64, frame: &Bytes) -> Deliveries {
        let mut deliveries = Deliveries::default();
        for watcher in self.by.lock().values() {
            match watcher.push(self.id, version, frame) {
                Delivery::Needless => continue,
                Delivery::Sent { flush } => {
                    if flush {
                        deliveries.unflushed.push(Arc::clone(watcher));
                    }
                }
                Delivery::Conflated => deliveries.conflated += 1,
            }
            deliveries.sent += 1;
        }
        deliveries
    }

    /// Everybody who watches it now.
    pub(super) fn watchers(&self) -> Vec<Arc<Mailbox>> {
        self.by.lock().values().cloned().collect()
    }
}
