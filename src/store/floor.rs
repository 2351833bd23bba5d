use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::presence::Timestamp;

/// The file's name in the directory.
const NAME: &str = "presence.time";

/// The latest time of a run whose store keeps nothing else.
#[derive(Debug)]
pub(super) struct Floor(File);

impl Floor {
    /// Opens the file, and reads what the run before left: the beginning of time where there was none.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Timestamp)> {
        fs::create_dir_all(directory)?;
        let path = directory.join(NAME);
        let latest = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        Ok((Self(file), Timestamp::from_millis(latest.unwrap_or_default())))
    }

    /// Writes a time in place.
    pub(super) fn write(&self, now: Timestamp) -> io::Result<()> {
        self.0.write_all_at(format!("{:020}\n", now.as_millis()).as_bytes(), 0)
    }
}
