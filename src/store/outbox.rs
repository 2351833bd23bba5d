use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Cursor, LogEntry, StoreError};
use crate::presence::{Timestamp, UserId};

/// What the webhook, a reader of the log, notes of its work for its next run.
///
/// An adapter keeps the log back to the oldest entry that is not dealt with, up to
/// [`Retention::backlog_bytes_max`](super::Retention::backlog_bytes_max).
pub trait Outbox: Send + Sync + 'static {
    /// What was noted last; `None` where there is no webhook yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>>;

    /// Notes progress, all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets all progress, where there is no webhook any more, so that the log is kept for nobody;
    /// dead letters stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads up to `limit` dead letters after a cursor, oldest first: those that were put back, or
    /// those that were not.
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

    /// Counts the dead letters that were not put back; cheap enough to be asked every few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn dead_waiting(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Puts dead letters back, to be delivered after all; returns how many. One whose event is
    /// damaged stays: there is nothing to deliver.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn put_back(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Lets dead letters go that were not put back; returns how many.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn drop_dead(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// How far the webhook is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is dealt with, but for what is held.
    pub position: Cursor,
    /// The users whose events wait, because one was refused.
    pub held: Vec<Held>,
    /// How many events of each of them the log has up to the position, from the first on that is not
    /// delivered.
    pub behind: BTreeMap<UserId, usize>,
}

impl Progress {
    /// Everything up to here is dealt with, and need not be kept.
    pub fn kept_after(&self) -> Cursor {
        let held = self.held.iter().map(|held| Cursor(held.from.0.saturating_sub(1)));
        held.chain([self.position]).min().unwrap_or_default()
    }
}

/// A user whose events wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who.
    pub user: UserId,
    /// The first event that is not delivered.
    pub from: Cursor,
    /// When it was first refused.
    pub refused: Timestamp,
    /// For how long the receiver has worked since, in milliseconds.
    #[serde(default)]
    pub worked_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub last_error: String,
}

/// What changed since progress was last saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Save {
    /// Everything up to here is dealt with, but for what is held.
    pub position: Cursor,
    /// Users who are held now, each once.
    pub held: Vec<Held>,
    /// Users who are held no longer.
    pub freed: Vec<UserId>,
    /// Events that are given up; one that was dead already takes its own place.
    pub dead: Vec<Dead>,
    /// Dead letters that were put back and are delivered.
    pub revived: Vec<Cursor>,
}

/// A delivery that was given up; its id is its entry's cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The entry of the log.
    pub entry: LogEntry,
    /// When it was given up.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub last_error: Arc<str>,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of these entries.
    These(Vec<Cursor>),
    /// All.
    All,
}
