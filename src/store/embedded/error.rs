//! Why the store cannot be opened, and what an error of the database means to callers.

use std::io;

use crate::store::StoreError;

/// The database's name in the directory of the store.
pub(super) const DATABASE: &str = "presence.db";

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// Another process has the directory.
    #[error("another hub is running on it: stop that one, or set another store.path")]
    Locked,
    /// The database was made by a later version.
    #[error("it was made by a later version of presence-hub (layout {0})")]
    Newer(i32),
    /// The database was made by a version before the first release.
    #[error(
        "{DATABASE} was made by a version of presence-hub before the first release (layout {0}), \
         which this version cannot read: move the presence.* files away to begin anew"
    )]
    Older(i32),
    /// The database belongs to another program.
    #[error("{DATABASE} is not a database of presence-hub")]
    Foreign,
    /// The files are damaged, or something that was committed is missing.
    #[error(
        "{DATABASE} is damaged ({0}): bring back a copy of all the presence.* files, or move them away \
         to begin anew"
    )]
    Damaged(String),
    /// SQLite refused.
    #[error("{DATABASE}: {0}")]
    Database(rusqlite::Error),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::unavailable(&error)
    }
}

impl From<rusqlite::Error> for OpenFault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType};
        let is_mistyped = matches!(error, InvalidColumnType(..) | FromSqlConversionFailure(..));
        if is_damage(&error) || is_mistyped {
            return Self::Damaged(error.to_string());
        }
        Self::Database(error)
    }
}
/// Whether the disk failed to sync: the kernel may have dropped what was written, and another sync would
/// only hide that.
pub(super) fn is_failed_sync(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}

/// Whether SQLite found the file's structure damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}
