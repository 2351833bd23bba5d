//! The dashboard's logins: on this hub and, if several hubs share a store, on all of them.

use std::sync::Arc;

use crate::auth::{DashboardLogin, KeyMark, LOGIN_TTL, LOGINS_MAX, Logins};
use crate::presence::Timestamp;
use crate::store::{SharedLogin, SharedLogins, StoreError};

/// The logins at the dashboard.
pub(crate) struct DashboardLogins {
    /// Those that were made at this hub.
    here: Logins,
    /// Those of all hubs.
    shared: Option<Arc<dyn SharedLogins>>,
}

impl DashboardLogins {
    pub(crate) fn new(shared: Option<Arc<dyn SharedLogins>>) -> Self {
        Self { here: Logins::default(), shared }
    }

    /// Logs in with a key; returns the id for the cookie. While the store is away the login counts on this hub only.
    pub(crate) async fn begin(&self, key: KeyMark, now: Timestamp) -> String {
        let id = self.here.begin(key, now);
        if let Some(shared) = &self.shared {
            let (digest, key) = (KeyMark::of(&id).to_hex(), key.to_hex());
            let saved = shared.save_login(&digest, &key, LOGIN_TTL, LOGINS_MAX).await;
            if let Err(error) = saved {
                tracing::warn!(%error, "dashboard login not saved, it counts on this hub only");
            }
        }
        id
    }

    /// Finds the login with an id, unless it has ended. While the store is away, the logins that were made here count.
    pub(crate) async fn find(&self, id: &str, now: Timestamp) -> Option<DashboardLogin> {
        let Some(shared) = &self.shared else { return self.here.find(id, now) };
        match shared.login(&KeyMark::of(id).to_hex()).await {
            Ok(found) => found.and_then(|SharedLogin { key, left }| {
                Some(DashboardLogin { key: KeyMark::from_hex(&key)?, expires: now + left })
            }),
            Err(_) => self.here.find(id, now),
        }
    }

    /// Ends a login.
    pub(crate) async fn end(&self, id: &str) -> Result<(), StoreError> {
        self.here.end(id);
        match &self.shared {
            Some(shared) => shared.end_login(&KeyMark::of(id).to_hex()).await,
            None => Ok(()),
        }
    }

    /// Ends the logins of all keys except those that are kept. Each hub also checks the key of every login.
    pub(crate) fn keep(&self, is_kept: impl Fn(KeyMark) -> bool) {
        self.here.keep(is_kept);
    }
}
