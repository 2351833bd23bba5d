use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, Rows, params};
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

use super::checked::{number_at, user_at, whole};
use super::damage::{Damage, Wreck};
use super::handoff::{Giver, handoff};
use super::open::{OpenFault, connect};
use super::schema::{int, number};
use crate::panics::caught_now;
use crate::presence::{Census, Due, Record, Timestamp, UserId};
use crate::store::{
    Among, Backlog, Cursor, Damaged, Listed, LogEntry, Part, Revision, StoreError, Stored, Totals,
};

/// How many records are looked up at once.
const LOADS_MAX: usize = 512;
/// How many other questions are answered at once.
const QUESTIONS_MAX: usize = 4;
/// How much of the database a connection that reads keeps in memory.
const READER_KIB: i32 = 512;

/// Connections that read, beside the one that writes.
///
/// No statement has a `LIMIT`: SQLite plans one anew each time that its limit is bound, which takes
/// longer than most answers. Rows come one by one, and as many are taken as are wanted.
pub(super) struct Readers {
    database: PathBuf,
    /// Single records, looked up by a thread of their own.
    loads: Giver<Load>,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// A record to look up, and who waits for it.
struct Load {
    user: UserId,
    done: oneshot::Sender<Result<(Stored, usize), StoreError>>,
}

impl Readers {
    pub(super) fn new(database: PathBuf, damage: Arc<Damage>) -> Result<Arc<Self>, OpenFault> {
        let (loads, wanted) = handoff();
        let connection = connect_to_read(&database)?;
        let work = move || {
            while let Some(loads) = wanted.take(LOADS_MAX) {
                if let Err(panic) = caught_now(|| look_up(&connection, loads, &damage)) {
                    tracing::error!(%panic, "store-reader panicked: the lookups under way failed");
                }
            }
        };
        thread::Builder::new().name("store-reader".into()).spawn(work)?;
        let places = Semaphore::new(QUESTIONS_MAX);
        Ok(Arc::new(Self { database, loads, idle: Mutex::default(), places }))
    }

    /// Looks a record up, with its size.
    pub(super) async fn load(&self, user: &UserId) -> Result<(Stored, usize), StoreError> {
        let (done, answer) = oneshot::channel();
        self.loads.give(Load { user: user.clone(), done });
        let stopped = |_| StoreError::unavailable(&"the lookup panicked");
        answer.await.map_err(stopped)?
    }

    /// Reads, on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, ReadFault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let unavailable = |error: &dyn Error| StoreError::unavailable(&error);
        let place = self.places.acquire().await.map_err(|error| unavailable(&error))?;
        let readers = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            let idle = readers.idle.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect_to_read(&readers.database)?,
            };
            let answer = question(&connection);
            readers.idle.lock().push(connection);
            answer
        });
        let answer = answer.await.map_err(|error| unavailable(&error))?;
        drop(place);
        answer.map_err(|fault: ReadFault| StoreError::from(fault))
    }
}

/// What is read often is among the records in memory, and the kernel has the rest.
fn connect_to_read(database: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(database)?;
    connection.pragma_update(None, "cache_size", -READER_KIB)?;
    Ok(connection)
}

/// Looks records up as of one moment, and tells each what came of it.
fn look_up(connection: &Connection, loads: Vec<Load>, damage: &Damage) {
    // Where none can begin, each begins its own, and says what is wrong.
    let begun = connection.unchecked_transaction();
    for Load { user, done } in loads {
        let found = load(connection, &user).map(Option::unwrap_or_default);
        if let Err(ReadFault::Damaged(_)) = found {
            damage.found("users", user.as_str());
        }
        done.send(found.map_err(StoreError::from)).ok();
    }
    drop(begun);
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFault {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("a user's record is damaged")]
    Damaged(Box<Wreck>),
}

impl From<FromSqlError> for ReadFault {
    fn from(error: FromSqlError) -> Self {
        Self::Database(rusqlite::Error::from(error))
    }
}

impl From<ReadFault> for StoreError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Database(error) => error.into(),
            ReadFault::Damaged(wreck) => {
                Self::Damaged { revision: wreck.revision, revoked: wreck.revoked() }
            }
        }
    }
}

/// The columns that [`record_at`] reads.
const RECORD: &str = "crc, record, revision, due_running, due_wall, state";

/// A user's record with its size; `None` if there is none.
pub(super) fn load(
    connection: &Connection,
    user: &UserId,
) -> Result<Option<(Stored, usize)>, ReadFault> {
    let sql = format!("SELECT {RECORD} FROM users WHERE user = ?1");
    let mut found = connection.prepare_cached(&sql)?;
    let mut rows = found.query((user.as_str(),))?;
    rows.next()?.map(|row| record_at(row, 0)).transpose()
}

/// The record and its size in the columns of [`RECORD`], from this one on. Where one of them is
/// damaged, all are.
fn record_at(row: &Row<'_>, first: usize) -> Result<(Stored, usize), ReadFault> {
    let record = parsed(whole(row, first + 1, first)?);
    let revision = number_at(row, first + 2)?.map(Revision);
    let due = Due { running: timestamp(row, first + 3)?, wall: timestamp(row, first + 4)? };
    let state = number_at(row, first + 5)?;
    if let (Some((record, bytes)), Some(revision)) = (record, revision)
        && state == record.census().state.map(|state| state as u64)
    {
        return Ok((Stored { record: Arc::new(record), due, revision }, bytes));
    }
    Err(ReadFault::Damaged(Box::new(Wreck::read(row, first + 1)?)))
}

/// A record and its size.
fn parsed(json: Option<String>) -> Option<(Record, usize)> {
    let json = json?;
    Some((serde_json::from_str(&json).ok()?, json.len()))
}

/// What is left of a user's damaged record; nothing where it is whole.
pub(super) fn wreck(connection: &Connection, user: &UserId) -> Result<Option<Wreck>, ReadFault> {
    match load(connection, user) {
        Ok(_) => Ok(None),
        Err(ReadFault::Damaged(wreck)) => Ok(Some(*wreck)),
        Err(fault @ ReadFault::Database(_)) => Err(fault),
    }
}

/// Counts everything anew, where the counts themselves were damaged.
pub(super) fn recount(connection: &Connection) -> Result<Totals, ReadFault> {
    let mut totals = Totals::default();
    each_record(connection, |record| {
        let census = record.map_or_else(|wreck| wreck.census(), Record::census);
        totals.replace(&Census::default(), &census);
    })?;
    Ok(totals)
}

/// Looks at every record, or at what is left of it.
pub(super) fn each_record(
    connection: &Connection,
    mut look: impl FnMut(Result<&Record, &Wreck>),
) -> Result<(), ReadFault> {
    let mut found = connection.prepare(&format!("SELECT {RECORD} FROM users"))?;
    let mut rows = found.query(())?;
    while let Some(row) = rows.next()? {
        match record_at(row, 0) {
            Ok((stored, _)) => look(Ok(&stored.record)),
            Err(ReadFault::Damaged(wreck)) => look(Err(&wreck)),
            Err(fault @ ReadFault::Database(_)) => return Err(fault),
        }
    }
    Ok(())
}

fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(number_at(row, column)?.map(Timestamp::from_millis))
}

/// When the first record is due.
pub(super) fn first_due(connection: &Connection) -> rusqlite::Result<Due> {
    let first = |column| {
        let sql = format!("SELECT min({column}) FROM users WHERE {column} IS NOT NULL");
        connection.prepare_cached(&sql)?.query_row((), |row| timestamp(row, 0))
    };
    Ok(Due { running: first("due_running")?, wall: first("due_wall")? })
}

/// The users who are due, each with for how long: the most overdue, by each of the two clocks.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    wall: Timestamp,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<(Duration, UserId)>, ReadFault> {
    let mut overdue = Vec::new();
    for (column, at) in [("due_running", now), ("due_wall", wall)] {
        let mut found = connection.prepare_cached(&format!(
            "SELECT ?1 - {column}, user FROM users WHERE {column} <= ?1 ORDER BY {column}"
        ))?;
        let mut rows = found.query((int(at.as_millis()),))?;
        let most = overdue.len().saturating_add(limit);
        while overdue.len() < most
            && let Some(row) = rows.next()?
        {
            let by = Duration::from_millis(number_at(row, 0)?.unwrap_or_default());
            if let Some(user) = known(row, 1, damage)? {
                overdue.push((by, user));
            }
        }
    }
    Ok(overdue)
}

/// The users in some states, in the order of their ids: those of each state have an index in that
/// order, so a page costs what it shows, whoever else there is.
pub(super) fn users(
    connection: &Connection,
    among: &Among,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<Listed>, ReadFault> {
    // Of two lower bounds the database would use one, and look at everything between them.
    let (beyond, from) = match &among.after {
        Some(after) if *after.as_str() >= *among.prefix => (">", after.as_str()),
        Some(_) | None => (">=", &*among.prefix),
    };
    let mut found = connection.prepare_cached(&format!(
        "SELECT user, {RECORD} FROM users WHERE state = ?1 AND user {beyond} ?2 ORDER BY user"
    ))?;
    let mut listed = Vec::new();
    for state in &among.states {
        let mut rows = found.query(params![*state as i64, from])?;
        let most = listed.len().saturating_add(limit);
        while listed.len() < most
            && let Some(row) = rows.next()?
        {
            let Some(user) = known(row, 0, damage)? else { continue };
            if !user.as_str().starts_with(&among.prefix) {
                break;
            }
            let record = match record_at(row, 1) {
                Ok((stored, _)) => Ok(stored.record),
                Err(ReadFault::Damaged(_)) => {
                    damage.found("users", user.as_str());
                    Err(Damaged)
                }
                Err(fault @ ReadFault::Database(_)) => return Err(fault),
            };
            listed.push((user, record));
        }
    }
    listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    listed.truncate(limit);
    Ok(listed)
}

/// Entries of the log after a cursor, up to another, oldest first.
pub(super) fn log(
    connection: &Connection,
    after: Cursor,
    head: Cursor,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<LogEntry>, ReadFault> {
    let mut found = connection.prepare_cached(
        "SELECT cursor, user, event, crc FROM log
         WHERE cursor > ?1 AND cursor <= ?2 ORDER BY cursor",
    )?;
    entries(found.query((int(after.0), int(head.0)))?, limit, damage)
}

/// The place before the first entry that is kept.
pub(super) fn log_before(connection: &Connection) -> Result<Cursor, ReadFault> {
    let before: i64 = connection.query_row("SELECT log_before FROM state", (), |row| row.get(0))?;
    Ok(Cursor(number(before)))
}

/// A user's entries.
pub(super) fn history(
    connection: &Connection,
    user: &UserId,
    part: Part,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<LogEntry>, ReadFault> {
    let (sql, cursor) = match part {
        Part::After(cursor) => (
            "SELECT cursor, user, event, crc FROM log
             WHERE user = ?1 AND cursor > ?2 ORDER BY cursor",
            int(cursor.0),
        ),
        Part::Before(cursor) => (
            "SELECT cursor, user, event, crc FROM log
             WHERE user = ?1 AND cursor < ?2 ORDER BY cursor DESC",
            cursor.map_or(i64::MAX, |cursor| int(cursor.0)),
        ),
    };
    let mut found = connection.prepare_cached(sql)?;
    entries(found.query((user.as_str(), cursor))?, limit, damage)
}

fn entries(mut rows: Rows<'_>, limit: usize, damage: &Damage) -> Result<Vec<LogEntry>, ReadFault> {
    let mut entries = Vec::new();
    while entries.len() < limit
        && let Some(row) = rows.next()?
    {
        let entry = entry(row)?;
        if entry.is_damaged() {
            damage.found("log", &format!("{} of {}", entry.cursor, entry.user));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(row: &Row<'_>) -> Result<LogEntry, ReadFault> {
    let cursor = Cursor(number(row.get(0)?));
    let (user, is_user_whole) = user_at(row, 1)?;
    let event = whole(row, 2, 3)?.filter(|_| is_user_whole);
    Ok(LogEntry { cursor, user, event: event.map(Arc::from).ok_or(Damaged) })
}

/// A user's id in a column; a damaged one is noted, and left out.
fn known(row: &Row<'_>, column: usize, damage: &Damage) -> Result<Option<UserId>, ReadFault> {
    let (user, is_whole) = user_at(row, column)?;
    if !is_whole {
        damage.found("users", user.as_str());
    }
    Ok(is_whole.then_some(user))
}

/// What comes after a cursor, where the log has so many entries and bytes from the first ever on.
pub(super) fn backlog(
    connection: &Connection,
    after: Cursor,
    (entries, bytes): (u64, u64),
) -> Result<Backlog, ReadFault> {
    let mut first = connection.prepare_cached(
        "SELECT at, entries, bytes - octet_length(event) FROM log
         WHERE cursor > ?1 ORDER BY cursor LIMIT 1",
    )?;
    let first = first.query_row((int(after.0),), |row| {
        // A damaged number counts as the last one: it makes the backlog no longer than it is.
        let (entry, before) = (number_at(row, 1)?, number_at(row, 2)?);
        Ok(Backlog {
            entries: (entries + 1).saturating_sub(entry.unwrap_or(entries)),
            bytes: bytes.saturating_sub(before.unwrap_or(bytes)),
            oldest: timestamp(row, 0)?,
        })
    });
    Ok(first.optional()?.unwrap_or_default())
}

/// When the last entry of the log that is whole happened.
pub(super) fn last_entry(connection: &Connection) -> Result<Timestamp, ReadFault> {
    let mut found = connection.prepare("SELECT event, crc FROM log ORDER BY cursor DESC")?;
    let mut rows = found.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(at) = happened(row, 0, 1)? {
            return Ok(at);
        }
    }
    Ok(Timestamp::default())
}

/// When an entry happened, by the event itself, which has a checksum; `None` if it is damaged.
pub(super) fn happened(
    row: &Row<'_>,
    event: usize,
    crc: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Event {
        at: Timestamp,
    }
    let event = whole(row, event, crc)?;
    Ok(event.and_then(|event| serde_json::from_str(&event).ok()).map(|Event { at }| at))
}
