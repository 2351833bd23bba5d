//! Places in lists, as calls give them out in `next` and take them back.
//!
//! Clients pass them on unread. A place says which list it is of, and bears a
//! checksum, so that a mistyped one, or another list's, is refused: a page that silently begins
//! somewhere else would look like the end, or leave users out.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::presence::UserId;
use crate::store::Cursor;

/// What a place begins with; another form would have another.
const FORM: u8 = 1;
/// How many bytes the checksum has.
const CHECKSUM_BYTES: usize = 4;

/// The lists that have places.
pub(crate) const SNAPSHOT: u8 = b's';
pub(crate) const USERS: u8 = b'u';
pub(crate) const SESSIONS: u8 = b't';
pub(crate) const WATCHERS: u8 = b'w';
pub(crate) const HISTORY: u8 = b'h';
pub(crate) const DEAD: u8 = b'd';

/// A place in one of the lists above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place<const LIST: u8> {
    /// The last user that was read; of watchers, who is watched; of a history, whose it is.
    pub(crate) user: UserId,
    /// How much of that user's was read; of what is in the log, the last cursor.
    pub(crate) read: u64,
}

impl<const LIST: u8> Place<LIST> {
    /// After all of a user's.
    pub(crate) const fn after(user: UserId) -> Self {
        Self { user, read: u64::MAX }
    }
}

impl<const LIST: u8> fmt::Display for Place<LIST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORM, LIST];
        bytes.extend_from_slice(&self.read.to_be_bytes());
        bytes.extend_from_slice(self.user.as_str().as_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// A text that is not a place of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPlace;

impl<const LIST: u8> FromStr for Place<LIST> {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NoPlace)?;
        let (said, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(NoPlace)?;
        if crc32fast::hash(said) != u32::from_be_bytes(*checksum) {
            return Err(NoPlace);
        }
        let (read, user) = said
            .strip_prefix(&[FORM, LIST])
            .and_then(<[u8]>::split_first_chunk::<8>)
            .ok_or(NoPlace)?;
        let user = str::from_utf8(user).ok().and_then(|user| UserId::stored(user).ok());
        Ok(Self { user: user.ok_or(NoPlace)?, read: u64::from_be_bytes(*read) })
    }
}

impl<const LIST: u8> Serialize for Place<LIST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const LIST: u8> Deserialize<'de> for Place<LIST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the `next` of a page of this list, as it was given out";
        deserializer.deserialize_str(Read { expected, read: |text: &str| text.parse().ok() })
    }
}

/// A place in the log, which is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub(crate) struct LogPlace(pub(crate) Cursor);

impl LogPlace {
    /// Reads one as the hub writes it: digits alone.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let cursor: Cursor = text.parse().ok()?;
        (cursor.to_string() == text).then_some(Self(cursor))
    }
}

impl<'de> Deserialize<'de> for LogPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a cursor of the log, as it was given out";
        deserializer.deserialize_str(Read { expected, read: Self::read })
    }
}

/// Where to begin to read the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// At its end, whatever that is.
    Now,
    /// After an entry.
    Entry(Cursor),
}

impl PartialSchema for After {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for After {}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text {
            "now" => Some(Self::Now),
            _ => LogPlace::read(text).map(|LogPlace(cursor)| Self::Entry(cursor)),
        };
        let expected = "a cursor of the log, as it was given out, or \"now\"";
        deserializer.deserialize_str(Read { expected, read })
    }
}

/// Reads a text, and says what was expected where it cannot.
struct Read<F> {
    expected: &'static str,
    read: F,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Read<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
