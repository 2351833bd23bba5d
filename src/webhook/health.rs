use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::presence::Timestamp;

/// How many requests in a row are not accepted before the receiver counts as down.
const DOWN_AFTER: u32 = 4;
/// The pauses between attempts: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest pause between two probes of a receiver that is down: where a few users' events are
/// all that is tried, and it will not have those, another's event would wait as long.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pauses between attempts: twice as long each time, of which a random part is waited (full
/// jitter), so that many do not come at once.
#[derive(Debug)]
pub(super) struct Pauses(ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        Self::up_to(PAUSE_MAX)
    }
}

impl Pauses {
    fn up_to(most: Duration) -> Self {
        let pauses = ExponentialBuilder::new().with_factor(2.0).without_max_times();
        Self(pauses.with_min_delay(PAUSE).with_max_delay(most).build())
    }

    /// The next pause; at least as long as the receiver asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let most = self.0.next().unwrap_or(PAUSE_MAX);
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::random_range(0..=millis)).max(asked.unwrap_or_default())
    }
}

/// Whether the receiver accepts anything.
#[derive(Debug)]
pub struct Health {
    /// Requests in a row that were not accepted.
    failures: u32,
    pauses: Pauses,
    probe_at: Timestamp,
    /// When one was accepted last.
    pub last_success: Option<Timestamp>,
}

impl Default for Health {
    fn default() -> Self {
        let pauses = Pauses::up_to(PROBE_PAUSE_MAX);
        Self { failures: 0, pauses, probe_at: Timestamp::default(), last_success: None }
    }
}

impl Health {
    /// Notes that a request was accepted; returns whether the receiver had been down.
    pub fn succeeded(&mut self, now: Timestamp) -> bool {
        let was_down = self.is_down();
        *self = Self { last_success: Some(now), ..Self::default() };
        was_down
    }

    /// Notes that a request was not accepted; returns whether the receiver counts as down from now on.
    pub fn failed(&mut self, now: Timestamp, asked: Option<Duration>) -> bool {
        let was_down = self.is_down();
        self.failures = self.failures.saturating_add(1);
        if self.is_down() {
            self.probe_at = now + self.pauses.next(asked);
        }
        self.is_down() && !was_down
    }

    /// Whether the last request was not accepted.
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether nothing is accepted, so that one request at a time tries.
    pub const fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// When the next of them may go out.
    pub const fn probe_at(&self) -> Timestamp {
        self.probe_at
    }
}
