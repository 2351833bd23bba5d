//! The interface for dashboard logins that count on every hub.

use std::time::Duration;

use futures::future::BoxFuture;

use super::StoreError;

/// Shares the dashboard's logins between hubs. Only a store of several hubs has it; a single hub remembers its
/// logins itself.
pub trait SharedLogins: Send + Sync + 'static {
    /// Saves a login by the digest of its id, for `ttl`. Of the logins with one key, only the latest `most` stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn save_login<'a>(
        &'a self,
        id: &'a str,
        key: &'a str,
        ttl: Duration,
        most: usize,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Finds the login with an id, unless it has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn login<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<SharedLogin>, StoreError>>;

    /// Ends a login.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn end_login<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A login at the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLogin {
    /// The digest of the key that was used.
    pub key: String,
    /// How long it still lives.
    pub left: Duration,
}
