//! Where the log ends, and the counts.

use rusqlite::{Connection, Result, params};

use super::columns::{int, note, note_at, number};
use super::queries;
use crate::store::{Cursor, Totals};

/// Where the log ends, and the counts: the one row of the table `state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Counts commits, and transactions without one.
    pub(super) revision: u64,
    pub(super) head: Cursor,
    pub(super) totals: Totals,
    /// How many entries and bytes the log has had from the first ever on.
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// The cursor before the first entry that is kept.
    pub(super) log_before: Cursor,
    /// The webhook's position in the log; `None` without a webhook.
    pub(super) position: Option<Cursor>,
}

impl Tail {
    /// Reads the row; counts that are damaged are counted anew.
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let sql = "SELECT revision, head, entries, bytes, log_before, totals, crc,
                   position FROM state";
        let (mut tail, is_counted) = connection.query_row(sql, (), |row| {
            let totals = note_at(row, 5)?;
            let position: Option<i64> = row.get(7)?;
            let tail = Self {
                revision: number(row.get(0)?),
                head: Cursor(number(row.get(1)?)),
                totals: totals.unwrap_or_default(),
                entries: number(row.get(2)?),
                bytes: number(row.get(3)?),
                log_before: Cursor(number(row.get(4)?)),
                position: position.map(|position| Cursor(number(position))),
            };
            Ok((tail, totals.is_some()))
        })?;
        if !is_counted {
            tail.totals = queries::recount(connection)?;
        }
        Ok(tail)
    }

    /// Writes the row.
    pub(super) fn write(&self, connection: &Connection) -> Result<()> {
        let sql = "UPDATE state SET revision = ?1, head = ?2, entries = ?3, bytes = ?4,
                   log_before = ?5, totals = ?6, crc = ?7, position = ?8";
        let Self { revision, head, totals, entries, bytes, log_before, position } = self;
        let (totals, crc) = note(totals);
        connection.prepare_cached(sql)?.execute(params![
            int(*revision),
            int(head.0),
            int(*entries),
            int(*bytes),
            int(log_before.0),
            totals,
            crc,
            position.map(|position| int(position.0)),
        ])?;
        Ok(())
    }
}
