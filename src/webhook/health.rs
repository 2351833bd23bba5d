use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::presence::Timestamp;

/// How many requests in a row are not accepted before the receiver counts as down.
const DOWN_AFTER: u32 = 4;
/// The pauses between attempts: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The pauses between attempts: twice as long each time, of which a random part is waited (full
/// jitter), so that many do not come at once.
#[derive(Debug)]
pub(super) struct Pauses(ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        let pauses = ExponentialBuilder::new().with_factor(2.0).without_max_times();
        Self(pauses.with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).build())
    }
}

impl Pauses {
    /// The next pause; at least as long as the receiver asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let most = self.0.next().unwrap_or(PAUSE_MAX);
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::random_range(0..=millis)).max(asked.unwrap_or_default())
    }
}

/// Whether the receiver accepts anything.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Requests in a row that were not accepted.
    failures: u32,
    pauses: Pauses,
    probe_at: Timestamp,
    pub(super) last_success: Option<Timestamp>,
}

impl Health {
    /// Notes that a request was accepted; returns whether the receiver had been down.
    pub(super) fn succeeded(&mut self, now: Timestamp) -> bool {
        let was_down = self.is_down();
        *self = Self { last_success: Some(now), ..Self::default() };
        was_down
    }

    pub(super) fn failed(&mut self, now: Timestamp, asked: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        if self.is_down() {
            self.probe_at = now + self.pauses.next(asked);
        }
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether nothing is accepted, so that one request at a time tries.
    pub(super) const fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// When the next of them may go out.
    pub(super) const fn probe_at(&self) -> Timestamp {
        self.probe_at
    }
}
