//! What happened, in order: its hash, and its last lines for a failure's message.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How many lines a failure shows.
const LINES_MAX: usize = 200;

/// What happened, in order.
pub(super) struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    prints: bool,
}

impl Trace {
    /// An empty trace; it prints each line if `SIMULATION_TRACE` is set.
    pub(super) fn new() -> Self {
        let prints = std::env::var_os("SIMULATION_TRACE").is_some();
        Self { hasher: DefaultHasher::new(), lines: VecDeque::new(), prints }
    }

    pub(super) fn note(&mut self, now: Duration, what: &dyn fmt::Display) {
        let line = format!("{:9.3} {what}", now.as_secs_f64());
        line.hash(&mut self.hasher);
        if self.prints {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The hash of everything so far.
    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last lines.
    pub(super) fn tail(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
