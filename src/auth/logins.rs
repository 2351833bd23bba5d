//! Who is logged in at the dashboard.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;

use super::KeyMark;
use crate::presence::Timestamp;

/// How long a login lives.
pub const LOGIN_TTL: Duration = Duration::from_secs(8 * 3600);
/// How many logins a key may have; another one takes the place of its earliest.
pub const LOGINS_MAX: usize = 100;
/// How many bytes of chance name a login.
const ID_BYTES: usize = 32;

/// Who is logged in at the dashboard: each login stands for the key that made it.
///
/// They are kept in memory alone, by the digest of their ids, so that neither a look at the memory
/// nor the time that a look-up takes tells an id.
#[derive(Debug, Default)]
pub struct Logins(Mutex<BTreeMap<KeyMark, Login>>);

/// Somebody who is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// By which key.
    pub key: KeyMark,
    /// Until when.
    pub expires: Timestamp,
}

impl Logins {
    /// Logs a key's bearer in; returns the id to come back with.
    pub fn begin(&self, key: KeyMark, now: Timestamp) -> String {
        let id = HEXLOWER.encode(&rand::random::<[u8; ID_BYTES]>());
        let mut logins = self.0.lock();
        logins.retain(|_, login| login.expires > now);
        let of_key = || logins.iter().filter(|(_, login)| login.key == key);
        if of_key().count() >= LOGINS_MAX {
            let earliest = of_key().min_by_key(|(_, login)| login.expires).map(|(id, _)| *id);
            earliest.map(|earliest| logins.remove(&earliest));
        }
        logins.insert(KeyMark::of(&id), Login { key, expires: now + LOGIN_TTL });
        id
    }

    /// Finds who comes back.
    pub fn find(&self, id: &str, now: Timestamp) -> Option<Login> {
        let login = self.0.lock().get(&KeyMark::of(id)).copied();
        login.filter(|login| login.expires > now)
    }

    /// Logs somebody out.
    pub fn end(&self, id: &str) {
        self.0.lock().remove(&KeyMark::of(id));
    }

    /// Logs out whoever logged in by a key that is not to be kept.
    pub fn keep(&self, is_kept: impl Fn(KeyMark) -> bool) {
        self.0.lock().retain(|_, login| is_kept(login.key));
    }

    /// How many there are, with those that have expired and were not cleared away yet.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
