//! The keys to the server API, and what each may do.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use subtle::{Choice, ConstantTimeEq};

/// How many bytes of a mark are shown: enough to tell an operator's keys apart.
const SHOWN_BYTES: usize = 4;

/// What the bearer of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read: the GET calls and `POST /v1/status`.
    Viewer,
    /// Everything that app back ends may do.
    Api,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Api => "api",
            Self::Admin => "admin",
        }
    }
}

/// Names a key without telling it: a digest, of which the beginning is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyMark([u8; 32]);

impl KeyMark {
    /// The mark of a text.
    pub fn of(text: &str) -> Self {
        let mut mark = [0; 32];
        mark.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(mark)
    }
}

impl fmt::Display for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0[..SHOWN_BYTES]).fmt(f)
    }
}

/// The keys to the server API.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    text: String,
    bearer: Bearer,
}

/// Whoever has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// What they may do.
    pub role: Role,
    /// Which key it is.
    pub mark: KeyMark,
}

impl ApiKeys {
    /// Collects the keys of each role.
    pub fn new(viewer: &[String], api: &[String], admin: &[String]) -> Self {
        let with = |texts: &[String], role| -> Vec<_> {
            let key = |text: &String| {
                let bearer = Bearer { role, mark: KeyMark::of(text) };
                Key { text: text.clone(), bearer }
            };
            texts.iter().map(key).collect()
        };
        let all: [Vec<_>; 3] =
            [with(viewer, Role::Viewer), with(api, Role::Api), with(admin, Role::Admin)];
        Self { keys: all.concat() }
    }

    /// Finds who a key's bearer is, in a time that does not tell how much of it was right.
    pub fn bearer(&self, offered: &str) -> Option<Bearer> {
        let mut found: Option<Bearer> = None;
        for Key { text, bearer } in &self.keys {
            let same: Choice = text.as_bytes().ct_eq(offered.as_bytes());
            // A key that stands in two lists opens what the greater role may.
            if bool::from(same) && found.is_none_or(|found| found.role < bearer.role) {
                found = Some(*bearer);
            }
        }
        found
    }

    /// Who the bearer of a key is that was offered before, as long as it is one of these.
    pub fn known(&self, mark: KeyMark) -> Option<Bearer> {
        let known = self.keys.iter().map(|key| key.bearer).filter(|bearer| bearer.mark == mark);
        known.max_by_key(|bearer| bearer.role)
    }
}
