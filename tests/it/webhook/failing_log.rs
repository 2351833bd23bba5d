//! A log whose reads fail on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, FutureExt};
use presence_hub::presence::{Timestamp, UserId};
use presence_hub::store::{Backlog, Cursor, HistoryPart, Log, LogEntry, MemoryStore, StoreError};
use tokio::sync::watch;

pub(super) struct FailingLog {
    store: Arc<MemoryStore>,
    failures: AtomicUsize,
}

impl FailingLog {
    pub(super) fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store, failures: AtomicUsize::new(0) })
    }

    /// Lets the next reads fail.
    pub(super) fn fail(&self, reads: usize) {
        self.failures.store(reads, Ordering::Relaxed);
    }

    /// How many of the reads that are to fail have not been tried yet.
    pub(super) fn failures_left(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), StoreError> {
        let one_less = |left: usize| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Err(StoreError::Unavailable { cause: "a test wants it so".into() }),
            Err(_) => Ok(()),
        }
    }
}

impl Log for FailingLog {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.store.head()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        async move {
            self.check()?;
            self.store.entries(after, limit).await
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        async move {
            self.check()?;
            self.store.history(user, part, limit).await
        }
        .boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        self.store.backlog(after)
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.trim(now)
    }
}
