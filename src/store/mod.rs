//! Stores user records and the transition log: the interfaces and their adapters.
//!
//! [`Store`] keeps the records and the log. [`Outbox`] keeps the webhook's progress in the log. An
//! adapter contains no rules: it loads a record, and replaces it if its revision has not changed. A
//! commit is visible to all readers at once. Every adapter passes the contract in
//! `tests/it/store_contract.rs`.

mod embedded;
mod log;
mod memory;
mod outbox;
mod rules;
mod saved_time;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::embedded::{EmbeddedStore, OpenFault};
pub use self::log::{Backlog, Cursor, Damaged, DamagedEvent, Event, LogEntry};
pub use self::memory::{LOG_ENTRIES_MAX, MemoryStore};
pub use self::outbox::{Dead, DeadSelection, HeldUser, Outbox, Progress, Save};
use crate::presence::{
    Census, Due, NodeId, Platform, Record, Revocation, SignOfLife, State, Timestamp, Transition,
    UserId,
};

/// Keeps the users' records, the transition log, and the nodes' signs of life.
pub trait Store: Send + Sync + 'static {
    /// Loads a user's record. An unknown user has the default record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the record is not readable. [`StoreError::Unavailable`].
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>>;

    /// Stores a record and its log entries, both or neither. A commit may replace a damaged record; the
    /// store then keeps a copy of the damaged row for operators.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the record's revision is not `expected`: load the record and apply
    /// the event again. [`StoreError::Unavailable`]: the commit may have been written or not.
    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        expected: Revision,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Returns up to `limit` users with a deadline that has passed, on the hub's clock or on the wall
    /// clock, the most overdue first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>>;

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

    /// The number of damaged rows that were found in this run and not repaired.
    fn damaged(&self) -> u64;

    /// The latest time in the store. The clock of a new run does not begin before it, so that times and
    /// versions only grow (V2).
    fn latest(&self) -> Timestamp;

    // The log.

    /// The cursor of the last entry, or the one before the first entry; receivers are notified of new
    /// entries.
    fn head(&self) -> watch::Receiver<Cursor>;

    /// Reads up to `limit` entries after a cursor, oldest first; without a cursor, from the oldest entry.
    /// A damaged entry is returned as such, so that readers can continue.
    ///
    /// # Errors
    ///
    /// [`StoreError::CursorExpired`] if entries after the cursor were trimmed, or if this log never
    /// issued the cursor: it is from another log, or was lost to a power cut or a restored backup.
    /// [`StoreError::Unavailable`].
    fn log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>>;

    /// Reads up to `limit` entries of one user: those after a cursor, oldest first, or those before one,
    /// newest first. A damaged entry is returned as such.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>>;

    /// Measures the log after a cursor.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>>;

    /// Deletes some of the expired log entries; called every second. Returns how many of them the
    /// webhook had not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    // The nodes.

    /// Writes a node's sign of life; called every second.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The dead nodes whose sessions are not taken over yet, with their last signs of life.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn lost(&self) -> BoxFuture<'_, Result<Vec<(NodeId, SignOfLife)>, StoreError>>;

    /// Removes a dead node after its sessions were taken over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A user in a list, and the record if it is readable.
pub type Listed = (UserId, Result<Arc<Record>, Damaged>);

/// A committed record.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The record.
    pub record: Arc<Record>,
    /// The deadlines that were committed with it.
    pub due: Due,
    /// The revision of the record.
    pub revision: Revision,
}

/// The revision of a record; changed by each commit. Optimistic lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// One commit of a record.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The new record. An empty record is deleted.
    pub record: Arc<Record>,
    /// The next deadlines of the record.
    pub due: Due,
    /// The new log entries.
    pub transitions: Vec<Transition>,
    /// Whether the commit must be on disk, safe from a power cut, before it returns (L9).
    pub sync: bool,
}

/// A filter for [`Store::users`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Among {
    /// Only users after this one.
    pub after: Option<UserId>,
    /// Only users whose id has this prefix.
    pub prefix: String,
    /// Only users in one of these states.
    pub states: Vec<State>,
}

/// The part of a user's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryPart {
    /// Entries after a cursor, oldest first.
    After(Cursor),
    /// Entries before a cursor, newest first; without a cursor, from the newest.
    Before(Option<Cursor>),
}

/// How long the log keeps entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The minimum age of deleted entries. Entries that the webhook has not read are kept longer.
    pub log_ttl: Duration,
    /// The maximum size of entries that are kept only for the webhook.
    pub backlog_bytes_max: u64,
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
    }
}

fn swap(total: &mut u64, old: u32, new: u32) {
    *total = (*total + u64::from(new)).saturating_sub(u64::from(old));
}

/// An error of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another commit came first; nothing was written.
    #[error("revision conflict: another commit changed the record")]
    Conflict,
    /// The entries after the cursor were trimmed, or this log never issued the cursor.
    #[error("the cursor has expired, or this log never issued it")]
    CursorExpired,
    /// The record is not readable. Other users are not affected.
    #[error("the user's record is damaged")]
    Damaged {
        /// The revision that a replacing commit must expect.
        revision: Revision,
        /// The revocation of tokens, if it is still readable (L9).
        revoked: Option<Revocation>,
    },
    /// The store failed.
    #[error("the store is unavailable: {cause}")]
    Unavailable {
        /// The cause, for the log.
        cause: String,
    },
}

impl StoreError {
    /// Makes [`Unavailable`](Self::Unavailable) from its cause.
    pub fn unavailable(cause: &impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string() }
    }
}
