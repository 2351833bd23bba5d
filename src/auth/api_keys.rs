//! The keys of the server API, with the role of each.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use subtle::{Choice, ConstantTimeEq};

/// How many bytes of a mark are displayed: enough to tell an operator's keys apart.
const SHOWN_BYTES: usize = 4;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reading: the GET calls and `POST /v1/status`.
    Viewer,
    /// All calls for app back ends.
    Api,
    /// All calls.
    Admin,
}

impl Role {
    /// The role's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Api => "api",
            Self::Admin => "admin",
        }
    }
}

/// Identifies a key without revealing it: a SHA-256 digest, of which the beginning is displayed.
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

/// The keys of the server API.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    text: String,
    bearer: Bearer,
}

/// The caller behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// What the caller may do.
    pub role: Role,
    /// The mark of the caller's key.
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

    /// Finds the bearer of a key. Every key is compared in constant time, so the time taken does not
    /// reveal how much of the offered key is right.
    pub fn bearer(&self, offered: &str) -> Option<Bearer> {
        let mut found: Option<Bearer> = None;
        for Key { text, bearer } in &self.keys {
            let same: Choice = text.as_bytes().ct_eq(offered.as_bytes());
            // A key that is in several lists has the greatest of their roles.
            if bool::from(same) && found.is_none_or(|found| found.role < bearer.role) {
                found = Some(*bearer);
            }
        }
        found
    }

    /// Finds the bearer of a key by its mark, unless the key was removed.
    pub fn known(&self, mark: KeyMark) -> Option<Bearer> {
        let known = self.keys.iter().map(|key| key.bearer).filter(|bearer| bearer.mark == mark);
        known.max_by_key(|bearer| bearer.role)
    }
}
