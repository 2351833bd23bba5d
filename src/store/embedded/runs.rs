use rusqlite::{Connection, OptionalExtension};

use super::ledger::Tail;
use super::reader::ReadFault;
use super::schema::{int, number};
use crate::presence::Timestamp;
use crate::store::Cursor;

/// The cursors that this log gave out: each run has a stretch of its own, and between them are those
/// that a run may have shown before a power cut, or an older copy of the files, undid it.
#[derive(Debug)]
pub(super) struct Runs {
    /// Where this run began.
    current: Cursor,
    /// The first and the last cursor of each run before.
    earlier: Vec<(Cursor, Cursor)>,
}

impl Runs {
    /// Begins a new run, which goes on past everything that an earlier one may have shown.
    pub(super) fn begin(
        connection: &Connection,
        tail: &mut Tail,
        wall: Timestamp,
    ) -> Result<Self, ReadFault> {
        let last = tail.head;
        let is_new = last == Cursor::default();
        tail.head = Cursor::of_new_run(last, wall);
        if is_new {
            tail.log_before = tail.head;
        }
        let begin = connection.unchecked_transaction()?;
        let (head, log_before) = (int(tail.head.0), int(tail.log_before.0));
        begin.execute("UPDATE state SET head = ?1, log_before = ?2", (head, log_before))?;
        // The webhook may have noted what the end of the run before then lost.
        let sql = "UPDATE state SET position = ?1 WHERE position > ?1";
        begin.execute(sql, (int(last.0),))?;
        let before = "SELECT first FROM runs ORDER BY first DESC LIMIT 1";
        let before: Option<i64> = begin.query_row(before, (), |row| row.get(0)).optional()?;
        // Files of a version that noted no runs count as one run.
        let before = before.unwrap_or(log_before);
        if !is_new {
            begin.execute("INSERT OR REPLACE INTO runs VALUES (?1, ?2)", (before, int(last.0)))?;
        }
        begin.execute("DELETE FROM runs WHERE last < ?1", (log_before,))?;
        let mut found = begin.prepare("SELECT first, last FROM runs")?;
        let cursor = |int| Cursor(number(int));
        let earlier = found.query_map((), |row| Ok((cursor(row.get(0)?), cursor(row.get(1)?))))?;
        let earlier = earlier.collect::<rusqlite::Result<Vec<_>>>()?;
        drop(found);
        begin.execute("INSERT INTO runs VALUES (?1, ?1)", (head,))?;
        begin.commit()?;
        Ok(Self { current: tail.head, earlier })
    }

    /// Whether a run gave out this cursor; the caller compares it with the head.
    pub(super) fn gave_out(&self, cursor: Cursor) -> bool {
        let is_within = |(first, last): &(Cursor, Cursor)| (*first..=*last).contains(&cursor);
        cursor >= self.current || self.earlier.iter().any(is_within)
    }
}
