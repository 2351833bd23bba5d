//! The file in which a memory store saves the latest time for the next run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::presence::Timestamp;

const NAME: &str = "presence.time";

/// The file with the latest time. The next run's clock does not begin before it.
#[derive(Debug)]
pub(super) struct SavedTime(File);

impl SavedTime {
    /// Opens or creates the file, and reads the time that the run before saved; 0 if there is none.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Timestamp)> {
        fs::create_dir_all(directory)?;
        let path = directory.join(NAME);
        let latest = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        Ok((Self(file), Timestamp::from_millis(latest.unwrap_or_default())))
    }

    /// Overwrites the time.
    pub(super) fn write(&self, now: Timestamp) -> io::Result<()> {
        self.0.write_all_at(format!("{:020}\n", now.as_millis()).as_bytes(), 0)
    }
}
