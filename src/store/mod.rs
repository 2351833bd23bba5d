//! Where user records and the transition log live: the ports, and their adapters.
//!
//! [`Store`] keeps the records and the log; [`Outbox`] is what the webhook notes of the log. An
//! adapter holds no rules: it loads a value, and swaps it for another if nobody was faster. What it
//! has committed, it shows from then on to everybody. Every adapter passes the contract in
//! `tests/it/store_contract.rs`.

mod embedded;
mod floor;
mod log;
mod memory;
mod outbox;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::embedded::{EmbeddedStore, OpenFault};
pub use self::log::{Backlog, Cursor, Damaged, LogEntry};
pub use self::memory::{LOG_ENTRIES_MAX, MemoryStore};
pub use self::outbox::{Dead, Held, Outbox, Progress, Save, Which};
use crate::presence::{
    Census, Due, NodeId, Platform, Record, Revocation, Sign, State, Timestamp, Transition, UserId,
};

/// Keeps each user's record, the one log of all transitions, and the hubs' signs of life.
pub trait Store: Send + Sync + 'static {
    /// Loads one user's record; a user never seen has the default record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where it can no longer be read. [`StoreError::Unavailable`].
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>>;

    /// Stores a record and what it adds to the log, both or neither. A record that takes the place
    /// of a damaged one begins the user anew; what is left of the damaged one is kept aside.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the record is no longer at `expected`: load again and decide
    /// again. [`StoreError::Unavailable`], when it may or may not have been written.
    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        expected: Revision,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Names up to `limit` users whose record is due on the process's own time or on the wall
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

    /// Lists up to `limit` users with their records, in the order of their ids' bytes. A damaged
    /// record keeps its place among them, by the state that it was last known to be in.
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

    /// Says whether it can take a commit: after one that failed, not before writes were proved to
    /// work again. A sign of life proves them, or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many damaged rows were found, in this run, and are still there.
    fn damaged(&self) -> u64;

    /// The latest time that anything in it bears: a new run's own time begins no earlier, so that
    /// times and versions only grow (V2).
    fn latest(&self) -> Timestamp;

    // The log.

    /// The cursor of the last entry, or of the place before the first, as it moves.
    fn head(&self) -> watch::Receiver<Cursor>;

    /// Reads up to `limit` entries after a cursor, oldest first; without one, from the oldest that
    /// is kept. A damaged entry keeps its place among them, and stops nobody.
    ///
    /// # Errors
    ///
    /// [`StoreError::CursorExpired`] when entries after it are no longer kept, or this log never gave
    /// it out: one of another log, or of a time that a power cut or an older copy undid.
    fn log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>>;

    /// Reads up to `limit` of one user's entries that are kept: those after a cursor, oldest first,
    /// or those before one, newest first. A damaged entry keeps its place among them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: Part,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>>;

    /// Measures what comes after a cursor.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>>;

    /// Lets go of some of what the log need not keep any longer; to be called each second. Returns
    /// how many entries went that the webhook had not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    // The hubs.

    /// Notes that a hub lives; to be called each second.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn sign(&self, node: NodeId, sign: Sign) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The hubs that live no longer, with their last signs of life, and whose sessions nobody has
    /// taken over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn lost(&self) -> BoxFuture<'_, Result<Vec<(NodeId, Sign)>, StoreError>>;

    /// Forgets a hub whose sessions another has taken over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A user in a list, and the record where it can be read.
pub type Listed = (UserId, Result<Arc<Record>, Damaged>);

/// A record, as it was committed.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The record.
    pub record: Arc<Record>,
    /// When it is due, as it was committed.
    pub due: Due,
    /// Its revision.
    pub revision: Revision,
}

/// Counts a record's commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// What one step writes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The new record; an empty one need not be kept.
    pub record: Arc<Record>,
    /// When it is due next.
    pub due: Due,
    /// What goes into the log.
    pub transitions: Vec<Transition>,
    /// Whether it must outlive a power cut before it counts as committed (L9).
    pub sync: bool,
}

/// Which users to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Among {
    /// Those after this one.
    pub after: Option<UserId>,
    /// Those whose id begins so.
    pub prefix: String,
    /// Those in one of these states.
    pub states: Vec<State>,
}

/// Which part of a user's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What comes after a cursor, oldest first.
    After(Cursor),
    /// What comes before a cursor, newest first; without one, from the newest on.
    Before(Option<Cursor>),
}

/// How long the log keeps what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// An entry is kept that long, and longer where the webhook has not read it.
    pub log_ttl: Duration,
    /// The most bytes of entries that are kept for the webhook alone.
    pub backlog_bytes_max: u64,
}

/// How many terminals and users there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// `Online` terminals, by platform.
    pub online: [u64; Platform::ALL.len()],
    /// `PushOnline` terminals, by platform.
    pub push_online: [u64; Platform::ALL.len()],
    /// Users remembered, by state: `Offline`, `PushOnline`, `Online`.
    pub users: [u64; 3],
}

impl Totals {
    /// Replaces what one record adds by what its successor adds.
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

/// Why a store refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else committed first; nothing was written.
    #[error("the record was changed by somebody else")]
    Conflict,
    /// The log no longer reaches back that far, or never gave that cursor out.
    #[error("the log does not reach back that far, or never gave this cursor out")]
    CursorExpired,
    /// The record can no longer be read. Nothing else is affected.
    #[error("the user's record is damaged")]
    Damaged {
        /// The revision to expect of a commit that begins the user anew.
        revision: Revision,
        /// The tokens that were refused, as far as that could still be read (L9).
        revoked: Option<Revocation>,
    },
    /// It cannot be reached now.
    #[error("the store is unavailable: {cause}")]
    Unavailable {
        /// The store's own words, for the log.
        cause: String,
    },
}

impl StoreError {
    /// A store that cannot be reached now.
    pub fn unavailable(cause: &impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string() }
    }
}
