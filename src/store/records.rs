//! The interface for the users' records.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Damaged, Message, Part, Revision, ServerCounts, StoreError, Subscription};
use crate::presence::{Census, NodeId, Platform, Record, State, Timestamp, Transition, UserId};

/// Keeps the users' records, and tells the other nodes of each commit.
pub trait Records: Send + Sync + 'static {
    /// Loads a user's record. An unknown user has the default record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the record is not readable. [`StoreError::Unavailable`].
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>>;

    /// Replaces a record and adds its log entries, both or neither, and sends the commit's message to the
    /// other nodes. `base` is the record as it was loaded. To replace a damaged record it is
    /// [`Stored::damaged`]; the store then keeps a copy of the damaged row for operators.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the record's revision is not that of `base`: load the record and apply the
    /// event again. [`StoreError::Retired`]. [`StoreError::Unavailable`]: the commit may have been written or
    /// not.
    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Starts to receive the messages of the commits of other nodes.
    fn listen(&self, node: NodeId) -> Subscription;

    /// Returns up to `limit` users with a deadline that has passed, the most overdue first: on the own time
    /// of `node`, for its own terminals, or on the wall clock.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>>;

    /// Lists up to `limit` users of a part, after `after`, who have an `Online` terminal on a node, in the byte
    /// order of their ids. A user with a damaged record who was `Online` is listed for every node.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn held<'a>(
        &'a self,
        node: NodeId,
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;

    /// Lists up to `limit` users with their records, in the byte order of their ids. A user with a
    /// damaged record is listed by its last known state.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;

    /// Counts terminals and users.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>>;

    /// Checks that the store can read and commit. After a failed read or commit this fails until a sign of
    /// life has proved that it works again, and for good if the store has stopped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The parts that the store divides the users into.
    fn parts(&self) -> Vec<Part> {
        vec![Part::ALL]
    }

    /// Whether the store can lose commits that it has answered while the hub runs: a server that fails over to
    /// a replica does. The hub then remembers its commits for some seconds, to restore what was lost.
    fn may_lose_commits(&self) -> bool {
        false
    }

    /// What this node has done with the store's server; `None` if the store has none.
    fn server_counts(&self) -> Option<ServerCounts> {
        None
    }

    /// The number of damaged rows that were found in this run and not repaired.
    fn damaged(&self) -> u64;

    /// The latest time in the store. The clock of a new run does not begin before it, so that times and
    /// versions only grow (V2).
    fn latest(&self) -> Timestamp;
}

/// A user in a list, and the record if it is readable.
pub type Listed = (UserId, Result<Arc<Record>, Damaged>);

/// A committed record.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The record.
    pub record: Arc<Record>,
    /// Its earliest deadline on the wall clock, as it was committed.
    pub wall_deadline: Option<Timestamp>,
    /// The revision of the record.
    pub revision: Revision,
}

impl Stored {
    /// Stands for a damaged record at this revision.
    pub fn damaged(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Whether this stands for a damaged record. An empty record is never stored.
    pub(super) fn is_damaged(&self) -> bool {
        self.revision != Revision::default() && self.record.is_empty()
    }
}

/// One commit of a record.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The node that commits.
    pub node: NodeId,
    /// The new record. An empty record is deleted.
    pub record: Arc<Record>,
    /// Its earliest deadline on the wall clock. Other deadlines are in the record.
    pub wall_deadline: Option<Timestamp>,
    /// The new log entries.
    pub transitions: Vec<Transition>,
    /// Whether the commit must be on disk, safe from a power cut, and on a replica, if there is one, before it
    /// returns (L9, P2, P3).
    pub sync: bool,
    /// What the other nodes are told, if anything.
    pub message: Option<Message>,
}

/// A filter for [`Records::users`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Among {
    /// Only users after this one.
    pub after: Option<UserId>,
    /// Only users whose id has this prefix.
    pub prefix: String,
    /// Only users in one of these states.
    pub states: Vec<State>,
}

/// The numbers of terminals and users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// `Online` terminals, by platform.
    pub online: [u64; Platform::ALL.len()],
    /// `PushOnline` terminals, by platform.
    pub push_online: [u64; Platform::ALL.len()],
    /// Users by state: `Offline`, `PushOnline`, `Online`.
    pub users: [u64; 3],
    /// Users who are away (A1); they are `Online` users, too.
    #[serde(default)]
    pub away: u64,
}

impl Totals {
    /// Replaces the counts of an old record with those of its new version.
    pub fn replace(&mut self, old: &Census, new: &Census) {
        for platform in 0..Platform::ALL.len() {
            swap(&mut self.online[platform], old.online[platform], new.online[platform]);
            let push = &mut self.push_online[platform];
            swap(push, old.push_online[platform], new.push_online[platform]);
        }
        for state in [State::Offline, State::PushOnline, State::Online] {
            let counts = |census: &Census| u32::from(census.state == Some(state));
            swap(&mut self.users[state as usize], counts(old), counts(new));
        }
        swap(&mut self.away, u32::from(old.away), u32::from(new.away));
    }
}

fn swap(total: &mut u64, old: u32, new: u32) {
    *total = (*total + u64::from(new)).saturating_sub(u64::from(old));
}
