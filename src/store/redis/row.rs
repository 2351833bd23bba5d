//! How a record is stored: `revision(16) last entry(20) wall deadline(16) JSON`, one string for each user.

use std::sync::Arc;

use crate::presence::{Record, Timestamp};
use crate::store::{Revision, StoreError, Stored};

const REVISION: usize = 16;
const LAST: usize = 20;
const WALL: usize = 16;
const HEADER: usize = REVISION + LAST + WALL;
/// The greatest wall deadline that fits: in the year 318,857.
const WALL_MAX: u64 = 9_999_999_999_999_999;

/// The text of a revision in a row. An unknown user's is empty.
pub(super) fn revision_text(revision: Revision) -> String {
    if revision == Revision::default() { String::new() } else { format!("{:016x}", revision.0) }
}

/// What follows the revision and the last entry in a row: the wall deadline and the record. An empty record is
/// not stored.
pub(super) fn tail(record: &Record, wall: Option<Timestamp>) -> String {
    if record.is_empty() {
        return String::new();
    }
    let wall = wall.map(|at| at.as_millis().min(WALL_MAX).to_string()).unwrap_or_default();
    let json = serde_json::to_string(record);
    let json = json.unwrap_or_else(|error| unreachable!("a record makes JSON: {error}"));
    format!("{wall:<WALL$}{json}")
}

/// Reads a row.
pub(super) fn decode(row: &[u8]) -> Result<Stored, StoreError> {
    readable(row).ok_or_else(|| {
        let rest = row.get(HEADER..).unwrap_or_default();
        let rescued = serde_json::from_slice(rest).unwrap_or_default();
        StoreError::Damaged { revision: damaged_revision(row), rescued }
    })
}

fn readable(row: &[u8]) -> Option<Stored> {
    let header = str::from_utf8(row.get(..HEADER)?).ok()?;
    let wall = header.get(REVISION + LAST..)?.trim_end();
    let wall =
        if wall.is_empty() { None } else { Some(Timestamp::from_millis(wall.parse().ok()?)) };
    let record: Record = serde_json::from_slice(&row[HEADER..]).ok()?;
    let revision = revision_of(row)?;
    let is_stored = revision != Revision::default() && !record.is_empty();
    is_stored.then(|| Stored { record: Arc::new(record), wall_deadline: wall, revision })
}

fn revision_of(row: &[u8]) -> Option<Revision> {
    let text = str::from_utf8(row.get(..REVISION)?).ok()?;
    u64::from_str_radix(text, 16).ok().map(Revision)
}

/// The revision of a damaged row; one by its checksum if even that is damaged.
pub(super) fn damaged_revision(row: &[u8]) -> Revision {
    let revision = revision_of(row).filter(|revision| *revision != Revision::default());
    revision.unwrap_or_else(|| Revision(1 << 32 | u64::from(crc32fast::hash(row))))
}

/// The id of the user's last entry in the log, as a row has it.
pub(super) fn last_entry(row: &[u8]) -> Option<&str> {
    let last = str::from_utf8(row.get(REVISION..REVISION + LAST)?).ok()?.trim_end();
    Some(last).filter(|last| last.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::{damaged_revision, decode, last_entry, revision_text, tail};
    use crate::presence::{Record, Rescued, Revocation, Timestamp};
    use crate::store::{Revision, StoreError};

    fn record() -> Record {
        let until = Timestamp::from_millis(5);
        let revoked = Some(Revocation { before_secs: 3, until });
        Record { version: 7, revoked, ..Record::default() }
    }

    fn row(record: &Record, wall: Option<Timestamp>) -> String {
        format!("{}{:<20}{}", revision_text(Revision(0xab)), "12-3", tail(record, wall))
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        for wall in [None, Some(Timestamp::from_millis(1_796_000_000_000))] {
            let row = row(&record(), wall);
            let stored = decode(row.as_bytes()).expect("a record");
            assert_eq!((&*stored.record, stored.wall_deadline), (&record(), wall));
            assert_eq!(stored.revision, Revision(0xab));
            assert_eq!(last_entry(row.as_bytes()), Some("12-3"));
        }
    }

    #[test]
    fn a_damaged_row_keeps_its_revision_and_its_revocation() {
        let row = row(&record(), None).replace("\"version\":7", "\"version\":\"x\"");
        let revoked = record().revoked;
        let rescued = Rescued { revoked, visibility: None };
        let damaged = StoreError::Damaged { revision: Revision(0xab), rescued };
        assert_eq!(decode(row.as_bytes()).map(|_| ()), Err(damaged));
    }

    #[test]
    fn a_row_without_a_readable_revision_has_one_by_its_checksum() {
        for row in ["", "x", &"z".repeat(60), &"0".repeat(60)] {
            let revision = damaged_revision(row.as_bytes());
            assert_ne!(revision, Revision::default());
            let damaged = StoreError::Damaged { revision, rescued: Rescued::default() };
            assert_eq!(decode(row.as_bytes()).map(|_| ()), Err(damaged), "{row}");
        }
    }

    #[test]
    fn an_empty_record_is_not_stored() {
        assert_eq!(tail(&Record::default(), None), "");
    }
}
