//! Counts the write system calls of a process with `strace`.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// An `strace` that counts the write calls of all threads of a process.
pub(super) struct WriteCalls {
    strace: Child,
}

impl WriteCalls {
    pub(super) fn begin(process: u32) -> io::Result<Self> {
        let strace = Command::new("strace")
            .args(["-f", "-c", "-e", "trace=write,writev,sendto,sendmsg", "-p"])
            .arg(process.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                io::Error::other(format!(
                    "--write-calls needs strace, which did not start: {error}"
                ))
            })?;
        let mut begun = Self { strace };
        // The first line that strace prints says whether it has attached.
        let mut line = String::new();
        if let Some(said) = &mut begun.strace.stderr {
            let mut byte = [0];
            while !line.ends_with('\n') && said.read(&mut byte)? == 1 {
                line.push(char::from(byte[0]));
            }
        }
        if line.contains("attached") {
            Ok(begun)
        } else {
            Err(io::Error::other(format!("strace could not attach: {line}")))
        }
    }

    pub(super) fn end(mut self) -> io::Result<f64> {
        let pid = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw);
        pid.map(|pid| kill_process(pid, Signal::INT));
        let said = self.strace.stderr.take().map(BufReader::new);
        let mut calls = 0.0;
        for line in said.into_iter().flat_map(BufRead::lines) {
            let line = line?;
            let columns: Vec<_> = line.split_whitespace().collect();
            if columns.last() == Some(&"total") {
                calls = columns.get(3).and_then(|calls| calls.parse().ok()).unwrap_or_default();
            }
        }
        self.strace.wait()?;
        Ok(calls)
    }
}
