//! The interface for the webhook's progress and its dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Cursor, LogEntry, StoreError};
use crate::presence::{Timestamp, UserId};

/// Keeps the webhook's progress in the log, and its dead letters.
///
/// An adapter keeps log entries that the webhook has not delivered or given up, up to
/// [`Retention::backlog_bytes_max`](super::Retention::backlog_bytes_max).
pub trait Outbox: Send + Sync + 'static {
    /// The saved progress; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>>;

    /// Whether it is this node that posts: of several nodes, one at a time. Receivers are notified of
    /// changes.
    fn turn(&self) -> watch::Receiver<bool>;

    /// Gives up this node's turn for good, because it stops: another node posts after its next sign of life.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the turn moves once this node is dead.
    fn give_up_turn(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    /// Saves progress atomically.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if it is another node's turn; nothing was written.
    /// [`StoreError::Unavailable`].
    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Deletes the progress when there is no webhook any more, so that the log is not kept for it. Dead
    /// letters stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads up to `limit` dead letters after a cursor, oldest first: either those that were put back
    /// for a retry, or the others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn dead(
        &self,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Dead>, StoreError>>;

    /// Counts the dead letters that were not put back. Cheap enough for a call every few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn dead_waiting(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Puts dead letters back for a retry; returns how many. A dead letter with a damaged event cannot
    /// be delivered, so it stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn put_back(&self, which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Deletes dead letters that were not put back; returns how many.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn drop_dead(&self, which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// The webhook's progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All entries up to here are delivered or given up, except those of held users.
    pub position: Cursor,
    /// The users whose events are pending because one failed.
    pub held: Vec<HeldUser>,
    /// For each held user: the number of log entries from the first pending one up to `position`.
    pub behind: BTreeMap<UserId, usize>,
}

impl Progress {
    /// The webhook needs no entry up to this cursor.
    pub fn kept_after(&self) -> Cursor {
        let held = self.held.iter().map(|held| Cursor(held.from.0.saturating_sub(1)));
        held.chain([self.position]).min().unwrap_or_default()
    }
}

/// A user whose events are pending because one failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUser {
    /// The user.
    pub user: UserId,
    /// The first pending event.
    pub from: Cursor,
    /// The time of its first failure.
    pub refused: Timestamp,
    /// How long the receiver has worked since then, in milliseconds.
    #[serde(default)]
    pub worked_ms: u64,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: String,
}

/// The changes since the last save.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Save {
    /// All entries up to here are delivered or given up, except those of held users.
    pub position: Cursor,
    /// New or changed held users, each once.
    pub held: Vec<HeldUser>,
    /// Users who are no longer held.
    pub freed: Vec<UserId>,
    /// Events that are given up. A dead letter that failed again replaces itself.
    pub dead: Vec<Dead>,
    /// Dead letters that were put back and then delivered.
    pub revived: Vec<Cursor>,
}

/// A dead letter: an event whose delivery was given up. Its id is the entry's cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The log entry.
    pub entry: LogEntry,
    /// The time when it was given up.
    pub at: Timestamp,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: Arc<str>,
}

/// A selection of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadSelection {
    /// The dead letters of these entries.
    These(Vec<Cursor>),
    /// All dead letters.
    All,
}
