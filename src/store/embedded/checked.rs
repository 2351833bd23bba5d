//! Reads columns whose content may be damaged: with a CRC-32 beside a text, and numbers by their type.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::schema::number;
use crate::presence::UserId;
use crate::store::log::json;

/// Stands for a user id that was damaged so that nothing of it can be shown.
const UNREADABLE: &str = "unreadable-id";

/// A note in JSON with the CRC-32 of all else in it; one that an earlier version wrote has none.
#[derive(Serialize, Deserialize)]
struct Note<T> {
    #[serde(flatten)]
    of: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc: Option<u32>,
}

pub(super) fn crc(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// A text whose CRC-32 stands in another column; `None` if the two do not fit.
pub(super) fn whole(row: &Row<'_>, text: usize, crc: usize) -> rusqlite::Result<Option<String>> {
    let text = bytes(row, text)?;
    let is_whole = row.get_ref(crc)?.as_i64() == Ok(crc32fast::hash(text).into());
    Ok(if is_whole { String::from_utf8(text.to_vec()).ok() } else { None })
}

/// A column's bytes; none if it holds a number or NULL.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_bytes().unwrap_or_default())
}

/// A column's number; `None` if it holds NULL or, being damaged, something else.
pub(super) fn number_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get_ref(column)?.as_i64().ok().map(number))
}

/// A user id in a column, and whether it is whole; of a damaged one, what can be printed.
pub(super) fn user_at(row: &Row<'_>, column: usize) -> rusqlite::Result<(UserId, bool)> {
    let text = std::str::from_utf8(bytes(row, column)?);
    if let Ok(Ok(user)) = text.map(UserId::stored) {
        return Ok((user, matches!(row.get_ref(column)?, ValueRef::Text(_))));
    }
    let text = String::from_utf8_lossy(bytes(row, column)?);
    let letters: String = text.chars().filter(char::is_ascii_graphic).take(64).collect();
    let user = letters.parse().or_else(|_| UNREADABLE.parse());
    Ok((user.unwrap_or_else(|_| unreachable!("it is an id")), false))
}

/// Writes a note, so that a byte of it that is changed is noticed.
pub(super) fn note<T: Serialize>(of: &T) -> Arc<str> {
    json(&Note { of, crc: Some(crc(&json(of))) })
}

/// Reads a note; `None` if it is damaged.
pub(super) fn read_note<T: Serialize + DeserializeOwned>(text: &[u8]) -> Option<T> {
    let Note { of, crc: noted } = serde_json::from_slice::<Note<T>>(text).ok()?;
    let is_whole = noted.is_none_or(|noted| noted == crc(&json(&of)));
    is_whole.then_some(of)
}
