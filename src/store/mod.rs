//! Where user records and the transition log live: the port, and its adapters.

mod memory;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::memory::{LOG_ENTRIES_MAX, MemoryStore};
use crate::presence::{Census, Due, Platform, Record, State, Timestamp, Transition, UserId};

/// Keeps each user's record, and the one log of all transitions.
///
/// An adapter holds no rules: it loads a value, and swaps it for another if nobody was faster. What
/// it has committed, it shows from then on to everybody. Every adapter passes the contract in
/// `tests/it/store_contract.rs`.
pub trait Store: Send + Sync + 'static {
    /// Loads one user's record; a user never seen has the default record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>>;

    /// Stores a record and what it adds to the log, both or neither.
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

    /// Counts terminals and users.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>>;

    /// Reads the log from a cursor on, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::CursorExpired`] when the log no longer reaches back that far.
    fn log(
        &self,
        after: Cursor,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Cursor, LogEntry)>, StoreError>>;
}

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

/// A place in the log; the log begins after the default one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// A transition with its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Whose.
    pub user: UserId,
    /// What happened.
    pub transition: Arc<Transition>,
}

/// How many terminals and users there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// The log no longer reaches back that far.
    #[error("the log no longer reaches back that far")]
    CursorExpired,
    /// It cannot be reached now.
    #[error("the store is unavailable: {cause}")]
    Unavailable {
        /// The store's own words, for the log.
        cause: String,
    },
}
