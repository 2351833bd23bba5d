use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::checked::{crc, note, number_at};
use super::journal::Line;
use super::ledger::{Current, Entry, Tail};
use super::notes;
use super::open::OpenFault;
use super::reader::{self, happened};
use super::schema::{int, number};
use super::writer::{Unread, Write};
use crate::presence::{Record, Timestamp};
use crate::store::log::json;
use crate::store::{Cursor, Dead, Held, LogEntry, Retention, Revision, Save, Stored, Which};

/// How many entries of the log are let go in one job, that others need not wait long: each is on a
/// page of its own in the index by user.
const TRIMMED_MAX: usize = 100;
/// Set in what a trim answers where there may be more to let go.
pub(super) const MORE_TO_TRIM: u64 = 1 << 63;

/// A transaction under way.
pub(super) struct Pen<'a> {
    pub(super) begin: Transaction<'a>,
    pub(super) tail: &'a mut Tail,
    pub(super) unread: &'a mut Unread,
    pub(super) retention: &'a Retention,
}

impl Pen<'_> {
    pub(super) fn write(&mut self, write: &Write) -> rusqlite::Result<u64> {
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
            Write::PutBack(which) => {
                let whole = self.idle_dead(which, |dead| !dead.entry.is_damaged())?;
                return self.each_dead("UPDATE dead SET put_back = 1 WHERE cursor = ?1", &whole);
            }
            Write::DropDead(which) => {
                let all = self.idle_dead(which, |_| true)?;
                return self.each_dead("DELETE FROM dead WHERE cursor = ?1", &all);
            }
        }
        Ok(0)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.begin.prepare_cached(sql)?.execute(values)
    }

    /// A commit as it was made, from its line in the journal.
    pub(super) fn read_again(&self, line: Line) -> Result<Entry, OpenFault> {
        let due = line.due();
        let Line { revision, user, record, events, .. } = line;
        let damaged = |_| OpenFault::Damaged(format!("the record of {user:?} in the journal"));
        let record_bytes = record.get().len();
        let record: Record = serde_json::from_str(record.get()).map_err(damaged)?;
        let current = match reader::wreck(&self.begin, &user)? {
            Some(wreck) => Current {
                census: wreck.census(),
                stored: Stored { revision: wreck.revision, ..Stored::default() },
                is_damaged: true,
            },
            None => Current::whole(reader::load(&self.begin, &user)?.unwrap_or_default().0),
        };
        let events = events.into_iter().map(|(at, event)| (at, event.get().into())).collect();
        Ok(Entry {
            revision,
            expected: current.stored.revision,
            before: current.census,
            after: record.census(),
            is_due_anew: true,
            replaces_damaged: current.is_damaged,
            stored: Entry::stored(Arc::new(record), due, revision),
            user,
            record_bytes,
            events,
            log_before: self.tail.head,
        })
    }

    /// Swaps a user's record for what came of it, commit by commit; returns whether it was the one
    /// expected.
    pub(super) fn record(&self, commits: &[&Entry]) -> rusqlite::Result<bool> {
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(true) };
        let Entry { user, stored, revision, after, .. } = last;
        let json = &*json(&*stored.record);
        let (expected, revision) = (int(first.expected.0), int(*revision));
        let is_due_anew = commits.iter().any(|commit| commit.is_due_anew);
        let is_new = first.expected == Revision::default() || first.replaces_damaged;
        let user = user.as_str();
        let (due_running, due_wall) = (stored.due.running.map(millis), stored.due.wall.map(millis));
        let state = after.state.map(|state| state as i64);
        if first.replaces_damaged {
            self.execute(
                "INSERT INTO damaged (user, revision, record, crc)
                 SELECT user, revision, record, crc FROM users WHERE user = ?1",
                (user,),
            )?;
            self.execute("DELETE FROM users WHERE user = ?1", (user,))?;
        }
        let changed = match (is_new, stored.record.is_empty()) {
            (true, true) => self.is_absent(user)?,
            (false, true) => self
                .execute("DELETE FROM users WHERE user = ?1 AND revision = ?2", (user, expected))?,
            (true, false) => self.execute(
                "INSERT INTO users (user, revision, state, due_running, due_wall, record, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![user, revision, state, due_running, due_wall, json, crc(json)],
            )?,
            // An index is written anew wherever one of its columns is, be it to the same value.
            (false, false) if !is_due_anew && first.before.state == after.state => self.execute(
                "UPDATE users SET revision = ?2, record = ?3, crc = ?4
                 WHERE user = ?1 AND revision = ?5",
                params![user, revision, json, crc(json), expected],
            )?,
            (false, false) => self.execute(
                "UPDATE users SET revision = ?2, state = ?3, due_running = ?4, due_wall = ?5,
                 record = ?6, crc = ?7 WHERE user = ?1 AND revision = ?8",
                params![user, revision, state, due_running, due_wall, json, crc(json), expected],
            )?,
        };
        Ok(changed > 0)
    }

    /// Adds to the log what a commit adds.
    pub(super) fn log(&mut self, entry: &Entry) -> rusqlite::Result<()> {
        let Tail { head, entries, mut bytes, .. } = *self.tail;
        let user = entry.user.as_str();
        for ((at, event), place) in entry.events.iter().zip(1..) {
            bytes += event.len() as u64;
            let (cursor, entries) = (int(head.0 + place), int(entries + place));
            self.execute(
                "INSERT INTO log (cursor, user, at, entries, bytes, event, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![cursor, user, millis(*at), entries, int(bytes), event, crc(event)],
            )?;
        }
        self.tail.follow(entry);
        Ok(())
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
                "SELECT cursor, at, bytes - octet_length(event), event, crc FROM log
                 ORDER BY cursor",
            )?;
            let mut rows = oldest.query(())?;
            while count < TRIMMED_MAX
                && let Some(row) = rows.next()?
            {
                let cursor: i64 = row.get(0)?;
                let at = number_at(row, 1)?.map(Timestamp::from_millis);
                // A time that cannot be is damaged, and must not keep the log for ever.
                let at = if at.is_some_and(|at| at <= now) { at } else { happened(row, 3, 4)? };
                let is_aged = at.is_none_or(|at| at < now - self.retention.log_ttl);
                let is_unread = unread.is_some_and(|unread| number(cursor) >= unread.0);
                let from_it = tail.bytes.saturating_sub(number_at(row, 2)?.unwrap_or(tail.bytes));
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
            let values = (user.as_str(), note(held));
            self.execute("INSERT OR REPLACE INTO held VALUES (?1, ?2)", values)?;
        }
        for cursor in &save.revived {
            self.execute("DELETE FROM dead WHERE cursor = ?1", (int(cursor.0),))?;
        }
        for dead in &save.dead {
            let LogEntry { cursor, user, event } = &dead.entry;
            // An empty text stands for an event that was damaged in the log.
            let event = event.as_deref().unwrap_or_default();
            self.execute(
                "INSERT OR REPLACE INTO dead
                 (cursor, user, event, at, attempts, last_error, put_back, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7)",
                params![
                    int(cursor.0),
                    user.as_str(),
                    event,
                    millis(dead.at),
                    dead.attempts,
                    dead.last_error,
                    crc(event)
                ],
            )?;
        }
        Ok(())
    }

    /// Those of the dead letters meant that were not put back.
    fn idle_dead(&self, which: &Which, is_wanted: fn(&Dead) -> bool) -> rusqlite::Result<Vec<i64>> {
        let sql = format!("SELECT {} FROM dead WHERE put_back = 0", notes::DEAD);
        let mut wanted = Vec::new();
        let mut add = |row: &Row<'_>| {
            let dead = notes::dead_at(row)?;
            wanted.extend(is_wanted(&dead).then(|| int(dead.entry.cursor.0)));
            Ok::<_, rusqlite::Error>(())
        };
        match which {
            Which::All => {
                let mut all = self.begin.prepare_cached(&sql)?;
                let mut rows = all.query(())?;
                while let Some(row) = rows.next()? {
                    add(row)?;
                }
            }
            Which::These(these) => {
                let mut one = self.begin.prepare_cached(&format!("{sql} AND cursor = ?1"))?;
                for cursor in these {
                    one.query_row((int(cursor.0),), |row| add(row)).optional()?;
                }
            }
        }
        Ok(wanted)
    }

    /// Does something to each of these dead letters; returns to how many.
    fn each_dead(&self, sql: &str, cursors: &[i64]) -> rusqlite::Result<u64> {
        let done = cursors.iter().map(|cursor| self.execute(sql, (cursor,)));
        Ok(done.sum::<rusqlite::Result<usize>>()? as u64)
    }

    /// Writes where the log ends, and the counts.
    pub(super) fn save(&self, position: Option<Cursor>) -> rusqlite::Result<()> {
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
                note(totals),
                position.map(|position| int(position.0)),
            ],
        )?;
        Ok(())
    }
}

fn millis(at: Timestamp) -> i64 {
    int(at.as_millis())
}
