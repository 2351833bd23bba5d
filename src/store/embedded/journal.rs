use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crc32fast::Hasher;
use rustix::fs::{FallocateFlags, fallocate, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ledger::Entry;
use crate::presence::{Due, Timestamp, UserId};

/// Its files' names in the directory.
const FILES: [&str; 2] = ["presence.journal-0", "presence.journal-1"];
/// What a file begins with, before the name of its turn.
const TITLE: &str = "presence-hub journal";
/// What a line begins with: the sum, and a space.
const SUM_BYTES: usize = 9;
/// How long a file grows, at least, before it is the other's turn.
const TURN_BYTES: u64 = 1024 * 1024;
/// How much room is kept for the next commits, so that a disk that has become full shows before one
/// of them fails.
const ROOM_BYTES: usize = 64 * 1024;

/// Commits as they are made, a line each: a commit is answered once the kernel has its line.
///
/// Two files take turns. A file begins with a line that names its turn, and each line after it has the
/// CRC-32 of that name and of the commit, and the commit as JSON. So a line that was cut off ends the
/// turn, and so does what an earlier turn has left behind the last line. The next turn of a file begins
/// once all that is in it is in the database, and safe there.
pub(super) struct Journal {
    files: Arc<JournalFiles>,
    active: usize,
    turn: u64,
    length: u64,
    /// The last revision in each file.
    last: [u64; 2],
    /// Where a line is written before it goes to its file.
    draft: Vec<u8>,
    /// How many bytes a line had, at most.
    longest: usize,
}

/// The files, for whoever syncs them.
pub(super) struct JournalFiles {
    files: [File; 2],
    is_dirty: [AtomicBool; 2],
}

/// What a commit's line begins with.
#[derive(Serialize)]
struct Head<'a> {
    revision: u64,
    log_before: u64,
    user: &'a UserId,
    running: Option<Timestamp>,
    wall: Option<Timestamp>,
}

/// A commit, as it is read again.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) revision: u64,
    pub(super) log_before: u64,
    pub(super) user: UserId,
    running: Option<Timestamp>,
    wall: Option<Timestamp>,
    pub(super) record: Box<RawValue>,
    pub(super) events: Vec<(Timestamp, Box<RawValue>)>,
}

impl Journal {
    /// Opens the journal, and reads what an earlier run left, in the order of the commits. All of it
    /// must be in the database, and safe there, before a new run [begins](Self::begin).
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<Line>)> {
        let open = |name| {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).mode(0o600).open(directory.join(name))
        };
        let files = [open(FILES[0])?, open(FILES[1])?];
        let mut lines = Vec::new();
        for name in FILES {
            lines.extend(read(&fs::read(directory.join(name))?));
        }
        lines.sort_by_key(|line| line.revision);
        let files = Arc::new(JournalFiles { files, is_dirty: Default::default() });
        let turn = rand::random();
        let journal =
            Self { files, active: 0, turn, length: 0, last: [0; 2], draft: Vec::new(), longest: 0 };
        Ok((journal, lines))
    }

    /// Empties the journal for a new run, so that nothing of an earlier one is ever taken for a part of
    /// this.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.files.files.iter().try_for_each(|file| {
            file.set_len(0)?;
            file.sync_all()
        })
    }

    pub(super) const fn files(&self) -> &Arc<JournalFiles> {
        &self.files
    }

    /// What somebody else did to the file that is being written.
    pub(super) fn harm(&self) -> io::Result<Option<String>> {
        let found = fstat(&self.files.files[self.active])?;
        let length = u64::try_from(found.st_size).unwrap_or_default();
        let harm = match (found.st_nlink, length < self.length) {
            (0, _) => "removed",
            (_, true) => "truncated",
            (_, false) => return Ok(None),
        };
        Ok(Some(format!("{} was {harm}: start again", FILES[self.active])))
    }

    /// Adds a commit; those up to the revision `safe` are safe in the database. Returns how many bytes
    /// its record has as JSON.
    pub(super) fn append(&mut self, entry: &Entry, safe: u64) -> io::Result<usize> {
        let other = 1 - self.active;
        if self.length >= TURN_BYTES && self.last[other] <= safe {
            (self.active, self.turn, self.length) = (other, rand::random(), 0);
        }
        self.draft.clear();
        if self.length == 0 {
            writeln!(self.draft, "{TITLE} {:016x}", self.turn)?;
        }
        let record_bytes = write_line(&mut self.draft, self.turn, entry)?;
        self.longest = self.longest.max(self.draft.len());
        self.files.files[self.active].write_all_at(&self.draft, self.length)?;
        self.files.is_dirty[self.active].store(true, Ordering::Release);
        self.length += self.draft.len() as u64;
        self.last[self.active] = entry.revision;
        Ok(record_bytes)
    }
}

impl Journal {
    /// Takes the room for the next commits, and proves so that the disk has it; after a commit that
    /// failed, writes as much there as a commit would, which no reader takes for one.
    pub(super) fn probe(&mut self, is_failing: bool) -> io::Result<()> {
        let room = ROOM_BYTES.max(2 * self.longest);
        let file = &self.files.files[self.active];
        let taken = fallocate(file, FallocateFlags::KEEP_SIZE, self.length, room as u64);
        match taken {
            Ok(()) if !is_failing => Ok(()),
            Ok(()) | Err(Errno::OPNOTSUPP) => file.write_all_at(&vec![0; room], self.length),
            Err(error) => Err(error.into()),
        }
    }
}

impl JournalFiles {
    /// Forces to the disk what was added.
    pub(super) fn sync(&self) -> io::Result<()> {
        for (file, is_dirty) in self.files.iter().zip(&self.is_dirty) {
            if is_dirty.swap(false, Ordering::AcqRel) {
                file.sync_data()?;
            }
        }
        Ok(())
    }
}

impl Line {
    pub(super) const fn due(&self) -> Due {
        Due { running: self.running, wall: self.wall }
    }
}

/// Writes a commit, whose events are JSON already; returns how many bytes its record has.
fn write_line(text: &mut Vec<u8>, turn: u64, entry: &Entry) -> io::Result<usize> {
    let begin = text.len();
    text.extend_from_slice(&[b' '; SUM_BYTES]);
    let Entry { revision, log_before, user, stored, .. } = entry;
    let Due { running, wall } = stored.due;
    let head = Head { revision: *revision, log_before: log_before.0, user, running, wall };
    serde_json::to_writer(&mut *text, &head)?;
    // What follows goes on in the same object.
    text.pop();
    text.extend_from_slice(br#","record":"#);
    let record_begin = text.len();
    serde_json::to_writer(&mut *text, &*stored.record)?;
    let record_bytes = text.len() - record_begin;
    text.extend_from_slice(br#","events":["#);
    for (place, (at, event)) in entry.events.iter().enumerate() {
        text.extend_from_slice(if place == 0 { b"[" } else { b",[" });
        serde_json::to_writer(&mut *text, at)?;
        text.push(b',');
        text.extend_from_slice(event.as_bytes());
        text.push(b']');
    }
    text.extend_from_slice(b"]}");
    let sum = crc(turn, &text[begin + SUM_BYTES..]);
    write!(&mut text[begin..], "{sum:08x}")?;
    text.push(b'\n');
    Ok(record_bytes)
}

fn crc(turn: u64, commit: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&turn.to_be_bytes());
    hasher.update(commit);
    hasher.finalize()
}

/// Reads a file's lines up to the end of its turn.
fn read(file: &[u8]) -> Vec<Line> {
    let mut lines = file.split_inclusive(|byte| *byte == b'\n');
    let title = lines.next().and_then(|line| str::from_utf8(line).ok());
    let turn = title.and_then(|title| title.trim_end().strip_prefix(TITLE));
    let Some(turn) = turn.and_then(|turn| u64::from_str_radix(turn.trim_start(), 16).ok()) else {
        return Vec::new();
    };
    lines.map_while(|line| whole(turn, line)).collect()
}

fn whole(turn: u64, line: &[u8]) -> Option<Line> {
    let (sum, commit) = line.strip_suffix(b"\n")?.split_at_checked(SUM_BYTES)?;
    let sum = u32::from_str_radix(str::from_utf8(sum).ok()?.trim_end(), 16).ok()?;
    if sum != crc(turn, commit) {
        return None;
    }
    serde_json::from_slice(commit).ok()
}
