//! The ids of users, devices, sessions, events, hubs and connections.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// The maximum length of a user id or a device id, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// An account, as the app's back end names it in a token's `sub`.
///
/// 1 to 128 bytes of UTF-8 without control characters, no white space at either end, neither `.` nor
/// `..`; compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[schema(value_type = String)]
pub struct UserId(Arc<str>);

/// A text that is not a valid user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user id has 1 to 128 bytes, no control characters, and no white space at its ends; `.` and `..` \
     are not allowed, because clients remove them from a URL's path"
)]
pub struct InvalidUser;

impl UserId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads an id from the store. It may be `.` or `..`, which earlier versions accepted, so that
    /// their records and events can still be read.
    ///
    /// # Errors
    ///
    /// If no version would have stored it.
    pub fn stored(text: &str) -> Result<Self, InvalidUser> {
        let sized = (1..=ID_BYTES_MAX).contains(&text.len());
        let clean = !text.chars().any(char::is_control) && text.trim() == text;
        if sized && clean { Ok(Self(text.into())) } else { Err(InvalidUser) }
    }
}

/// The text has the same order and hash as the id, as `Borrow` requires.
impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = InvalidUser;

    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        // URL parsers remove these path segments before a request is sent, even if written as `%2e`.
        if matches!(text, "." | "..") { Err(InvalidUser) } else { Self::stored(text) }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads as [`UserId::stored`]; requests carry plain texts, which are parsed.
impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One installation (a phone, a browser profile, a mini-program install), named by the client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[schema(value_type = String)]
pub struct DeviceId(Arc<str>);

/// A text that is not a valid device id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device id has 1 to 128 bytes")]
pub struct InvalidDevice;

impl DeviceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        if (1..=ID_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidDevice)
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An id of 128 bits, written as 32 hexadecimal digits.
macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                HEXLOWER.encode_display(&self.0.to_be_bytes()).fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() != 32 || !text.bytes().all(hexadecimal) {
                    return Err(NotAnId);
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| NotAnId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // Records and events have several ids each, so this does not allocate a string.
                let digits = &mut [0; 32];
                serializer.serialize_str(HEXLOWER.encode_mut_str(&self.0.to_be_bytes(), digits))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A text that is not an id of 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of 32 hexadecimal digits")]
pub struct NotAnId;

id128! {
    /// The id of a session: one login on one device, across reconnects.
    SessionId
}

id128! {
    /// The id of an event, made before it is applied, so that applying it twice has no further effect.
    EventId
}

/// The id of one run of one hub process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The id of a connection, unique across nodes and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId {
    /// The process that has the socket; if that process died, the one that took over.
    pub node: NodeId,
    /// The connection's number within that process.
    pub serial: u64,
}
