//! The ids of users, devices, sessions, events, hubs and connections.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// The most bytes that a user id or a device id may have.
pub const ID_BYTES_MAX: usize = 128;

/// An account, as the app's back end names it in a token's `sub`.
///
/// 1 to 128 bytes of UTF-8 without control characters, no white space at either end, neither `.` nor
/// `..`; compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[schema(value_type = String)]
pub struct UserId(Arc<str>);

/// A text that cannot name a user.
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

    /// An id as it was stored: `.` and `..` are among them, which earlier versions accepted, so that
    /// their records and events can still be read.
    ///
    /// # Errors
    ///
    /// Where no version would have stored it.
    pub fn stored(text: &str) -> Result<Self, InvalidUser> {
        let sized = (1..=ID_BYTES_MAX).contains(&text.len());
        let clean = !text.chars().any(char::is_control) && text.trim() == text;
        if sized && clean { Ok(Self(text.into())) } else { Err(InvalidUser) }
    }
}

/// By its text, in the same order.
impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = InvalidUser;

    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        // A URL's parser removes these segments, also as `%2e`, before the request is sent.
        if matches!(text, "." | "..") { Err(InvalidUser) } else { Self::stored(text) }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As it was stored: requests bear texts, and parse them.
impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One installation (a phone, a browser profile, a mini-program install), named by the client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[schema(value_type = String)]
pub struct DeviceId(Arc<str>);

/// A text that cannot name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device id is 1 to 128 bytes")]
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
                // Several in each record and event: without a text of its own for each.
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

/// A text that is not an id the hub could have given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of 32 hexadecimal digits")]
pub struct NotAnId;

id128! {
    /// One login on one device; lives until logout, kick or expiry, across reconnects.
    SessionId
}

id128! {
    /// One event, made before it is applied, so that applying it twice is applying it once.
    EventId
}

/// One run of one hub process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One WebSocket, named uniquely over all nodes and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId {
    /// The process that holds its socket; of one that went with its process, whoever took over.
    pub node: NodeId,
    /// Its number there.
    pub serial: u64,
}
