//! Questions about users and the log.
//!
//! No statement has a parameter as its `LIMIT`: SQLite plans a statement anew each time its limit is bound,
//! which takes longer than most answers. Rows come one by one, and a query stops when it has enough.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, Row, Rows, params};
use serde::Deserialize;

use super::columns::{Due, int, number, number_at, text_of_user, time_at, user_at};
use super::damage::{Damage, Remains};
use crate::presence::{Census, NodeId, Record, State, Timestamp, UserId, WatchList};
use crate::store::{
    Among, Backlog, Cursor, Damaged, HistoryPart, Listed, LogEntry, Part, Revision, Stored, Totals,
};

/// A user's row.
#[derive(Debug)]
pub(super) enum UserRow {
    /// The record, and how many bytes it has as JSON.
    Whole(Stored, usize),
    /// The record can no longer be read.
    Damaged(Box<Remains>),
}

/// The columns that [`record_at`] reads.
const RECORD: &str = "user, crc, record, revision, due_running, due_wall, state";

/// A user's record; an unknown user has the default record.
pub(super) fn load(connection: &Connection, user: &UserId) -> Result<UserRow> {
    let sql = format!("SELECT {RECORD} FROM users WHERE user = ?1");
    let mut found = connection.prepare_cached(&sql)?;
    let mut rows = found.query((user.as_str(),))?;
    match rows.next()? {
        Some(row) => record_at(row),
        None => Ok(UserRow::Whole(Stored::default(), 0)),
    }
}

/// The record in the columns of [`RECORD`]. Where one of them is damaged, all are.
fn record_at(row: &Row<'_>) -> Result<UserRow> {
    let json = text_of_user(row, 0)?;
    let bytes = json.as_ref().map_or(0, String::len);
    let record: Option<Record> = json.and_then(|json| serde_json::from_str(&json).ok());
    // Zero is the revision of records that are not there.
    let revision = number_at(row, 3)?.filter(|it| *it > 0).map(Revision);
    let due = Due { running: time_at(row, 4)?, wall: time_at(row, 5)? };
    let state = number_at(row, 6)?;
    if let Some((record, revision)) = record.zip(revision)
        && state == record.census().state.map(|state| state as u64)
    {
        // If a due time is damaged, 0 stands for it. The hub computes another time at the user's next event, and so
        // commits both due times again.
        let is_whole = due == Due::of(&record, due.wall);
        let wall_deadline = if is_whole { due.wall } else { Some(Timestamp::default()) };
        let stored = Stored { record: Arc::new(record), wall_deadline, revision };
        return Ok(UserRow::Whole(stored, bytes));
    }
    Ok(UserRow::Damaged(Box::new(Remains::read(row, 2)?)))
}

/// Looks at every record, or at what is left of it.
pub(super) fn each_record(connection: &Connection, mut look: impl FnMut(UserRow)) -> Result<()> {
    let mut found = connection.prepare(&format!("SELECT {RECORD} FROM users"))?;
    let mut rows = found.query(())?;
    while let Some(row) = rows.next()? {
        look(record_at(row)?);
    }
    Ok(())
}

/// Counts terminals and users, where the counts themselves are damaged.
pub(super) fn recount(connection: &Connection) -> Result<Totals> {
    let mut totals = Totals::default();
    each_record(connection, |found| {
        let census = match found {
            UserRow::Whole(stored, _) => stored.record.census(),
            UserRow::Damaged(remains) => remains.census(),
        };
        totals.replace(&Census::default(), &census);
    })?;
    Ok(totals)
}

/// When the first record is due.
pub(super) fn first_due(connection: &Connection) -> Result<Due> {
    let first = |column| {
        let sql = format!("SELECT min({column}) FROM users WHERE {column} IS NOT NULL");
        connection.prepare_cached(&sql)?.query_row((), |row| time_at(row, 0))
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
) -> Result<Vec<(Duration, UserId)>> {
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

/// The users in some states, in the order of their ids: an index has the users of each state in that
/// order, so a page costs what it shows, however many others there are.
pub(super) fn users(
    connection: &Connection,
    among: &Among,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<Listed>> {
    // SQLite would use only one of two lower bounds, and look at every row between them.
    let (from, is_after) = among.begin();
    let beyond = if is_after { ">" } else { ">=" };
    let mut found = connection.prepare_cached(&format!(
        "SELECT {RECORD} FROM users WHERE state = ?1 AND user {beyond} ?2 ORDER BY user"
    ))?;
    let mut listed = Vec::new();
    for state in &among.states {
        let mut rows = found.query(params![*state as i64, from])?;
        let most = listed.len().saturating_add(limit);
        while listed.len() < most
            && let Some(row) = rows.next()?
        {
            let Some(user) = known(row, 0, damage)? else { continue };
            if !among.has_prefix(&user) {
                break;
            }
            let record = match record_at(row)? {
                UserRow::Whole(stored, _) => Ok(stored.record),
                UserRow::Damaged(_) => {
                    damage.found("users", user.as_str());
                    Err(Damaged)
                }
            };
            listed.push((user, record));
        }
    }
    listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    listed.truncate(limit);
    Ok(listed)
}

/// The users of a part with an `Online` terminal on a node, in the order of their ids. A damaged record may have one.
pub(super) fn held(
    connection: &Connection,
    (node, part): (NodeId, Part),
    mut after: Option<UserId>,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<Listed>> {
    let mut held = Vec::new();
    while held.len() < limit {
        let among = Among { after, states: vec![State::Online], ..Among::default() };
        let online = users(connection, &among, limit, damage)?;
        let Some((last, _)) = online.last() else { break };
        after = Some(last.clone());
        let may_be_held = |(user, record): &Listed| {
            part.has(user) && record.as_ref().map_or(true, |record| record.is_held_by(node))
        };
        held.extend(online.into_iter().filter(may_be_held));
    }
    held.truncate(limit);
    Ok(held)
}

/// Entries of the log after a cursor, up to another, oldest first.
pub(super) fn log(
    connection: &Connection,
    after: Cursor,
    head: Cursor,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<LogEntry>> {
    let mut found = connection.prepare_cached(
        "SELECT cursor, user, crc, event FROM log
         WHERE cursor > ?1 AND cursor <= ?2 ORDER BY cursor",
    )?;
    entries(found.query((int(after.0), int(head.0)))?, limit, damage)
}

/// The cursor before the first entry that is kept.
pub(super) fn log_before(connection: &Connection) -> Result<Cursor> {
    let before: i64 = connection.query_row("SELECT log_before FROM state", (), |row| row.get(0))?;
    Ok(Cursor(number(before)))
}

/// A user's entries.
pub(super) fn history(
    connection: &Connection,
    user: &UserId,
    part: HistoryPart,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<LogEntry>> {
    let (sql, cursor) = match part {
        HistoryPart::After(cursor) => (
            "SELECT cursor, user, crc, event FROM log
             WHERE user = ?1 AND cursor > ?2 ORDER BY cursor",
            int(cursor.0),
        ),
        HistoryPart::Before(cursor) => (
            "SELECT cursor, user, crc, event FROM log
             WHERE user = ?1 AND cursor < ?2 ORDER BY cursor DESC",
            cursor.map_or(i64::MAX, |cursor| int(cursor.0)),
        ),
    };
    let mut found = connection.prepare_cached(sql)?;
    entries(found.query((user.as_str(), cursor))?, limit, damage)
}

fn entries(mut rows: Rows<'_>, limit: usize, damage: &Damage) -> Result<Vec<LogEntry>> {
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

fn entry(row: &Row<'_>) -> Result<LogEntry> {
    let cursor = Cursor(number(row.get(0)?));
    let (user, is_user_whole) = user_at(row, 1)?;
    let event = text_of_user(row, 1)?.filter(|_| is_user_whole);
    Ok(LogEntry { cursor, user, event: event.map(Arc::from).ok_or(Damaged) })
}

/// A column's user id; a damaged one is noted, and left out.
fn known(row: &Row<'_>, column: usize, damage: &Damage) -> Result<Option<UserId>> {
    let (user, is_whole) = user_at(row, column)?;
    if !is_whole {
        damage.found("users", user.as_str());
    }
    Ok(is_whole.then_some(user))
}

/// What comes after a cursor, where the log has had so many entries and bytes from the first ever on.
pub(super) fn backlog(
    connection: &Connection,
    after: Cursor,
    (entries, bytes): (u64, u64),
) -> Result<Backlog> {
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
            oldest: time_at(row, 0)?,
        })
    });
    Ok(first.optional()?.unwrap_or_default())
}

/// When the last entry of the log that is whole happened.
pub(super) fn last_entry(connection: &Connection) -> Result<Timestamp> {
    let mut found = connection.prepare("SELECT user, crc, event FROM log ORDER BY cursor DESC")?;
    let mut rows = found.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(at) = happened(row, 0)? {
            return Ok(at);
        }
    }
    Ok(Timestamp::default())
}

/// When an entry happened, by the event itself, which has a checksum; `None` if it is damaged. For the
/// columns see [`text_of_user`].
pub(super) fn happened(row: &Row<'_>, first: usize) -> Result<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Event {
        at: Timestamp,
    }
    let event = text_of_user(row, first)?;
    Ok(event.and_then(|event| serde_json::from_str(&event).ok()).map(|Event { at }| at))
}

/// A user's watch list; `None` if it is damaged.
pub(super) fn watch_list(connection: &Connection, user: &UserId) -> Result<Option<WatchList>> {
    let sql = "SELECT user, crc, list FROM watch_lists WHERE user = ?1";
    let mut found = connection.prepare_cached(sql)?;
    let mut rows = found.query((user.as_str(),))?;
    let Some(row) = rows.next()? else { return Ok(Some(WatchList::default())) };
    Ok(text_of_user(row, 0)?.and_then(|text| serde_json::from_str(&text).ok()))
}
