//! Who is connected to this node, and who watches whom on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::mailbox::{Delivery, Mailbox};
use super::sharded::{Sharded, remove};
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
        remove(&mut self.0.lock(&connection), &connection);
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
pub(super) struct Watchers(Sharded<UserId, Arc<WatchedUser>>);

/// A user whom somebody on this node watches.
pub(super) struct WatchedUser {
    user: UserId,
    /// By the connection's serial.
    by: Mutex<HashMap<u64, Watcher, BuildHasherDefault<InTurn>>>,
}

/// Keeps serials nearly in their order, which is that of their mailboxes in memory: whoever goes
/// through many of them waits less for it. Serials are the hub's own, so nobody can choose them.
#[derive(Default)]
struct InTurn(u64);

impl Hasher for InTurn {
    fn write_u64(&mut self, serial: u64) {
        // A table takes a place from the lower bits, and tells neighbours apart by the upper ones.
        self.0 = serial ^ serial.rotate_right(7);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a serial is one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A connection that watches a user, and where its mailbox keeps what it has seen of that user.
struct Watcher {
    mailbox: Arc<Mailbox>,
    place: usize,
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
    /// Has a connection watch a user; returns whether it did not yet.
    pub(super) fn add(&self, user: &UserId, mailbox: &Arc<Mailbox>) -> bool {
        let mut shard = self.0.lock(user);
        let watched = shard.entry(user.clone()).or_insert_with_key(|user| {
            Arc::new(WatchedUser { user: user.clone(), by: Mutex::default() })
        });
        // While the shard is held, or one that lost its last watcher might be gone meanwhile.
        let mut by = watched.by.lock();
        let Entry::Vacant(vacant) = by.entry(mailbox.id().serial) else { return false };
        let place = mailbox.watch(Arc::clone(watched));
        vacant.insert(Watcher { mailbox: Arc::clone(mailbox), place });
        true
    }

    /// Has a connection watch a user no longer; returns whether it did.
    pub(super) fn remove(&self, user: &UserId, mailbox: &Mailbox) -> bool {
        let mut shard = self.0.lock(user);
        let Some(watched) = shard.get(user).map(Arc::clone) else { return false };
        let mut by = watched.by.lock();
        let Some(watcher) = by.remove(&mailbox.id().serial) else { return false };
        mailbox.unwatch(watcher.place);
        if by.is_empty() {
            remove(&mut shard, user);
        }
        true
    }

    /// The user, where somebody watches it; who comes later takes a snapshot that is newer.
    pub(super) fn get(&self, user: &UserId) -> Option<Arc<WatchedUser>> {
        self.0.lock(user).get(user).cloned()
    }

    /// Every user that somebody watches.
    pub(super) fn all(&self) -> Vec<UserId> {
        self.0.collect(|user, _| user.clone())
    }
}

impl WatchedUser {
    pub(super) const fn user(&self) -> &UserId {
        &self.user
    }

    /// Where a connection's mailbox keeps what it has seen of this user, if it watches it.
    pub(super) fn place(&self, connection: ConnectionId) -> Option<usize> {
        self.by.lock().get(&connection.serial).map(|watcher| watcher.place)
    }

    /// Puts a status in every watcher's mailbox.
    pub(super) fn push(&self, version: u64, frame: &Bytes) -> Deliveries {
        let by = self.by.lock();
        let mut deliveries =
            Deliveries { unflushed: Vec::with_capacity(by.len()), ..Deliveries::default() };
        for Watcher { mailbox, place } in by.values() {
            match mailbox.push(*place, version, frame) {
                Delivery::Needless => continue,
                Delivery::Sent { flush } => {
                    if flush {
                        deliveries.unflushed.push(Arc::clone(mailbox));
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
        self.by.lock().values().map(|watcher| Arc::clone(&watcher.mailbox)).collect()
    }
}
