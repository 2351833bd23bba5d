//! Limits log lines of one kind to one a minute.

use std::time::Duration;

use crate::presence::Timestamp;

/// The minimum time between two log lines of one kind.
const EVERY: Duration = Duration::from_secs(60);

/// Admits one log line of a kind per minute, and counts the suppressed ones.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Timestamp>,
    suppressed: u64,
}

impl Throttle {
    /// Returns the number of lines suppressed since the last one if a line may be logged now;
    /// otherwise counts this line as suppressed.
    pub fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if self.last.is_some_and(|last| now - last < EVERY) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// The number of lines suppressed since the last one.
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}
