//! Where events go: standard output, or a command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where events go.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(StandardOutput),
    /// A command and its arguments, which runs once for each batch.
    Command(Vec<OsString>),
}

/// Standard output.
#[derive(Debug)]
pub(super) struct StandardOutput {
    file: File,
    /// Whether it is a file, whose content must be synced before the cursor.
    is_file: bool,
}

/// Why events were not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The reader of standard output is gone.
    ReaderGone,
    /// Only the operator can change it.
    Final(String),
    /// The command failed. It may succeed later.
    Again(String),
}

impl Output {
    /// # Errors
    ///
    /// If there is no command, and standard output is closed.
    pub(super) fn open(command: &[OsString]) -> io::Result<Self> {
        if command.is_empty() {
            return StandardOutput::open().map(Self::Stdout);
        }
        Ok(Self::Command(command.to_vec()))
    }

    /// Writes lines until they are taken; blocks while the reader is slow.
    ///
    /// # Errors
    ///
    /// If not all of them were taken.
    pub(super) fn write(&self, lines: &[u8]) -> Result<(), NotTaken> {
        match self {
            Self::Stdout(output) => output.write(lines).map_err(|error| {
                if error.kind() == ErrorKind::BrokenPipe {
                    return NotTaken::ReaderGone;
                }
                NotTaken::Final(format!("standard output: {error}"))
            }),
            Self::Command(_) if lines.is_empty() => Ok(()),
            Self::Command(command) => run(command, lines),
        }
    }

    /// Whether the reader is gone, which no write has noticed yet.
    pub(super) fn is_reader_gone(&self) -> bool {
        match self {
            Self::Stdout(output) => output.is_reader_gone(),
            Self::Command(_) => false,
        }
    }
}

impl StandardOutput {
    fn open() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let output = Self { file, is_file: metadata.is_file() };
        if output.is_file && output.ends_within_a_line(metadata.len()) {
            (&output.file).write_all(b"\n")?;
        }
        Ok(output)
    }

    /// Whether a write was cut off when an earlier run was killed. Its events are written again.
    fn ends_within_a_line(&self, len: u64) -> bool {
        // Standard output is often open only for writing.
        let file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let mut last = [b'\n'];
        let at = len.saturating_sub(1);
        file.is_ok_and(|file| file.read_exact_at(&mut last, at).is_ok()) && last != [b'\n']
    }

    fn write(&self, lines: &[u8]) -> io::Result<()> {
        (&self.file).write_all(lines)?;
        if self.is_file { self.file.sync_data() } else { Ok(()) }
    }

    fn is_reader_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = PollFlags::ERR | PollFlags::HUP;
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(gone)
    }
}

/// Runs a command with lines as its standard input.
fn run(command: &[OsString], lines: &[u8]) -> Result<(), NotTaken> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let shown = program.display();
    let child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| NotTaken::Final(format!("{shown}: {error}")))?;
    // Dropped at the end of the statement, so that the command sees the end of its input.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(lines));
    let status = child.wait().map_err(|error| NotTaken::Again(format!("{shown}: {error}")))?;
    match written {
        _ if !status.success() => Err(NotTaken::Again(format!("{shown}: {status}"))),
        Err(error) => Err(NotTaken::Again(format!("{shown} did not read all events: {error}"))),
        Ok(()) => Ok(()),
    }
}
