//! The keys of the server API, with the role of each.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use subtle::{Choice, ConstantTimeEq};

/// How many bytes of a mark are displayed: enough to tell an operator's keys apart.
const SHOWN_BYTES: usize = 4;
/// The bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;
/// What a setting begins with that holds the hash of a key instead of the key.
const HASH_PREFIX: &str = "sha256:";

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
pub struct KeyMark([u8; DIGEST_BYTES]);

/// Why a hash in the configuration is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashFault {
    /// It does not consist of 64 hexadecimal digits.
    #[error(
        "is not a hash: expected 64 hexadecimal digits after \"sha256:\", got {0} characters{1}"
    )]
    Malformed(usize, &'static str),
    /// It is the hash of an empty text, most often of a variable that was not set.
    #[error("is the hash of an empty text: was the variable with the key empty?")]
    OfNothing,
}

impl KeyMark {
    /// The mark of a text.
    pub fn of(text: &str) -> Self {
        let mut mark = [0; DIGEST_BYTES];
        mark.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(mark)
    }

    /// The mark of a key as the configuration has it: the key, or `sha256:` and its hash.
    ///
    /// # Errors
    ///
    /// If it begins with `sha256:`, in any case, and no hash follows.
    pub fn of_setting(text: &str) -> Result<Self, HashFault> {
        let Some(hex) = hash_in(text) else { return Ok(Self::of(text)) };
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok();
        let mark = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            let is_hex = hex.bytes().all(|b| b.is_ascii_hexdigit());
            let other = if is_hex { "" } else { ", some of which are not hexadecimal digits" };
            HashFault::Malformed(hex.chars().count(), other)
        })?;
        if mark == Self::of("") { Err(HashFault::OfNothing) } else { Ok(mark) }
    }

    /// All digits of the digest, which are not shown to anybody.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The mark with these digits; `None` if they are not a digest.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(digits.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// What follows `sha256:` in a setting; `None` for a plain key.
fn hash_in(text: &str) -> Option<&str> {
    let (prefix, hex) = text.split_at_checked(HASH_PREFIX.len())?;
    // Capitals count, too: a text that looks like a hash is meant as one, and is never taken as a plain key.
    prefix.eq_ignore_ascii_case(HASH_PREFIX).then_some(hex)
}

/// Whether a setting holds the hash of a key instead of the key.
pub fn is_hash(text: &str) -> bool {
    hash_in(text).is_some()
}

impl fmt::Display for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0[..SHOWN_BYTES]).fmt(f)
    }
}

/// The keys of the server API, by their marks: a memory dump does not reveal them.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<Bearer>,
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
    /// Collects the keys of each role, each as itself or as its hash. The configuration's check refuses
    /// malformed hashes; here they are no keys.
    pub fn new(viewer: &[String], api: &[String], admin: &[String]) -> Self {
        let with = |texts: &[String], role| -> Vec<_> {
            let marks = texts.iter().filter_map(|text| KeyMark::of_setting(text).ok());
            marks.map(|mark| Bearer { role, mark }).collect()
        };
        let all: [Vec<_>; 3] =
            [with(viewer, Role::Viewer), with(api, Role::Api), with(admin, Role::Admin)];
        Self { keys: all.concat() }
    }

    /// Finds the bearer of a key. Digests are compared, each in constant time, so the time taken does not
    /// reveal how much of the offered key is right.
    pub fn bearer(&self, offered: &str) -> Option<Bearer> {
        let offered = KeyMark::of(offered);
        let mut found: Option<Bearer> = None;
        for bearer in &self.keys {
            let same: Choice = bearer.mark.0.ct_eq(&offered.0);
            // A key that is in several lists has the greatest of their roles.
            if bool::from(same) && found.is_none_or(|found| found.role < bearer.role) {
                found = Some(*bearer);
            }
        }
        found
    }

    /// Finds the bearer of a key by its mark, unless the key was removed.
    pub fn known(&self, mark: KeyMark) -> Option<Bearer> {
        let known = self.keys.iter().filter(|bearer| bearer.mark == mark);
        known.max_by_key(|bearer| bearer.role).copied()
    }
}
