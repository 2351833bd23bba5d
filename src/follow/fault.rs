//! Why the command ended.

use std::path::PathBuf;

use crate::store::Cursor;

/// Why the command ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The log does not have the position of the cursor file.
    #[error(
        "{url}: the cursor {cursor} of {file} has expired: the log no longer has all events after it, \
         or never had this cursor. Events may be missing from the output. To continue with the oldest \
         event in the log, run the command again with --from-start",
        file = file.display()
    )]
    Expired {
        /// The hub.
        url: String,
        /// The position.
        cursor: Cursor,
        /// The cursor file.
        file: PathBuf,
    },
    /// Something else that only the operator can change.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// The exit code of the process.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Expired { .. } => 3,
        }
    }
}

/// A fault with this message.
pub(super) fn other(message: String) -> Fault {
    Fault::Other(message)
}
