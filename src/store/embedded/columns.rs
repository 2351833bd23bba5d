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

/// The checksum of a text that belongs to a user: it covers the user's id as well, so that damage of
/// either shows.
pub(super) fn user_crc(user: &UserId, text: &str) -> u32 {
    crc_of(user.as_str().as_bytes(), text.as_bytes())
}

fn crc_of(user: &[u8], text: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(user);
    crc.update(text);
    crc.finalize()
}

/// A value as JSON, and the checksum that stands beside it.
pub(super) fn note(value: &impl Serialize) -> (Arc<str>, u32) {
    let json = json(value);
    let crc = crc32fast::hash(json.as_bytes());
    (json, crc)
}

/// Reads a [`note`] whose checksum is in the next column; `None` if it is damaged.
pub(super) fn note_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>> {
    let json = whole(row, &[], column, column + 1)?;
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
}

/// Reads a text that belongs to a user, from the columns with the user's id, the [`user_crc`] and the
/// text; `None` if one of the three is damaged.
pub(super) fn text_of_user(row: &Row<'_>, first: usize) -> Result<Option<String>> {
    whole(row, bytes(row, first)?, first + 2, first + 1)
}

fn whole(row: &Row<'_>, user: &[u8], text: usize, crc: usize) -> Result<Option<String>> {
    let text = bytes(row, text)?;
    let is_whole = row.get_ref(crc)?.as_i64() == Ok(crc_of(user, text).into());
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
