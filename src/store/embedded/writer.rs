use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::cache::Cache;
use super::checked::{bytes, read_note};
use super::disk::{Disk, Target};
use super::handoff::Taker;
use super::journal::Line;
use super::ledger::{Entry, Ledger, Tail};
use super::open::OpenFault;
use super::pen::Pen;
use super::reader::{self, ReadFault};
use super::schema::number;
use crate::presence::{Due, Timestamp, UserId};
use crate::store::{Cursor, Progress, Retention, Save, StoreError, Which};

/// How many jobs share a transaction at most.
const JOBS_MAX: usize = 512;
/// How many signs of life the database takes before it takes, with the next, what waits.
const SIGNS_ALONE: u32 = 9;

/// Something to write, and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: oneshot::Sender<Result<u64, StoreError>>,
}

/// What is to be written, after all commits that wait.
pub(super) enum Write {
    /// Nothing but those.
    Nothing,
    /// A sign of life: worth no sync of its own.
    Sign {
        node: String,
        sign: Arc<str>,
    },
    Retire {
        node: String,
    },
    Trim {
        now: Timestamp,
    },
    Progress(Save),
    NoProgress,
    PutBack(Which),
    DropDead(Which),
}

/// The one thread that writes to the database: it carries over what is committed, and does what is
/// asked for beside.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) jobs: Taker<Job>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) cache: Arc<Cache>,
    pub(super) disk: Arc<Disk>,
    pub(super) retention: Retention,
    /// Where the database is.
    pub(super) tail: Tail,
    pub(super) unread: Unread,
    /// What it says of itself.
    pub(super) saved: (Tail, Option<Cursor>),
    /// How many signs of life it took since it last took what waits.
    pub(super) signs: u32,
    /// Whether the write-ahead log has something of records.
    pub(super) is_wal_used: bool,
    /// Held for as long as this may write.
    pub(super) _lock: Arc<File>,
}

/// What the webhook has not dealt with.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread {
    pub(super) position: Option<Cursor>,
    pub(super) held: BTreeMap<UserId, Cursor>,
}

impl Tail {
    /// Reads where the database is.
    pub(super) fn read(connection: &Connection) -> Result<Self, ReadFault> {
        let sql = "SELECT revision, head, entries, bytes, log_before, totals FROM state";
        let (mut tail, is_counted) = connection.query_row(sql, (), |row| {
            let totals = read_note(bytes(row, 5)?);
            let tail = Self {
                revision: number(row.get(0)?),
                head: Cursor(number(row.get(1)?)),
                totals: totals.unwrap_or_default(),
                entries: number(row.get(2)?),
                bytes: number(row.get(3)?),
                log_before: Cursor(number(row.get(4)?)),
            };
            Ok((tail, totals.is_some()))
        })?;
        if !is_counted {
            tail.totals = reader::recount(connection)?;
        }
        Ok(tail)
    }
}

impl From<Progress> for Unread {
    fn from(Progress { position, held, .. }: Progress) -> Self {
        let held = held.into_iter().map(|held| (held.user, held.from)).collect();
        Self { position: Some(position), held }
    }
}

/// Carries over what an earlier run has left in its journal: what follows on what the database has, up
/// to where something is missing.
pub(super) fn replay(
    connection: &mut Connection,
    tail: &mut Tail,
    retention: &Retention,
    lines: Vec<Line>,
) -> Result<(), OpenFault> {
    let begin = connection.transaction()?;
    let mut pen = Pen { begin, tail, unread: &mut Unread::default(), retention };
    for line in lines {
        if line.revision == pen.tail.revision + 1 && line.log_before == pen.tail.head.0 {
            let entry = pen.read_again(line)?;
            pen.record(&[&entry])?;
            pen.log(&entry)?;
        }
    }
    let sql = "SELECT position FROM state";
    let position: Option<i64> = pen.begin.query_row(sql, (), |row| row.get(0))?;
    pen.save(position.map(|position| Cursor(number(position))))?;
    Ok(pen.begin.commit()?)
}

impl Writer {
    /// Writes until nobody can ask any more, and then what is left.
    pub(super) fn run(mut self) {
        while let Some(jobs) = self.jobs.take(JOBS_MAX) {
            self.write(jobs);
        }
        self.write(Vec::new());
    }

    /// Writes jobs in one transaction, and tells each what came of it.
    fn write(&mut self, jobs: Vec<Job>) {
        let tail = self.tail;
        let unread = jobs.iter().any(Job::is_progress).then(|| self.unread.clone());
        match self.try_to_write(&jobs) {
            Ok(results) => {
                self.disk.succeeded(Target::Database);
                for (job, result) in jobs.into_iter().zip(results) {
                    job.done.send(Ok(result)).ok();
                }
            }
            Err(error) => {
                self.tail = tail;
                if let Some(unread) = unread {
                    self.unread = unread;
                }
                // What is committed waits for nothing that is wrong with a job.
                if self.try_to_write(&[]).is_ok() {
                    self.disk.succeeded(Target::Database);
                } else {
                    self.tail = tail;
                    self.disk.failed(Target::Database, &error);
                }
                for job in jobs {
                    job.done.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn try_to_write(&mut self, jobs: &[Job]) -> Result<Vec<u64>, StoreError> {
        self.disk.check(&self.connection)?;
        let waiting = self.waiting(jobs);
        // Users who are neighbours share a page.
        let mut by_user: Vec<&Entry> = waiting.iter().map(AsRef::as_ref).collect();
        by_user.sort_by(|one, other| one.user.cmp(&other.user));
        let users: Vec<_> = by_user.chunk_by(|one, other| one.user == other.user).collect();
        let Some((results, due)) = self.commit(&waiting, &users, jobs)? else {
            return Err(self.disk.broke("somebody else has changed the database: start again"));
        };
        // Before they leave the ledger, which knew better.
        for last in users.iter().filter_map(|commits| commits.last()) {
            self.cache.keep(&last.user, last.stored.clone(), last.record_bytes);
        }
        self.ledger.lock().carried(waiting.len(), self.tail.log_before, due);
        self.disk.carried(self.tail.revision);
        self.is_wal_used |= !waiting.is_empty();
        if self.is_wal_used && jobs.iter().any(Job::is_sign) {
            self.is_wal_used = false;
            self.disk.checkpoint_soon();
        }
        if !waiting.is_empty() || jobs.iter().any(Job::should_sync) {
            self.disk.sync_soon();
        }
        Ok(results)
    }

    /// What is to be carried over before jobs are done: nothing for what comes each second alone, but
    /// each tenth time, for many commits at once touch fewer pages.
    fn waiting(&mut self, jobs: &[Job]) -> Vec<Arc<Entry>> {
        let ledger = self.ledger.lock();
        let aged = |now| ledger.oldest().is_some_and(|at| at < now - self.retention.log_ttl);
        let needs = |job: &Job| match job.write {
            Write::Sign { .. } => self.signs >= SIGNS_ALONE,
            Write::Trim { now } => aged(now),
            Write::Nothing
            | Write::Retire { .. }
            | Write::Progress(_)
            | Write::NoProgress
            | Write::PutBack(_)
            | Write::DropDead(_) => true,
        };
        // Where it cannot be taken, a sign that can must not pass for all being well.
        if self.disk.condition().is_ok() && !jobs.is_empty() && !jobs.iter().any(needs) {
            self.signs += u32::from(jobs.iter().any(Job::is_sign));
            return Vec::new();
        }
        self.signs = 0;
        ledger.waiting()
    }

    /// Writes what waits, in the order of the commits and by user, and then jobs. Returns what the jobs
    /// came to, and when the first record is due; `None` where a record is not what it was when its
    /// successor was committed.
    fn commit(
        &mut self,
        waiting: &[Arc<Entry>],
        users: &[&[&Entry]],
        jobs: &[Job],
    ) -> rusqlite::Result<Option<(Vec<u64>, Due)>> {
        let Self { connection, tail, unread, retention, saved, .. } = self;
        let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut pen = Pen { begin, tail, unread, retention };
        for commits in users {
            if !pen.record(commits)? {
                return Ok(None);
            }
        }
        for entry in waiting {
            pen.log(entry)?;
        }
        let results = jobs.iter().map(|job| pen.write(&job.write));
        let results = results.collect::<rusqlite::Result<Vec<_>>>()?;
        let due = reader::first_due(&pen.begin)?;
        let state = (*pen.tail, pen.unread.position);
        if state != *saved {
            pen.save(state.1)?;
        }
        pen.begin.commit()?;
        *saved = state;
        Ok(Some((results, due)))
    }
}

impl Job {
    /// Whether it is worth a sync: what can be written again is not.
    const fn should_sync(&self) -> bool {
        !matches!(self.write, Write::Nothing | Write::Sign { .. } | Write::Trim { .. })
    }

    /// Comes each second.
    const fn is_sign(&self) -> bool {
        matches!(self.write, Write::Sign { .. })
    }

    const fn is_progress(&self) -> bool {
        matches!(self.write, Write::Progress(_) | Write::NoProgress)
    }
}
