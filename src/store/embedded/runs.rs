//! The cursors that each run gave out.

use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::{int, number};
use super::notes;
use super::tail::Tail;
use crate::presence::Timestamp;
use crate::store::Cursor;

/// The cursors that this log gave out: each run has a range of its own. Cursors between two ranges are not
/// valid: a run may have given them out, and lost them to a power cut or a restored backup.
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
        connection: &mut Connection,
        tail: &mut Tail,
        wall: Timestamp,
    ) -> Result<Self> {
        let last = tail.head;
        let is_new = last == Cursor::default();
        tail.head = Cursor::of_new_run(last, wall);
        if is_new {
            tail.log_before = tail.head;
        }
        // A webhook's position may be past the head, if a power cut undid the end of the log.
        tail.position = tail.position.map(|position| position.min(last));
        let begin = connection.transaction()?;
        tail.write(&begin)?;
        for (webhook, position) in notes::positions(&begin)? {
            if position > last {
                notes::save_position(&begin, &webhook, last)?;
            }
        }
        if !is_new {
            let first = "SELECT first FROM runs ORDER BY first DESC LIMIT 1";
            let first: Option<i64> = begin.query_row(first, (), |row| row.get(0)).optional()?;
            let first = first.unwrap_or(int(tail.log_before.0));
            begin.execute("INSERT OR REPLACE INTO runs VALUES (?1, ?2)", (first, int(last.0)))?;
        }
        begin.execute("DELETE FROM runs WHERE last < ?1", (int(tail.log_before.0),))?;
        let mut found = begin.prepare("SELECT first, last FROM runs")?;
        let cursor = |int| Cursor(number(int));
        let earlier = found.query_map((), |row| Ok((cursor(row.get(0)?), cursor(row.get(1)?))))?;
        let earlier = earlier.collect::<Result<Vec<_>>>()?;
        drop(found);
        begin.execute("INSERT INTO runs VALUES (?1, ?1)", (int(tail.head.0),))?;
        begin.commit()?;
        Ok(Self { current: tail.head, earlier })
    }

    /// Whether a run gave out this cursor; the caller compares it with the head.
    pub(super) fn gave_out(&self, cursor: Cursor) -> bool {
        let is_within = |(first, last): &(Cursor, Cursor)| (*first..=*last).contains(&cursor);
        cursor >= self.current || self.earlier.iter().any(is_within)
    }
}
