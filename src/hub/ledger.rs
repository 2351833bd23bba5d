//! Remembers for some seconds what this node committed or heard of, in case the store loses it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::presence::{Record, Timestamp, UserId};
use crate::store::Part;

/// How long a commit is remembered. A store that fails over to a replica loses what came last.
const REMEMBERED: Duration = Duration::from_secs(20);

/// The users' versions that this node committed or heard of in the last 20 s.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Known>);

#[derive(Default)]
struct Known {
    users: BTreeMap<UserId, Version>,
    /// The users in the order in which they were noted.
    order: VecDeque<(Timestamp, UserId)>,
}

/// A version of a user that the store has acknowledged.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) number: u64,
    /// The record with this version; `None` if this node only heard of it.
    pub(super) record: Option<Arc<Record>>,
    noted: Timestamp,
}

impl Ledger {
    /// Notes a record that this node committed, at a time of this node.
    pub(super) fn committed(&self, user: &UserId, record: &Arc<Record>, now: Timestamp) {
        self.note(user, record.version, Some(Arc::clone(record)), now);
    }

    /// Notes a version that another node committed.
    pub(super) fn heard(&self, user: &UserId, version: u64, now: Timestamp) {
        self.note(user, version, None, now);
    }

    fn note(&self, user: &UserId, number: u64, record: Option<Arc<Record>>, now: Timestamp) {
        let mut known = self.known(now);
        let is_older = known.users.get(user).is_some_and(|known| known.number > number);
        if number > 0 && !is_older {
            known.users.insert(user.clone(), Version { number, record, noted: now });
            known.order.push_back((now, user.clone()));
        }
    }

    /// What this node knows of a user beyond this version: the store has lost it.
    pub(super) fn beyond(&self, user: &UserId, version: u64, now: Timestamp) -> Option<Version> {
        let known = self.known(now);
        known.users.get(user).filter(|known| known.number > version).cloned()
    }

    /// The users of a part whose records this node committed.
    pub(super) fn own(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let known = self.known(now);
        let own = known.users.iter().filter(|(user, it)| it.record.is_some() && part.has(user));
        own.map(|(user, _)| user.clone()).collect()
    }

    /// All users of a part that this node committed or heard of.
    pub(super) fn all(&self, part: Part, now: Timestamp) -> Vec<UserId> {
        let known = self.known(now);
        known.users.keys().filter(|user| part.has(user)).cloned().collect()
    }

    /// What is still remembered at this time.
    fn known(&self, now: Timestamp) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock();
        known.forget_before(now - REMEMBERED);
        known
    }
}

impl Known {
    fn forget_before(&mut self, limit: Timestamp) {
        while let Some((noted, user)) = self.order.pop_front_if(|(noted, _)| *noted < limit) {
            // Unless it was noted again since.
            if self.users.get(&user).is_some_and(|known| known.noted == noted) {
                self.users.remove(&user);
            }
        }
    }
}
