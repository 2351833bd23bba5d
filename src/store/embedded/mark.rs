//! A file beside the database that says how much was written, so that a cut file is noticed at a start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The mark's name in the directory.
pub(super) const MARK: &str = "presence.mark";

/// How much was written, beside the database: SQLite does not notice when the end of its write-ahead
/// log is cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The id of the boot of the machine.
    pub(super) boot: Box<str>,
    /// The number of the last transaction.
    pub(super) commits: u64,
}

/// Where the mark is written, in place, so that it needs no room on a full disk.
pub(super) struct Marker {
    file: File,
    boot: Box<str>,
}

impl Marker {
    /// Opens the mark, and reads what an earlier run left; the default where there is none, or it is
    /// damaged.
    pub(super) fn open(directory: &Path, boot: &str) -> io::Result<(Self, Mark)> {
        let path = directory.join(MARK);
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let mark = Mark::read(&text);
        if mark.is_none() && !text.is_empty() {
            tracing::error!(
                file = MARK,
                "the mark is damaged: this start cannot tell whether the last changes are missing"
            );
        }
        Ok((Self { file, boot: boot.into() }, mark.unwrap_or_default()))
    }

    /// Writes it, and does not sync it: it is not relied on after the machine was restarted.
    pub(super) fn write(&self, commits: u64) {
        let mark = Mark { boot: self.boot.clone(), commits };
        // Without it everything works, only a file that is cut is not noticed.
        self.file.write_all_at(mark.text().as_bytes(), 0).ok();
    }
}

impl Mark {
    /// Has the same length throughout a boot, so that it is overwritten in place.
    fn text(&self) -> String {
        let Self { boot, commits } = self;
        let text = format!("{boot} {commits:020}");
        format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
    }

    fn read(text: &str) -> Option<Self> {
        let line = text.lines().next()?;
        let (text, crc) = line.rsplit_once(' ')?;
        let (boot, commits) = text.rsplit_once(' ')?;
        let mark = Self { boot: boot.into(), commits: commits.parse().ok()? };
        let is_whole =
            u32::from_str_radix(crc, 16).is_ok_and(|crc| crc == crc32fast::hash(text.as_bytes()));
        is_whole.then_some(mark)
    }
}
