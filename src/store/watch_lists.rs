//! The interface for the users' watch lists.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::StoreError;
use crate::presence::{NodeId, UserId, WatchList, WatchListChange};

/// Keeps the users' watch lists (P8). They are no part of the records: no change of a user reads them.
pub trait WatchLists: Send + Sync + 'static {
    /// A user's watch list. Most users have none: it is empty. So is a damaged one, which is counted and logged:
    /// it must give nobody a right.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn watch_list<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>>;

    /// Changes a user's watch list, and tells the other nodes. Returns the new list; `None` if it would have more
    /// than `max` users, and so was not changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Retired`]. [`StoreError::Unavailable`]: the change may have been written or not; it may be
    /// repeated.
    fn change_watch_list<'a>(
        &'a self,
        node: NodeId,
        user: &'a UserId,
        change: WatchListChange,
        max: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>>;
}
