//! Writes values to columns, and reads columns whose content may be damaged.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::presence::{Record, Timestamp, UserId};
use crate::store::log::json;

/// Stands for a user id that is damaged so that nothing of it can be shown.
const UNREADABLE: &str = "unreadable-id";
/// How many letters of a damaged user id are shown.
const SHOWN_MAX: usize = 64;

/// When a user is next due: on the time of the run that wrote it, and on the wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) running: Option<Timestamp>,
    pub(super) wall: Option<Timestamp>,
}

impl Due {
    pub(super) fn of(record: &Record, wall: Option<Timestamp>) -> Self {
        Self { running: record.deadlines().map(|(_, at)| at).min(), wall }
    }
}

/// A number as SQLite stores it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that SQLite stored; none of ours is negative.
pub(super) fn number(int: i64) -> u64 {
    u64::try_from(int).unwrap_or_default()
}

/// A time as SQLite stores it.
pub(super) fn millis(at: Timestamp) -> i64 {
    int(at.as_millis())
}

/// The checksum that stands beside a text.
pub(super) fn crc(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// A value as JSON, and the checksum that stands beside it.
pub(super) fn note(value: &impl Serialize) -> (Arc<str>, u32) {
    let json = json(value);
    let crc = crc(&json);
    (json, crc)
}

/// Reads a [`note`] whose checksum is in the next column; `None` if it is damaged.
pub(super) fn note_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>> {
    let json = whole(row, column, column + 1)?;
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
}

/// A text whose checksum is in another column; `None` if the two do not match.
pub(super) fn whole(row: &Row<'_>, text: usize, crc: usize) -> Result<Option<String>> {
    let text = bytes(row, text)?;
    let is_whole = row.get_ref(crc)?.as_i64() == Ok(crc32fast::hash(text).into());
    Ok(if is_whole { String::from_utf8(text.to_vec()).ok() } else { None })
}

/// A column's bytes; empty if it holds a number or NULL.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_bytes().unwrap_or_default())
}

/// A column's number; `None` if it holds NULL or, being damaged, something else.
pub(super) fn number_at(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
    Ok(row.get_ref(column)?.as_i64().ok().map(number))
}

/// A column's time; `None` as for [`number_at`].
pub(super) fn time_at(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(number_at(row, column)?.map(Timestamp::from_millis))
}

/// A column's user id, and whether it is whole; of a damaged one, what can be printed.
pub(super) fn user_at(row: &Row<'_>, column: usize) -> Result<(UserId, bool)> {
    let text = std::str::from_utf8(bytes(row, column)?);
    if let Ok(Ok(user)) = text.map(UserId::stored) {
        return Ok((user, matches!(row.get_ref(column)?, ValueRef::Text(_))));
    }
    let text = String::from_utf8_lossy(bytes(row, column)?);
    let letters: String = text.chars().filter(char::is_ascii_graphic).take(SHOWN_MAX).collect();
    let user = letters.parse().or_else(|_| UNREADABLE.parse());
    Ok((user.unwrap_or_else(|_| unreachable!("it is an id")), false))
}
