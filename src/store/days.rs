//! The interface for the figures of each day.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::StoreError;

/// The number of a day since 1970, and its figures as a text.
pub type Day = (u32, Arc<str>);

/// Keeps the figures of each day, which only their writer reads as more than a text.
pub trait Days: Send + Sync + 'static {
    /// The days from a number on that have figures, in order. A damaged one is left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn days(&self, from: u32) -> BoxFuture<'_, Result<Vec<Day>, StoreError>>;

    /// Replaces the figures of a day, and deletes those of days before `keep_from`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if it is another node's turn; nothing was written.
    /// [`StoreError::Unavailable`].
    fn save_day(
        &self,
        day: u32,
        figures: Arc<str>,
        keep_from: u32,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether it is this node that counts: of several nodes, one at a time. Receivers are notified of changes.
    fn days_turn(&self) -> watch::Receiver<bool>;
}
