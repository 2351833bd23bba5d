//! What one connection watches, and by what right.

use std::sync::Arc;

use slab::Slab;

use super::registry::WatchedUser;
use crate::presence::Watchable;

/// The users that a connection watches. Each user's [`WatchedUser`] keeps the place of its own.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: Slab<Subscription>,
    /// What the session's token lets it watch; `None` if the token does not say (P1).
    pub(super) claim: Option<Arc<Watchable>>,
    /// Whether the session subscribed to its user's watch list (P8).
    pub(super) follows_list: bool,
}

/// One user that a connection watches.
pub(super) struct Subscription {
    user: Arc<WatchedUser>,
    /// The newest version that was pushed or sent. A snapshot must not be older.
    pub(super) seen: u64,
    /// Whether the first snapshot was sent. Until then a push only raises `seen`.
    pub(super) is_snapshot_sent: bool,
    /// The place of the latest status in the queue; it may be sent already.
    pub(super) queued: Option<u64>,
    by_name: bool,
    by_list: bool,
}

/// Why a connection watches a user: the session named it, or it is on the watch list, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The session named the user.
    Named,
    /// The user is on the watch list.
    Listed,
}

impl Subscription {
    fn reason(&mut self, reason: Reason) -> &mut bool {
        match reason {
            Reason::Named => &mut self.by_name,
            Reason::Listed => &mut self.by_list,
        }
    }

    pub(super) const fn has(&self, reason: Reason) -> bool {
        match reason {
            Reason::Named => self.by_name,
            Reason::Listed => self.by_list,
        }
    }
}

impl Subscriptions {
    /// Whether a reason may be added: the watch list gives none to a session that has unsubscribed from it, or has
    /// ended, while a change of the list was under way.
    const fn takes(&self, reason: Reason) -> bool {
        match reason {
            Reason::Named => true,
            Reason::Listed => self.follows_list,
        }
    }

    /// Adds a subscription; returns its place. `None` if the session no longer follows its watch list.
    pub(super) fn add(&mut self, user: Arc<WatchedUser>, reason: Reason) -> Option<usize> {
        if !self.takes(reason) {
            return None;
        }
        // Spare capacity would cost memory for each connection, and most connections watch few users.
        self.all.reserve_exact(1);
        let mut subscription = Subscription {
            user,
            seen: 0,
            is_snapshot_sent: false,
            queued: None,
            by_name: false,
            by_list: false,
        };
        *subscription.reason(reason) = true;
        Some(self.all.insert(subscription))
    }

    /// Adds a reason for a subscription; returns whether it is new.
    pub(super) fn add_reason(&mut self, place: usize, reason: Reason) -> bool {
        let subscription = if self.takes(reason) { self.all.get_mut(place) } else { None };
        subscription.is_some_and(|it| !std::mem::replace(it.reason(reason), true))
    }

    /// Takes a reason for a subscription away; returns whether it had it, and whether it has another.
    pub(super) fn take_reason(&mut self, place: usize, reason: Reason) -> (bool, bool) {
        let Some(subscription) = self.all.get_mut(place) else { return (false, false) };
        let had = std::mem::replace(subscription.reason(reason), false);
        (had, subscription.by_name || subscription.by_list)
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Subscription> {
        self.all.try_remove(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Subscription> {
        self.all.get_mut(place)
    }

    /// The users that are watched for a reason.
    pub(super) fn users(&self, reason: Reason) -> Vec<Arc<WatchedUser>> {
        let meant = self.all.iter().filter(|(_, subscription)| subscription.has(reason));
        meant.map(|(_, subscription)| Arc::clone(&subscription.user)).collect()
    }

    /// How many users are watched for a reason.
    pub(super) fn count(&self, reason: Reason) -> usize {
        self.all.iter().filter(|(_, subscription)| subscription.has(reason)).count()
    }

    /// The newest versions that the connection has seen at these places; 0 without a subscription.
    pub(super) fn seen(&self, places: &[Option<usize>]) -> Vec<u64> {
        let seen = |place: &Option<usize>| self.all.get((*place)?).map(|it| it.seen);
        places.iter().map(|place| seen(place).unwrap_or_default()).collect()
    }

    /// Notes a snapshot of users. Returns `false` if a newer status was pushed since `seen` was read: the
    /// statuses must be read again, because a snapshot must not be stale (V3).
    pub(super) fn note_snapshot(
        &mut self,
        places: &[Option<usize>],
        seen: &[u64],
        versions: &[u64],
    ) -> bool {
        let is_stale = places.iter().zip(seen).zip(versions).any(|((place, seen), version)| {
            let subscription = place.and_then(|place| self.all.get(place));
            subscription.is_some_and(|it| it.seen != *seen && it.seen > *version)
        });
        if is_stale {
            return false;
        }
        for (place, version) in places.iter().zip(versions) {
            if let Some(subscription) = place.and_then(|place| self.all.get_mut(place)) {
                subscription.seen = subscription.seen.max(*version);
                subscription.is_snapshot_sent = true;
            }
        }
        true
    }

    /// Lets the changes of everybody on the watch list through: those whom no page of it has named yet, too.
    pub(super) fn open_list(&mut self) {
        for (_, subscription) in self.all.iter_mut().filter(|(_, it)| it.by_list) {
            subscription.is_snapshot_sent = true;
        }
    }
}
