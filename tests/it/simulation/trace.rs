//! What happened, in order: its hash, and its last lines for a failure's message.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// What happened, in order.
pub(super) struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Trace {
    /// An empty trace, which keeps so many of its last lines.
    pub(super) fn keeping(lines_max: usize) -> Self {
        Self { hasher: DefaultHasher::new(), lines: VecDeque::new(), lines_max }
    }

    pub(super) fn note(&mut self, now: Duration, what: &dyn fmt::Display) {
        let line = format!("{:9.3} {what}", now.as_secs_f64());
        line.hash(&mut self.hasher);
        if self.lines.len() == self.lines_max {
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
