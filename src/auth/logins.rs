//! The logins of the dashboard: who is logged in, by which key, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;

use super::KeyMark;
use crate::presence::Timestamp;

/// How long a login lives.
pub const LOGIN_TTL: Duration = Duration::from_secs(8 * 3600);
/// The maximum number of logins with one key; a further login replaces the earliest.
pub const LOGINS_MAX: usize = 100;
/// The number of random bytes in a login's id.
const ID_BYTES: usize = 32;

/// The logins of the dashboard, each with the rights of the key that made it.
///
/// They are kept in memory only, by the digest of their ids, so that neither a memory dump nor the
/// duration of a lookup reveals an id.
#[derive(Debug, Default)]
pub struct Logins(Mutex<BTreeMap<KeyMark, DashboardLogin>>);

/// A login at the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DashboardLogin {
    /// The mark of the key that was used.
    pub key: KeyMark,
    /// When the login expires.
    pub expires: Timestamp,
}

impl Logins {
    /// Logs in with a key; returns the new login's id, which goes into a cookie.
    pub fn begin(&self, key: KeyMark, now: Timestamp) -> String {
        let id = HEXLOWER.encode(&rand::random::<[u8; ID_BYTES]>());
        let mut logins = self.0.lock();
        logins.retain(|_, login| login.expires > now);
        let of_key = || logins.iter().filter(|(_, login)| login.key == key);
        if of_key().count() >= LOGINS_MAX {
            let earliest = of_key().min_by_key(|(_, login)| login.expires).map(|(id, _)| *id);
            earliest.map(|earliest| logins.remove(&earliest));
        }
        logins.insert(KeyMark::of(&id), DashboardLogin { key, expires: now + LOGIN_TTL });
        id
    }

    /// Finds the login with an id, unless it has expired.
    pub fn find(&self, id: &str, now: Timestamp) -> Option<DashboardLogin> {
        let login = self.0.lock().get(&KeyMark::of(id)).copied();
        login.filter(|login| login.expires > now)
    }

    /// Ends a login.
    pub fn end(&self, id: &str) {
        self.0.lock().remove(&KeyMark::of(id));
    }

    /// Ends the logins of all keys except those that are kept.
    pub fn keep(&self, is_kept: impl Fn(KeyMark) -> bool) {
        self.0.lock().retain(|_, login| is_kept(login.key));
    }

    /// The number of logins, including expired ones that were not removed yet.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there are no logins.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
