//! Page tokens: the opaque `next` of a page, which clients send to get the next one.
//!
//! A token contains the list it belongs to and a checksum, so that a mistyped token, or one of another
//! list, is refused: a page from a wrong position would look like the end, or skip users.

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

/// The first byte of a token: the version of its format.
const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// The lists that have page tokens.
pub(crate) const SNAPSHOT: u8 = b's';
pub(crate) const USERS: u8 = b'u';
pub(crate) const SESSIONS: u8 = b't';
pub(crate) const WATCHERS: u8 = b'w';
pub(crate) const HISTORY: u8 = b'h';
pub(crate) const DEAD: u8 = b'd';

/// A position in one of the lists above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageToken<const LIST: u8> {
    /// The last user of the page. For `WATCHERS` the watched user, for `HISTORY` the history's user,
    /// for `DEAD` the user of the last dead letter.
    pub(crate) user: UserId,
    /// The number of this user's sessions read so far. For `WATCHERS` the serial number of the last
    /// connection, for `HISTORY` and `DEAD` the last cursor.
    pub(crate) read: u64,
}

impl<const LIST: u8> PageToken<LIST> {
    /// The position after everything of a user.
    pub(crate) const fn after(user: UserId) -> Self {
        Self { user, read: u64::MAX }
    }
}

impl<const LIST: u8> fmt::Display for PageToken<LIST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORMAT, LIST];
        bytes.extend_from_slice(&self.read.to_be_bytes());
        bytes.extend_from_slice(self.user.as_str().as_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is not a page token of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidPageToken;

impl<const LIST: u8> FromStr for PageToken<LIST> {
    type Err = InvalidPageToken;

    fn from_str(text: &str) -> Result<Self, InvalidPageToken> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidPageToken)?;
        let (content, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvalidPageToken)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
            return Err(InvalidPageToken);
        }
        let (read, user) = content
            .strip_prefix(&[FORMAT, LIST])
            .and_then(<[u8]>::split_first_chunk::<8>)
            .ok_or(InvalidPageToken)?;
        let user = str::from_utf8(user).ok().and_then(|user| UserId::stored(user).ok());
        Ok(Self { user: user.ok_or(InvalidPageToken)?, read: u64::from_be_bytes(*read) })
    }
}

impl<const LIST: u8> Serialize for PageToken<LIST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const LIST: u8> Deserialize<'de> for PageToken<LIST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the `next` of a page of this list, as it was given out";
        deserializer.deserialize_str(TextVisitor { expected, read: |text: &str| text.parse().ok() })
    }
}

/// A cursor of the transition log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub(crate) struct LogCursor(pub(crate) Cursor);

impl LogCursor {
    /// Parses a cursor exactly as the hub writes it: digits only, no leading zero.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let cursor: Cursor = text.parse().ok()?;
        (cursor.to_string() == text).then_some(Self(cursor))
    }
}

impl<'de> Deserialize<'de> for LogCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a cursor of the log, as it was given out";
        deserializer.deserialize_str(TextVisitor { expected, read: Self::read })
    }
}

/// The position to read the transition log from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The end of the log.
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
            _ => LogCursor::read(text).map(|LogCursor(cursor)| Self::Entry(cursor)),
        };
        let expected = "a cursor of the log, as it was given out, or \"now\"";
        deserializer.deserialize_str(TextVisitor { expected, read })
    }
}

/// A visitor that parses a text, or fails with what was expected.
struct TextVisitor<F> {
    expected: &'static str,
    read: F,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for TextVisitor<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
