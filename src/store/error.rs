//! The errors of a store.

use super::Revision;
use crate::presence::Rescued;

/// An error of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another commit came first; nothing was written.
    #[error("revision conflict: another commit changed the record")]
    Conflict,
    /// The entries after the cursor were trimmed, or this log never issued the cursor.
    #[error("the cursor has expired, or this log never issued it")]
    CursorExpired,
    /// The record is not readable. Other users are not affected.
    #[error("the user's record is damaged")]
    Damaged {
        /// The revision that a replacing commit must expect.
        revision: Revision,
        /// What is still readable.
        rescued: Rescued,
    },
    /// This node was given up for dead, and other nodes have taken over its sessions: nothing is accepted
    /// from it any more.
    #[error("other hubs have taken over this hub's sessions")]
    Retired,
    /// The store failed.
    #[error("the store is unavailable: {cause}")]
    Unavailable {
        /// The cause, for the log.
        cause: String,
    },
}

impl StoreError {
    /// Makes [`Unavailable`](Self::Unavailable) from its cause.
    pub fn unavailable(cause: &impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string() }
    }
}
