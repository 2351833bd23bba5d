//! A temporary directory for the commands that start a hub of their own.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that only this user may enter. It is removed when it is dropped.
#[derive(Debug)]
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Makes an empty directory with a name that no other has.
    ///
    /// # Errors
    ///
    /// If the system's directory for temporary files cannot be written.
    pub fn new() -> io::Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let (parent, process) = (std::env::temp_dir(), process::id());
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("presence-hub-{process}-{serial}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
                made => return made.map(|()| Self(path)),
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
