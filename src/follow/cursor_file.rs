//! The file with the position in the log.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::fault::{Fault, other};
use crate::store::Cursor;

/// A cursor file that no other process uses.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    /// The next content, before it is renamed.
    temporary: PathBuf,
    directory: File,
    /// Locked for as long as it is open. A file of its own, because the cursor file is replaced.
    _lock: File,
}

impl CursorFile {
    /// Locks the file, which need not exist yet.
    ///
    /// # Errors
    ///
    /// If its directory cannot be used, or another process uses the file.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let fault = |error: io::Error| other(format!("--cursor {}: {error}", path.display()));
        let path = std::path::absolute(path).map_err(fault)?;
        let directory = path.parent().unwrap_or(&path);
        let directory = File::open(directory).map_err(fault)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(with_suffix(&path, ".lock")).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(other(format!(
                    "--cursor {}: another `presence-hub follow` uses this file; stop that one, or \
                     name another file",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let temporary = with_suffix(&path, ".new");
        Ok(Self { path, temporary, directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The saved position; `None` if there is no file yet.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has no cursor.
    pub(super) fn read(&self) -> Result<Option<Cursor>, Fault> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault(&error)),
        };
        let cursor = text.trim().parse().map(Some);
        cursor.map_err(|_| {
            other(format!(
                "--cursor {}: expected the cursor that this command has written, a number; to begin \
                 with the oldest event in the log, delete the file",
                self.path.display()
            ))
        })
    }

    /// Saves a position so that it survives a power cut: the file has the old one or the new one.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn save(&self, cursor: Cursor) -> Result<(), Fault> {
        self.replace(cursor).map_err(|error| self.fault(&error))
    }

    fn replace(&self, cursor: Cursor) -> io::Result<()> {
        let mut options = File::options();
        let file = options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = file.open(&self.temporary)?;
        writeln!(file, "{cursor}")?;
        file.sync_data()?;
        fs::rename(&self.temporary, &self.path)?;
        self.directory.sync_all()
    }

    fn fault(&self, error: &io::Error) -> Fault {
        other(format!("--cursor {}: {error}", self.path.display()))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
