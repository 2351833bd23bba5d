//! Remembers for some seconds what this node committed or heard of, in case the store loses it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::presence::{Edition, EventKind, Record, Timestamp, UserId};
use crate::store::Part;

/// How long a commit is remembered. A store that fails over to a replica loses what came last.
pub(super) const REMEMBERED: Duration = Duration::from_secs(20);

/// What this node committed or heard of in the last 20 s.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    users: BTreeMap<UserId, Known>,
    /// The users in the order in which they were noted.
    order: VecDeque<(Timestamp, UserId)>,
}

/// What is known of a user: the store has acknowledged it.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) edition: Edition,
    /// The record; `None` if this node only heard of its version.
    pub(super) record: Option<Arc<Record>>,
    noted: Timestamp,
}

impl Known {
    /// The event that commits it again.
    pub(super) fn recall(self) -> EventKind {
        EventKind::Recall { version: self.edition.version, lost: self.record }
    }
}

impl Ledger {
    /// Notes a record that this node committed, at a time of this node.
    pub(super) fn committed(&self, user: &UserId, record: &Arc<Record>, now: Timestamp) {
        self.note(user, record.edition(), Some(Arc::clone(record)), now);
    }

    /// Notes a version that another node committed.
    pub(super) fn heard(&self, user: &UserId, version: u64, now: Timestamp) {
        self.note(user, Edition { version, unlogged: 0 }, None, now);
    }

    fn note(&self, user: &UserId, edition: Edition, record: Option<Arc<Record>>, noted: Timestamp) {
        let mut entries = self.entries(noted);
        let is_known =
            |known: &Known| known.edition > edition || known.edition == edition && record.is_none();
        if edition.version > 0 && !entries.users.get(user).is_some_and(is_known) {
            entries.users.insert(user.clone(), Known { edition, record, noted });
            entries.order.push_back((noted, user.clone()));
        }
    }

    /// What this node knows of a user beyond what is stored: the store has lost it.
    pub(super) fn beyond(&self, user: &UserId, stored: Edition, now: Timestamp) -> Option<Known> {
        let entries = self.entries(now);
        entries.users.get(user).filter(|known| known.edition > stored).cloned()
    }

    /// The users of a part whose records this node committed.
    pub(super) fn own(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let entries = self.entries(now);
        let own = entries.users.iter().filter(|(user, it)| it.record.is_some() && part.has(user));
        own.map(|(user, _)| user.clone()).collect()
    }

    /// All users of a part that this node committed or heard of.
    pub(super) fn all(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let entries = self.entries(now);
        entries.users.keys().filter(|user| part.has(user)).cloned().collect()
    }

    /// What is still remembered at this time.
    fn entries(&self, now: Timestamp) -> MutexGuard<'_, Entries> {
        let mut entries = self.0.lock();
        entries.forget_before(now - REMEMBERED);
        entries
    }
}

impl Entries {
    fn forget_before(&mut self, limit: Timestamp) {
        while let Some((noted, user)) = self.order.pop_front_if(|(noted, _)| *noted < limit) {
            // Unless it was noted again since.
            if self.users.get(&user).is_some_and(|known| known.noted == noted) {
                self.users.remove(&user);
            }
        }
    }
}
