//! Reads the log into batches, and turns damaged entries into dead letters.

use std::sync::Arc;

use super::batch::Batch;
use super::worker::{STORE_PAUSE, Worker};
use crate::store::{Cursor, Dead, HistoryPart, LogEntry, StoreError};

impl Worker<'_> {
    pub(super) async fn next_batch(&mut self) -> Option<Batch> {
        let is_new_first = self.health.is_down() && self.is_probe_new;
        self.is_probe_new = !self.is_probe_new;
        let now = self.now();
        if !is_new_first && let Some(batch) = self.queue.due(now) {
            return Some(batch);
        }
        if self.queue.has_room()
            && self.reads_again_at.is_none_or(|at| at <= now)
            && let Some(batch) = self.new_batch().await
        {
            return Some(batch);
        }
        self.queue.due(now)
    }

    /// Makes a batch of the events of lagging users and of new log entries.
    async fn new_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let read = async {
            if self.read_lagging(&mut batch).await? {
                self.scan(&mut batch).await?;
            }
            Ok::<_, StoreError>(())
        };
        let read = read.await;
        self.reads_again_at = read.is_err().then(|| self.now() + STORE_PAUSE);
        if let Err(error) = read {
            self.store_failed("read the log", &error);
        }
        (!batch.entries.is_empty()).then_some(batch)
    }

    /// Reads events of lagging users into the batch; returns whether it has room for more.
    async fn read_lagging(&mut self, batch: &mut Batch) -> Result<bool, StoreError> {
        let (events_max, bytes_max) = self.settings.format.limits();
        while batch.entries.len() < events_max && batch.bytes() < bytes_max {
            let Some((user, from, is_alone)) = self.queue.next_ready() else { return Ok(true) };
            if is_alone && !batch.entries.is_empty() {
                self.queue.not_yet(user);
                return Ok(false);
            }
            let room = events_max - batch.entries.len();
            let part = HistoryPart::After(Cursor(from.0.saturating_sub(1)));
            let read = match self.webhook.log.history(&user, part, room).await {
                Ok(read) => read,
                Err(error) => {
                    self.queue.not_yet(user);
                    return Err(error);
                }
            };
            let is_all = read.len() < room;
            let damaged = self.queue.take_up(batch, &user, read, is_all);
            self.record_damaged(damaged);
            if is_alone && !batch.entries.is_empty() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    async fn scan(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let (events_max, bytes_max) = self.settings.format.limits();
        while batch.entries.len() < events_max && batch.bytes() < bytes_max {
            let room = events_max - batch.entries.len();
            let read = self.webhook.log.entries(Some(self.queue.scanned()), room).await;
            let entries = match read {
                Err(StoreError::CursorExpired) => self.read_left(room).await?,
                read => read?,
            };
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                let damaged = self.queue.scan(batch, entry);
                self.record_damaged(damaged);
            }
            self.save_soon();
        }
        Ok(())
    }

    /// Reads what the log still has after the position. It lacks entries, because the backlog grew past
    /// `max_backlog` and older entries were dropped, or because no run of this log gave out the position, as
    /// after a restore.
    ///
    /// While a log in Redis begins anew after a FLUSHALL, its first entries have cursors before the begin of some
    /// partitions. Each of them counts as expired, so the entries must be taken from this one read.
    async fn read_left(&mut self, room: usize) -> Result<Vec<LogEntry>, StoreError> {
        let from = self.queue.scanned();
        // First: an entry that comes after the read is after this head.
        let head = *self.webhook.log.head().borrow();
        let entries = self.webhook.log.left(from, room).await?;
        let next = entries.first().map_or(head, |first| Cursor(first.cursor.0 - 1));
        if next > from {
            tracing::error!(
                %from, to = %next,
                "webhook misses events: the log no longer has them, because of a restore or because the \
                 backlog was over webhook.max_backlog"
            );
            self.queue.skip_to(next);
        } else if entries.is_empty() {
            // The store was emptied a moment ago, and its log has not begun again.
            return Err(StoreError::CursorExpired);
        }
        Ok(entries)
    }

    /// Makes dead letters of entries that are damaged on disk and can never be posted. They are saved
    /// together with the position that skips them, so that none is lost in a crash.
    pub(super) fn record_damaged(&mut self, damaged: impl IntoIterator<Item = LogEntry>) {
        let at = self.webhook.clock.wall();
        for entry in damaged {
            let LogEntry { cursor, user, event } = &entry;
            let Err(damage) = event else { continue };
            tracing::error!(
                user = user.as_str(), %cursor, error = %damage,
                "webhook skipped a damaged log entry and moved it to the dead letters"
            );
            self.webhook.metrics.dead.inc();
            let last_error =
                Arc::from("the log entry is damaged on disk and cannot be posted; drop it");
            self.damaged.push(Dead { entry, at, attempts: 0, last_error });
            self.save_soon();
        }
    }
}
