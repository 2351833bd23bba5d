//! Keeps log lines of one kind from repeating by the thousand.

use std::time::Duration;

use crate::presence::Timestamp;

/// How often a line of one kind is logged at most.
const EVERY: Duration = Duration::from_secs(60);

/// Lets one kind of log line through at most once a minute, and counts the others.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Timestamp>,
    suppressed: u64,
}

impl Throttle {
    /// Whether a line may be logged now; with how many were suppressed since the last one.
    pub fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if self.last.is_some_and(|last| now - last < EVERY) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// How many lines were suppressed since the last one.
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}
