use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Error::FromSqlConversionFailure;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::{oneshot, watch};

use super::Cache;
use super::disk::Disk;
use super::handoff::Taker;
use super::mark::{Mark, Marker};
use super::schema::{int, number};
use crate::presence::{Census, Timestamp, UserId};
use crate::store::log::json;
use crate::store::{
    Cursor, Held, LogEntry, Progress, Retention, Revision, Save, StoreError, Stored, Totals, Which,
};

/// How many jobs share a commit at most.
const JOBS_MAX: usize = 512;
/// How many entries of the log are let go in one job, that others need not wait long: each is on a
/// page of its own in the index by user.
pub(super) const TRIMMED_MAX: usize = 100;

/// Something to write, and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: oneshot::Sender<Result<u64, StoreError>>,
}

/// What is to be written.
pub(super) enum Write {
    /// A record with its part of the log.
    Record(Box<RecordWrite>),
    /// A sign of life: worth no sync of its own.
    Sign {
        node: String,
        sign: String,
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

/// A commit, encoded by whoever asks for it.
pub(super) struct RecordWrite {
    pub(super) user: UserId,
    pub(super) expected: Revision,
    pub(super) before: Census,
    pub(super) after: Census,
    pub(super) stored: Stored,
    /// Whether it is due at another time than before.
    pub(super) is_due_anew: bool,
    pub(super) json: String,
    pub(super) events: Vec<(Timestamp, Arc<str>)>,
    pub(super) sync: bool,
}

/// The one thread that writes: it commits whatever is queued as soon as it is free.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) jobs: Taker<Job>,
    pub(super) cache: Arc<Cache>,
    pub(super) head: watch::Sender<Cursor>,
    pub(super) shown: Arc<Mutex<Shown>>,
    pub(super) disk: Arc<Disk>,
    /// Says how much was committed during this boot of the machine.
    pub(super) marker: Marker,
    pub(super) boot: Box<str>,
    pub(super) retention: Retention,
    pub(super) tail: Tail,
    pub(super) unread: Unread,
}

/// What readers see of the writer's state, as of the last commit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    pub(super) totals: Totals,
    pub(super) log_before: Cursor,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Where the log ends, and the counts, as of what is written so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    pub(super) revision: u64,
    pub(super) head: Cursor,
    pub(super) shown: Shown,
}

/// What the webhook has not dealt with.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread {
    pub(super) position: Option<Cursor>,
    pub(super) held: BTreeMap<UserId, Cursor>,
}

impl Tail {
    /// Goes on where the last run ended.
    pub(super) fn begin(connection: &Connection, wall: Timestamp) -> rusqlite::Result<Self> {
        let sql = "SELECT revision, head, entries, bytes, log_before, totals FROM state";
        let mut tail = connection.query_row(sql, (), |row| {
            let totals: String = row.get(5)?;
            let totals = serde_json::from_str(&totals)
                .map_err(|error| FromSqlConversionFailure(5, Type::Text, error.into()))?;
            let shown = Shown {
                totals,
                log_before: Cursor(number(row.get(4)?)),
                entries: number(row.get(2)?),
                bytes: number(row.get(3)?),
            };
            Ok(Self { revision: number(row.get(0)?), head: Cursor(number(row.get(1)?)), shown })
        })?;
        let is_new = tail.head == Cursor::default();
        tail.head = Cursor::of_new_run(tail.head, wall);
        if is_new {
            tail.shown.log_before = tail.head;
        }
        let (head, log_before) = (int(tail.head.0), int(tail.shown.log_before.0));
        connection.execute("UPDATE state SET head = ?1, log_before = ?2", (head, log_before))?;
        Ok(tail)
    }
}

impl From<Progress> for Unread {
    fn from(Progress { position, held }: Progress) -> Self {
        let held = held.into_iter().map(|held| (held.user, held.from)).collect();
        Self { position: Some(position), held }
    }
}

impl Writer {
    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self) {
        while let Some(jobs) = self.jobs.take(JOBS_MAX) {
            self.write(jobs);
        }
    }

    /// Writes jobs in one commit, and tells each what came of it.
    fn write(&mut self, jobs: Vec<Job>) {
        let tail = self.tail;
        let unread = jobs.iter().any(Job::is_progress).then(|| self.unread.clone());
        match self.try_to_write(&jobs) {
            Ok(results) => self.tell(jobs, results),
            Err(error) => {
                self.tail = tail;
                if let Some(unread) = unread {
                    self.unread = unread;
                }
                self.disk.failed(&error);
                for job in jobs {
                    job.done.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn try_to_write(&mut self, jobs: &[Job]) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.disk.check(&self.connection)?;
        let before = self.tail.revision;
        let results = self.commit(jobs)?;
        if self.tail.revision > before {
            let (boot, commits) = (self.boot.clone(), self.tail.revision);
            self.marker.write(&Mark { boot, commits });
        }
        if jobs.iter().any(Job::must_sync) {
            self.disk.sync()?;
        } else if jobs.iter().any(Job::should_sync) {
            self.disk.sync_soon();
        }
        Ok(results)
    }

    fn commit(&mut self, jobs: &[Job]) -> rusqlite::Result<Vec<Result<u64, StoreError>>> {
        let Self { connection, tail, unread, retention, .. } = self;
        let begin = connection.transaction()?;
        let mut pen = Pen { begin, tail, unread, retention };
        let results = jobs.iter().map(|job| pen.write(&job.write));
        let results = results.collect::<rusqlite::Result<Vec<_>>>()?;
        pen.save()?;
        pen.begin.commit()?;
        Ok(results)
    }

    /// What was committed is shown before anybody is told that it was.
    fn tell(&mut self, jobs: Vec<Job>, results: Vec<Result<u64, StoreError>>) {
        self.disk.succeeded();
        *self.shown.lock() = self.tail.shown;
        for (job, result) in jobs.iter().zip(&results) {
            if let (Write::Record(write), Ok(revision)) = (&job.write, result) {
                let stored = if write.stored.record.is_empty() {
                    Stored::default()
                } else {
                    Stored { revision: Revision(*revision), ..write.stored.clone() }
                };
                self.cache.replace(&write.user, stored, write.json.len());
            }
        }
        if *self.head.borrow() != self.tail.head {
            self.head.send_replace(self.tail.head);
        }
        for (job, result) in jobs.into_iter().zip(results) {
            job.done.send(result).ok();
        }
    }
}

impl Job {
    /// Whether its answer must wait for the disk (L9).
    fn must_sync(&self) -> bool {
        matches!(&self.write, Write::Record(write) if write.sync)
    }

    /// Whether it is worth a sync: what can be written again is not.
    const fn should_sync(&self) -> bool {
        !matches!(self.write, Write::Sign { .. } | Write::Trim { .. })
    }

    const fn is_progress(&self) -> bool {
        matches!(self.write, Write::Progress(_) | Write::NoProgress)
    }
}

/// A transaction under way.
struct Pen<'a> {
    begin: Transaction<'a>,
    tail: &'a mut Tail,
    unread: &'a mut Unread,
    retention: &'a Retention,
}

impl Pen<'_> {
    fn write(&mut self, write: &Write) -> rusqlite::Result<Result<u64, StoreError>> {
        match write {
            Write::Record(write) => return self.record(write),
            Write::Sign { node, sign } => {
                self.execute("INSERT OR REPLACE INTO nodes VALUES (?1, ?2)", (node, sign))?;
            }
            Write::Retire { node } => {
                self.execute("DELETE FROM nodes WHERE node = ?1", (node,))?;
            }
            Write::Trim { now } => return self.trim(*now).map(Ok),
            Write::Progress(save) => self.progress(save)?,
            Write::NoProgress => {
                self.execute("DELETE FROM held", ())?;
                *self.unread = Unread::default();
            }
            Write::PutBack(which) => {
                return self.dead("UPDATE dead SET put_back = 1", which).map(Ok);
            }
            Write::DropDead(which) => return self.dead("DELETE FROM dead", which).map(Ok),
        }
        Ok(Ok(0))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.begin.prepare_cached(sql)?.execute(values)
    }

    /// Swaps a record for its successor; answers with the revision.
    fn record(&mut self, write: &RecordWrite) -> rusqlite::Result<Result<u64, StoreError>> {
        let RecordWrite { user, expected, json, stored, .. } = write;
        let revision = self.tail.revision + 1;
        let is_new = *expected == Revision::default();
        let user_text = user.as_str();
        let (due_running, due_wall) = (stored.due.running.map(millis), stored.due.wall.map(millis));
        let state = write.after.state.map(|state| state as i64);
        let changed = match (is_new, stored.record.is_empty()) {
            (true, true) => self.is_absent(user_text)?,
            (false, true) => self.execute(
                "DELETE FROM users WHERE user = ?1 AND revision = ?2",
                (user_text, int(expected.0)),
            )?,
            (true, false) => self.execute(
                "INSERT INTO users (user, revision, state, due_running, due_wall, record, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![user_text, int(revision), state, due_running, due_wall, json, crc(json)],
            )?,
            // An index is written anew wherever one of its columns is, be it to the same value.
            (false, false) if !write.is_due_anew && write.before.state == write.after.state => self
                .execute(
                    "UPDATE users SET revision = ?2, record = ?3, crc = ?4
                     WHERE user = ?1 AND revision = ?5",
                    params![user_text, int(revision), json, crc(json), int(expected.0)],
                )?,
            (false, false) => self.execute(
                "UPDATE users SET revision = ?2, state = ?3, due_running = ?4, due_wall = ?5,
                 record = ?6, crc = ?7 WHERE user = ?1 AND revision = ?8",
                params![
                    user_text,
                    int(revision),
                    state,
                    due_running,
                    due_wall,
                    json,
                    crc(json),
                    int(expected.0)
                ],
            )?,
        };
        if changed == 0 {
            return Ok(Err(StoreError::Conflict));
        }
        self.tail.revision = revision;
        self.tail.shown.totals.replace(&write.before, &write.after);
        for (at, event) in &write.events {
            self.append(user, *at, event)?;
        }
        Ok(Ok(revision))
    }

    fn is_absent(&self, user: &str) -> rusqlite::Result<usize> {
        let mut found = self.begin.prepare_cached("SELECT 1 FROM users WHERE user = ?1")?;
        Ok(usize::from(!found.exists((user,))?))
    }

    fn append(&mut self, user: &UserId, at: Timestamp, event: &str) -> rusqlite::Result<()> {
        let Tail { head, shown, .. } = &mut *self.tail;
        head.0 += 1;
        shown.entries += 1;
        shown.bytes += event.len() as u64;
        let (cursor, entries, bytes) = (int(head.0), int(shown.entries), int(shown.bytes));
        self.execute(
            "INSERT INTO log (cursor, user, at, entries, bytes, event, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![cursor, user.as_str(), millis(at), entries, bytes, event, crc(event)],
        )?;
        Ok(())
    }

    /// Lets the oldest entries go; returns how many of them the webhook had not dealt with, with the
    /// highest bit set where there may be more to let go.
    fn trim(&mut self, now: Timestamp) -> rusqlite::Result<u64> {
        let unread = self.first_unread()?;
        let Tail { shown, .. } = &mut *self.tail;
        let (mut lost, mut gone, mut count) = (0, None, 0);
        {
            let mut oldest = self.begin.prepare_cached(
                "SELECT cursor, at, bytes - octet_length(event) FROM log ORDER BY cursor",
            )?;
            let mut rows = oldest.query(())?;
            while count < TRIMMED_MAX
                && let Some(row) = rows.next()?
            {
                let (cursor, at, before): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let is_aged = Timestamp::from_millis(number(at)) < now - self.retention.log_ttl;
                let is_unread = unread.is_some_and(|unread| number(cursor) >= unread.0);
                let from_it = shown.bytes.saturating_sub(number(before));
                let is_wanted = is_unread && from_it <= self.retention.backlog_bytes_max;
                if !is_aged || is_wanted {
                    break;
                }
                lost += u64::from(is_unread);
                count += 1;
                gone = Some(cursor);
            }
        }
        if let Some(gone) = gone {
            shown.log_before = Cursor(number(gone));
            self.execute("DELETE FROM log WHERE cursor <= ?1", (gone,))?;
        }
        let is_more = count == TRIMMED_MAX;
        Ok(lost | if is_more { MORE_TO_TRIM } else { 0 })
    }

    /// The oldest entry that the webhook has not dealt with.
    fn first_unread(&self) -> rusqlite::Result<Option<Cursor>> {
        let Some(position) = self.unread.position else { return Ok(None) };
        let next = self
            .begin
            .prepare_cached("SELECT min(cursor) FROM log WHERE cursor > ?1")?
            .query_row((int(position.0),), |row| row.get::<_, Option<i64>>(0))
            .optional()?
            .flatten();
        let next = next.map(|cursor| Cursor(number(cursor)));
        Ok(self.unread.held.values().copied().chain(next).min())
    }

    fn progress(&mut self, save: &Save) -> rusqlite::Result<()> {
        self.unread.position = Some(save.position);
        for user in &save.freed {
            self.unread.held.remove(user);
            self.execute("DELETE FROM held WHERE user = ?1", (user.as_str(),))?;
        }
        for held in &save.held {
            let Held { user, from, .. } = held;
            self.unread.held.insert(user.clone(), *from);
            let values = (user.as_str(), json(held));
            self.execute("INSERT OR REPLACE INTO held VALUES (?1, ?2)", values)?;
        }
        for cursor in &save.revived {
            self.execute("DELETE FROM dead WHERE cursor = ?1", (int(cursor.0),))?;
        }
        for dead in &save.dead {
            let LogEntry { cursor, user, event } = &dead.entry;
            self.execute(
                "INSERT OR REPLACE INTO dead
                 (cursor, user, event, at, attempts, last_error, put_back)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                params![
                    int(cursor.0),
                    user.as_str(),
                    event,
                    millis(dead.at),
                    dead.attempts,
                    dead.last_error
                ],
            )?;
        }
        Ok(())
    }

    /// Does something to those dead letters that are meant and were not put back.
    fn dead(&self, what: &str, which: &Which) -> rusqlite::Result<u64> {
        let Which::These(these) = which else {
            return Ok(self.execute(&format!("{what} WHERE put_back = 0"), ())? as u64);
        };
        let one = format!("{what} WHERE put_back = 0 AND cursor = ?1");
        let done = these.iter().map(|cursor| self.execute(&one, (int(cursor.0),)));
        Ok(done.sum::<rusqlite::Result<usize>>()? as u64)
    }

    /// Writes where the log ends, and the counts.
    fn save(&self) -> rusqlite::Result<()> {
        let Tail { revision, head, shown } = &*self.tail;
        self.execute(
            "UPDATE state SET revision = ?1, head = ?2, entries = ?3, bytes = ?4, log_before = ?5,
             totals = ?6, position = ?7",
            params![
                int(*revision),
                int(head.0),
                int(shown.entries),
                int(shown.bytes),
                int(shown.log_before.0),
                json(&shown.totals),
                self.unread.position.map(|position| int(position.0)),
            ],
        )?;
        Ok(())
    }
}

/// Set in what a trim answers where there may be more to let go.
pub(super) const MORE_TO_TRIM: u64 = 1 << 63;

fn millis(at: Timestamp) -> i64 {
    int(at.as_millis())
}

fn crc(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}
