//! Remembers for some seconds what this node committed or heard of, in case the store loses it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::presence::{Edition, EventKind, LostCommit, NodeId, Notice, Record, Timestamp, UserId};
use crate::store::Part;

/// How long a commit is remembered. A store that fails over to a replica loses what came last.
pub(super) const REMEMBERED: Duration = Duration::from_secs(20);

/// What this node committed or heard of in the last 20 s, and who may not see the users with a session here.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    /// Of each user with an `Online` session on this node whom not everybody may see: a record with nothing but
    /// that, and the version at which this node learnt it. Kept as long as the session, for a store that was
    /// emptied.
    visibilities: Mutex<BTreeMap<UserId, Arc<Record>>>,
}

#[derive(Default)]
struct Entries {
    users: BTreeMap<UserId, Remembered>,
    /// The users in the order in which they were noted.
    order: VecDeque<(Timestamp, UserId)>,
}

/// A commit that the store has acknowledged.
#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) edition: Edition,
    /// What this node knows of it, should the store lose it.
    commit: LostCommit,
    noted: Timestamp,
}

impl Remembered {
    /// The event that commits it again.
    pub(super) fn recall(self) -> EventKind {
        EventKind::Recall { version: self.edition.version, lost: self.commit }
    }

    /// Whether this node made the commit.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self.commit, LostCommit::Record(_))
    }
}

impl Ledger {
    /// Notes a record that this node committed, at a time of this node.
    pub(super) fn committed(
        &self,
        user: &UserId,
        record: &Arc<Record>,
        node: NodeId,
        now: Timestamp,
    ) {
        let commit = LostCommit::Record(Arc::clone(record));
        self.note(user, Remembered { edition: record.edition(), commit, noted: now });
        self.note_visibility(user, record, node);
    }

    /// Notes a commit of another node, by what it told this one.
    pub(super) fn heard(&self, user: &UserId, notices: &[Notice], now: Timestamp) {
        let Some(version) = notices.iter().map(|notice| notice.status.version).max() else {
            return;
        };
        // Others may see a frozen status of that version; the user sees the truth (P4, P6).
        let truth = notices.iter().find(|it| it.to.has(user) && it.status.version == version);
        let commit = truth
            .map_or(LostCommit::Version, |notice| LostCommit::Custom(notice.status.custom.clone()));
        let edition = Edition { version, unlogged: 0 };
        self.note(user, Remembered { edition, commit, noted: now });
    }

    fn note(&self, user: &UserId, new: Remembered) {
        let mut entries = self.entries(new.noted);
        let is_known = |known: &Remembered| {
            known.edition > new.edition || known.edition == new.edition && !new.is_own()
        };
        if new.edition.version > 0 && !entries.users.get(user).is_some_and(is_known) {
            entries.order.push_back((new.noted, user.clone()));
            entries.users.insert(user.clone(), new);
        }
    }

    /// Notes who may not see a user (P2, P3), as long as the user has a session on this node.
    pub(super) fn note_visibility(&self, user: &UserId, record: &Record, node: NodeId) {
        let visibility = record.visibility.clone().filter(|_| record.is_held_by(node));
        let mut visibilities = self.visibilities.lock();
        match visibility {
            None => drop(visibilities.remove(user)),
            visibility => {
                let only = Record { visibility, version: record.version, ..Record::default() };
                visibilities.insert(user.clone(), Arc::new(only));
            }
        }
    }

    /// Whether this node has noted who may not see a user.
    pub(super) fn has_visibility(&self, user: &UserId) -> bool {
        self.visibilities.lock().contains_key(user)
    }

    /// What this node knows of a user beyond what is stored: the store has lost it.
    pub(super) fn beyond(
        &self,
        user: &UserId,
        stored: Edition,
        now: Timestamp,
    ) -> Option<Remembered> {
        let entries = self.entries(now);
        let known = entries.users.get(user).filter(|known| known.edition > stored);
        known.cloned().or_else(|| {
            // A user who has a session is only unknown to a store that was emptied.
            let visibilities = (stored == Edition::default()).then(|| self.visibilities.lock())?;
            let record = visibilities.get(user)?;
            let commit = LostCommit::Record(Arc::clone(record));
            Some(Remembered { edition: record.edition(), commit, noted: now })
        })
    }

    /// The users of a part whose records this node committed.
    pub(super) fn own(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let entries = self.entries(now);
        let own = entries.users.iter().filter(|(user, it)| it.is_own() && part.has(user));
        own.map(|(user, _)| user.clone()).collect()
    }

    /// All users of a part that this node committed or heard of.
    pub(super) fn all(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let entries = self.entries(now);
        entries.users.keys().filter(|user| part.has(user)).cloned().collect()
    }

    /// What is still remembered at this time.
    fn entries(&self, now: Timestamp) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock();
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
