//! The one thread that writes: each transaction has everything that was asked for meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, Result, TransactionBehavior};

use super::columns::Due;
use super::disk::{Access, StoreDisk};
use super::error::{is_damage, is_failed_sync};
use super::job::Queued;
use super::notes::HeldFrom;
use super::queries;
use super::queue::Taker;
use super::tail::Tail;
use super::transaction::Transaction;
use super::view::View;
use crate::clock::monotonic;
use crate::store::{Cursor, Retention, StoreError, WebhookName};

/// How many jobs share a transaction at most.
const JOBS_MAX: usize = 512;
/// The shortest time between two transactions. A transaction has a fixed cost, which the jobs that come
/// meanwhile share; a job that comes after a quiet time is written at once.
const PAUSE: Duration = Duration::from_micros(2500);

/// The thread that writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) jobs: Taker<Box<dyn Queued>>,
    pub(super) view: Arc<View>,
    pub(super) disk: Arc<StoreDisk>,
    pub(super) retention: Retention,
    /// What the database has.
    pub(super) tail: Tail,
    /// The positions of the webhooks with a name.
    pub(super) positions: Arc<BTreeMap<WebhookName, Cursor>>,
    pub(super) held: Arc<HeldFrom>,
    /// When the first record is due.
    pub(super) due: Due,
    /// Held for as long as this may write.
    pub(super) _lock: Arc<File>,
}

impl Writer {
    /// Writes until every caller is gone.
    pub(super) fn run(mut self) {
        let mut next = monotonic();
        while self.jobs.wait() {
            thread::sleep(next.saturating_duration_since(monotonic()));
            let jobs = self.jobs.take(JOBS_MAX);
            self.write(jobs);
            next = monotonic() + PAUSE;
        }
    }

    /// Writes jobs in one transaction, and answers each.
    fn write(&mut self, mut jobs: Vec<Box<dyn Queued>>) {
        let checked = self.disk.check(&self.connection);
        let written = checked.and_then(|()| {
            self.try_to_write(&mut jobs).map_err(|error| {
                if is_failed_sync(&error) {
                    return self.disk.failed_sync(&error);
                }
                let unavailable = StoreError::unavailable(&error);
                // Of several jobs, one with a damaged page may have failed all: each is tried alone first.
                if jobs.len() == 1 && !is_damage(&error) {
                    self.disk.failed(Access::Writes, &unavailable);
                }
                unavailable
            })
        });
        if written.is_err() && jobs.len() > 1 {
            for job in jobs {
                self.write(vec![job]);
            }
            return;
        }
        for job in jobs {
            job.answer(written.clone());
        }
    }

    fn try_to_write(&mut self, jobs: &mut [Box<dyn Queued>]) -> Result<()> {
        let Self { connection, view, disk, retention, .. } = self;
        let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut transaction = Transaction {
            sql,
            tail: self.tail,
            positions: Arc::clone(&self.positions),
            held: Arc::clone(&self.held),
            is_due_anew: false,
            retention,
        };
        for job in &mut *jobs {
            job.run(&mut transaction)?;
        }
        let Transaction { sql, mut tail, positions, held, is_due_anew, .. } = transaction;
        if tail.revision == self.tail.revision {
            tail.revision += 1;
        }
        tail.write(&sql)?;
        let due = if is_due_anew { queries::first_due(&sql)? } else { self.due };
        sql.commit()?;
        (self.tail, self.due) = (tail, due);
        (self.positions, self.held) = (positions, held);
        disk.written(tail.revision, jobs.iter().any(|job| !job.may_be_undone()));
        // Before anybody is answered, or hears that the log has moved.
        for job in &*jobs {
            job.show(view);
        }
        view.show(tail, due);
        Ok(())
    }
}
