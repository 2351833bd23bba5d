//! The open connections of this node, and the watchers of each user.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::mailbox::{Delivery, Mailbox};
use super::random::KeyedHash;
use super::sharded::{Sharded, remove};
use super::subscriptions::Reason;
use crate::presence::{Audience, ConnectionId, UserId};

/// How many mailboxes get a status while the list of watchers is locked.
const PUSHED_PER_LOCK: usize = 64;

/// The open connections of this node, by id.
pub(super) struct Registry(Sharded<ConnectionId, Arc<Mailbox>>);

impl Registry {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self(Sharded::new(hash))
    }

    pub(super) fn add(&self, mailbox: &Arc<Mailbox>) {
        self.0.lock(&mailbox.id()).insert(mailbox.id(), Arc::clone(mailbox));
    }

    pub(super) fn remove(&self, connection: ConnectionId) {
        remove(&mut self.0.lock(&connection), &connection);
    }

    pub(super) fn get(&self, connection: ConnectionId) -> Option<Arc<Mailbox>> {
        self.0.lock(&connection).get(&connection).cloned()
    }

    /// How many connections have logged in.
    pub(super) fn sessions(&self) -> usize {
        let has_user = self.0.collect(|_, mailbox| mailbox.user().is_some());
        has_user.into_iter().filter(|has_user| *has_user).count()
    }

    pub(super) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.0.collect(|_, mailbox| Arc::clone(mailbox))
    }
}

/// The watchers of each watched user on this node.
pub(super) struct Watchers(Sharded<UserId, Arc<WatchedUser>>);

/// A user with at least one watcher on this node.
pub(super) struct WatchedUser {
    user: UserId,
    by: Mutex<BySerial>,
}

/// Watchers by their connections' serials: mailboxes lie in memory in this order, so a loop over many
/// watchers has fewer cache misses. One watcher needs no allocation: most users have few.
#[derive(Default)]
struct BySerial {
    one: Option<(u64, Watcher)>,
    rest: BTreeMap<u64, Watcher>,
}

impl BySerial {
    fn get(&self, serial: u64) -> Option<&Watcher> {
        let one = self.one.as_ref().filter(|(known, _)| *known == serial);
        one.map(|(_, watcher)| watcher).or_else(|| self.rest.get(&serial))
    }

    fn insert(&mut self, serial: u64, watcher: Watcher) {
        if self.one.is_none() {
            self.one = Some((serial, watcher));
        } else {
            self.rest.insert(serial, watcher);
        }
    }

    fn remove(&mut self, serial: u64) -> Option<Watcher> {
        let one = self.one.take_if(|(known, _)| *known == serial);
        one.map(|(_, watcher)| watcher).or_else(|| self.rest.remove(&serial))
    }

    fn is_empty(&self) -> bool {
        self.one.is_none() && self.rest.is_empty()
    }

    /// The watchers after one of an earlier call; `None` for all.
    fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Watcher)> {
        let one = self.one.as_ref().filter(|_| after.is_none());
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.rest.range((begin, Bound::Unbounded));
        let rest = rest.map(|(serial, watcher)| (*serial, watcher));
        one.map(|(serial, watcher)| (*serial, watcher)).into_iter().chain(rest)
    }
}

/// A connection that watches a user, and the place of that subscription in its mailbox.
struct Watcher {
    mailbox: Arc<Mailbox>,
    place: usize,
}

/// The result of a push to all watchers of a user.
#[derive(Default)]
pub(super) struct Deliveries {
    /// The number of mailboxes that accepted the status.
    pub(super) sent: u64,
    /// The number of those in which it replaced an unsent older status.
    pub(super) conflated: u64,
    /// Mailboxes that the caller must schedule a flush for.
    pub(super) unflushed: Vec<Arc<Mailbox>>,
}

/// What [`Watchers::add`] added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Watcher,
    Reason,
    Nothing,
}

/// What [`Watchers::remove`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Watcher,
    Reason,
    Nothing,
}

impl Watchers {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self(Sharded::new(hash))
    }

    /// Adds a watcher to a user, or a reason to one that watches the user already.
    pub(super) fn add(&self, user: &UserId, mailbox: &Arc<Mailbox>, reason: Reason) -> Added {
        let mut shard = self.0.lock(user);
        let watched = shard.entry(user.clone()).or_insert_with_key(|user| {
            Arc::new(WatchedUser { user: user.clone(), by: Mutex::default() })
        });
        let watched = Arc::clone(watched);
        // Keep the shard locked: otherwise `remove` could drop this user with its last watcher.
        let mut by = watched.by.lock();
        let serial = mailbox.id().serial;
        if let Some(watcher) = by.get(serial) {
            let is_new = mailbox.subscriptions(|it| it.add_reason(watcher.place, reason));
            return if is_new { Added::Reason } else { Added::Nothing };
        }
        let place = mailbox.subscriptions(|it| it.add(Arc::clone(&watched), reason));
        let Some(place) = place else {
            if by.is_empty() {
                remove(&mut shard, user);
            }
            return Added::Nothing;
        };
        by.insert(serial, Watcher { mailbox: Arc::clone(mailbox), place });
        Added::Watcher
    }

    /// Takes a reason from a watcher of a user, and removes the watcher with its last one.
    pub(super) fn remove(&self, user: &UserId, mailbox: &Mailbox, reason: Reason) -> Removed {
        let mut shard = self.0.lock(user);
        let Some(watched) = shard.get(user).map(Arc::clone) else { return Removed::Nothing };
        let mut by = watched.by.lock();
        let serial = mailbox.id().serial;
        let Some(place) = by.get(serial).map(|it| it.place) else { return Removed::Nothing };
        match mailbox.subscriptions(|it| it.take_reason(place, reason)) {
            (false, _) => return Removed::Nothing,
            (true, true) => return Removed::Reason,
            (true, false) => (),
        }
        by.remove(serial);
        mailbox.unwatch(place);
        if by.is_empty() {
            remove(&mut shard, user);
        }
        Removed::Watcher
    }

    /// A watched user. A watcher that is added later sends itself a newer snapshot.
    pub(super) fn get(&self, user: &UserId) -> Option<Arc<WatchedUser>> {
        self.0.lock(user).get(user).cloned()
    }

    /// All watched users.
    pub(super) fn all(&self) -> Vec<UserId> {
        self.0.collect(|user, _| user.clone())
    }
}

impl WatchedUser {
    pub(super) const fn user(&self) -> &UserId {
        &self.user
    }

    /// The place of this user's subscription in a connection's mailbox, if the connection watches it.
    pub(super) fn place(&self, connection: ConnectionId) -> Option<usize> {
        self.by.lock().get(connection.serial).map(|watcher| watcher.place)
    }

    /// Puts a status in the mailboxes of the watchers after `after`, [`PUSHED_PER_LOCK`] at most, so that
    /// those who subscribe meanwhile do not wait for long. Returns where to go on, or
    /// `None` after the last one.
    pub(super) fn push(
        &self,
        after: Option<u64>,
        to: &Audience,
        (version, frame): (u64, &Bytes),
        deliveries: &mut Deliveries,
    ) -> Option<u64> {
        let by = self.by.lock();
        let mut last = None;
        for (count, (serial, Watcher { mailbox, place })) in by.after(after).enumerate() {
            if count == PUSHED_PER_LOCK {
                return last;
            }
            last = Some(serial);
            if !mailbox.belongs_in(to) {
                continue;
            }
            match mailbox.push(*place, version, frame) {
                Delivery::Skipped => continue,
                Delivery::Sent { flush } => {
                    if flush {
                        deliveries.unflushed.push(Arc::clone(mailbox));
                    }
                }
                Delivery::Conflated => deliveries.conflated += 1,
            }
            deliveries.sent += 1;
        }
        None
    }

    /// The greatest version that a watcher has seen.
    pub(super) fn seen(&self) -> u64 {
        let by = self.by.lock();
        let seen = by.after(None).flat_map(|(_, watcher)| {
            watcher.mailbox.subscriptions(|it| it.seen(&[Some(watcher.place)]))
        });
        seen.max().unwrap_or_default()
    }

    /// All watchers.
    pub(super) fn watchers(&self) -> Vec<Arc<Mailbox>> {
        self.by.lock().after(None).map(|(_, watcher)| Arc::clone(&watcher.mailbox)).collect()
    }
}
