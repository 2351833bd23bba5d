use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Error::FromSqlConversionFailure;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::disk::Disk;
use super::handoff::Taker;
use super::journal::Line;
use super::ledger::{Entry, Ledger, Tail};
use super::open::OpenFault;
use super::reader;
use super::schema::{int, number};
use crate::presence::{Record, Timestamp, UserId};
use crate::store::log::json;
use crate::store::{
    Cursor, Held, LogEntry, Progress, Retention, Revision, Save, StoreError, Which,
};

/// How many jobs share a transaction at most.
const JOBS_MAX: usize = 512;
/// How many entries of the log are let go in one job, that others need not wait long: each is on a
/// page of its own in the index by user.
pub(super) const TRIMMED_MAX: usize = 100;

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

/// The one thread that writes to the database: it carries over what is committed, and does what is
/// asked for beside.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) jobs: Taker<Job>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) disk: Arc<Disk>,
    pub(super) retention: Retention,
    /// Where the database is.
    pub(super) tail: Tail,
    pub(super) unread: Unread,
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
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT revision, head, entries, bytes, log_before, totals FROM state";
        connection.query_row(sql, (), |row| {
            let totals: String = row.get(5)?;
            let totals = serde_json::from_str(&totals)
                .map_err(|error| FromSqlConversionFailure(5, Type::Text, error.into()))?;
            Ok(Self {
                revision: number(row.get(0)?),
                head: Cursor(number(row.get(1)?)),
                totals,
                entries: number(row.get(2)?),
                bytes: number(row.get(3)?),
                log_before: Cursor(number(row.get(4)?)),
            })
        })
    }

    /// Goes on in a new run.
    pub(super) fn begin(
        &mut self,
        connection: &Connection,
        wall: Timestamp,
    ) -> rusqlite::Result<()> {
        let is_new = self.head == Cursor::default();
        self.head = Cursor::of_new_run(self.head, wall);
        if is_new {
            self.log_before = self.head;
        }
        let (head, log_before) = (int(self.head.0), int(self.log_before.0));
        connection.execute("UPDATE state SET head = ?1, log_before = ?2", (head, log_before))?;
        Ok(())
    }
}

impl From<Progress> for Unread {
    fn from(Progress { position, held }: Progress) -> Self {
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
            pen.record(&entry)?;
        }
    }
    pen.save(reader::progress(&pen.begin)?.map(|progress| progress.position))?;
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
                self.disk.succeeded();
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
                    self.disk.succeeded();
                } else {
                    self.tail = tail;
                    self.disk.failed(&error);
                }
                for job in jobs {
                    job.done.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn try_to_write(&mut self, jobs: &[Job]) -> Result<Vec<u64>, StoreError> {
        self.disk.check(&self.connection)?;
        let waiting = self.ledger.lock().waiting();
        let Some(results) = self.commit(&waiting, jobs)? else {
            return Err(self.disk.broke("somebody else has changed the database: start again"));
        };
        self.ledger.lock().carried(waiting.len(), self.tail.log_before);
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

    /// `None` where a record is not what it was when its successor was committed.
    fn commit(
        &mut self,
        waiting: &[Arc<Entry>],
        jobs: &[Job],
    ) -> rusqlite::Result<Option<Vec<u64>>> {
        let Self { connection, tail, unread, retention, .. } = self;
        let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut pen = Pen { begin, tail, unread, retention };
        for entry in waiting {
            if !pen.record(entry)? {
                return Ok(None);
            }
        }
        let results = jobs.iter().map(|job| pen.write(&job.write));
        let results = results.collect::<rusqlite::Result<Vec<_>>>()?;
        pen.save(pen.unread.position)?;
        pen.begin.commit()?;
        Ok(Some(results))
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

/// A transaction under way.
struct Pen<'a> {
    begin: Transaction<'a>,
    tail: &'a mut Tail,
    unread: &'a mut Unread,
    retention: &'a Retention,
}

impl Pen<'_> {
    fn write(&mut self, write: &Write) -> rusqlite::Result<u64> {
        match write {
            Write::Nothing => (),
            Write::Sign { node, sign } => {
                self.execute("INSERT OR REPLACE INTO nodes VALUES (?1, ?2)", (node, sign))?;
            }
            Write::Retire { node } => {
                self.execute("DELETE FROM nodes WHERE node = ?1", (node,))?;
            }
            Write::Trim { now } => return self.trim(*now),
            Write::Progress(save) => self.progress(save)?,
            Write::NoProgress => {
                self.execute("DELETE FROM held", ())?;
                *self.unread = Unread::default();
            }
            Write::PutBack(which) => return self.dead("UPDATE dead SET put_back = 1", which),
            Write::DropDead(which) => return self.dead("DELETE FROM dead", which),
        }
        Ok(0)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.begin.prepare_cached(sql)?.execute(values)
    }

    /// A commit as it was made, from its line in the journal.
    fn read_again(&self, line: Line) -> Result<Entry, OpenFault> {
        let due = line.due();
        let Line { revision, user, record, events, .. } = line;
        let damaged = |_| OpenFault::Damaged(format!("the record of {user:?} in the journal"));
        let record: Record = serde_json::from_str(record.get()).map_err(damaged)?;
        let json = json(&record);
        let current = reader::load(&self.begin, &user)?.unwrap_or_default().0;
        let events = events.into_iter().map(|(at, event)| (at, event.get().into())).collect();
        Ok(Entry {
            revision,
            expected: current.revision,
            before: current.record.census(),
            after: record.census(),
            is_due_anew: true,
            stored: Entry::stored(Arc::new(record), due, revision),
            user,
            json,
            events,
            log_before: self.tail.head,
        })
    }

    /// Swaps a record for its successor; returns whether it was the one expected.
    fn record(&mut self, entry: &Entry) -> rusqlite::Result<bool> {
        let Entry { user, expected, json, stored, revision, .. } = entry;
        let revision = *revision;
        let is_new = *expected == Revision::default();
        let user_text = user.as_str();
        let (due_running, due_wall) = (stored.due.running.map(millis), stored.due.wall.map(millis));
        let state = entry.after.state.map(|state| state as i64);
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
            (false, false) if !entry.is_due_anew && entry.before.state == entry.after.state => self
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
        let Tail { head, entries, mut bytes, .. } = *self.tail;
        for ((at, event), place) in entry.events.iter().zip(1..) {
            bytes += event.len() as u64;
            let (cursor, entries) = (int(head.0 + place), int(entries + place));
            self.execute(
                "INSERT INTO log (cursor, user, at, entries, bytes, event, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![cursor, user_text, millis(*at), entries, int(bytes), event, crc(event)],
            )?;
        }
        self.tail.follow(entry);
        Ok(changed > 0)
    }

    fn is_absent(&self, user: &str) -> rusqlite::Result<usize> {
        let mut found = self.begin.prepare_cached("SELECT 1 FROM users WHERE user = ?1")?;
        Ok(usize::from(!found.exists((user,))?))
    }

    /// Lets the oldest entries go; returns how many of them the webhook had not dealt with, with the
    /// highest bit set where there may be more to let go.
    fn trim(&mut self, now: Timestamp) -> rusqlite::Result<u64> {
        let unread = self.first_unread()?;
        let tail = &mut *self.tail;
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
                let from_it = tail.bytes.saturating_sub(number(before));
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
            tail.log_before = Cursor(number(gone));
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
    fn save(&self, position: Option<Cursor>) -> rusqlite::Result<()> {
        let Tail { revision, head, totals, entries, bytes, log_before } = &*self.tail;
        self.execute(
            "UPDATE state SET revision = ?1, head = ?2, entries = ?3, bytes = ?4, log_before = ?5,
             totals = ?6, position = ?7",
            params![
                int(*revision),
                int(head.0),
                int(*entries),
                int(*bytes),
                int(log_before.0),
                json(totals),
                position.map(|position| int(position.0)),
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
