//! Tracks whether the receiver is down, and for how long it has worked.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::presence::Timestamp;

/// The receiver counts as down after this many failures in a row, and [`DOWN_AFTER`] without a
/// success. Both are needed: of several requests in flight, a few may fail just before one succeeds.
const DOWN_FAILURES: u32 = 4;
const DOWN_AFTER: Duration = Duration::from_secs(3);
/// The first and the longest pause between attempts.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest pause between two probes of a receiver that is down. If a probe carries events that
/// the receiver refuses, the events of all other users are delayed by this pause.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Of a period without success, at most this part of `give_up_after` (a tenth) counts as working
/// time: a receiver with few events still works, but one that was down did not.
const IDLE_SHARE: u32 = 10;

/// The pauses between attempts: doubled each time, with full jitter, so that retries are spread out.
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

    /// The next pause. It is at most `most`, so that an event is given up in time, but may always be as
    /// long as the first pause.
    pub(super) fn next(&mut self, most: Duration) -> Duration {
        let pause = self.0.next().unwrap_or(PAUSE_MAX);
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::random_range(0..=millis)).min(most.max(PAUSE))
    }
}

/// Whether the receiver accepts requests, and how long it has worked.
#[derive(Debug)]
pub struct Health {
    /// The number of failures in a row.
    failures: u32,
    /// When the first of these requests failed.
    failing_since: Timestamp,
    is_down: bool,
    pauses: Pauses,
    probe_at: Timestamp,
    last_success: Option<Timestamp>,
    /// How long the receiver had worked at the last success.
    worked: Duration,
    idle_max: Duration,
}

impl Health {
    /// Starts with a receiver that has `worked` so far; `give_up_after` bounds how much idle time
    /// counts as work.
    pub fn new(worked: Duration, give_up_after: Duration) -> Self {
        Self {
            failures: 0,
            failing_since: Timestamp::default(),
            is_down: false,
            pauses: Pauses::up_to(PROBE_PAUSE_MAX),
            probe_at: Timestamp::default(),
            last_success: None,
            worked,
            idle_max: give_up_after / IDLE_SHARE,
        }
    }

    /// Records a success; if the receiver was down, returns how long it had been failing.
    pub fn succeeded(&mut self, now: Timestamp) -> Option<Duration> {
        let was_down = self.is_down.then(|| now - self.failing_since);
        self.worked = self.worked(now);
        self.last_success = Some(now);
        (self.failures, self.is_down) = (0, false);
        self.pauses = Pauses::up_to(PROBE_PAUSE_MAX);
        was_down
    }

    /// Records a failure; if the receiver counts as down from now on, returns how long it has been
    /// failing.
    pub fn failed(&mut self, now: Timestamp, asked: Option<Duration>) -> Option<Duration> {
        if self.failures == 0 {
            self.failing_since = now;
        }
        self.failures = self.failures.saturating_add(1);
        let failing_for = now - self.failing_since;
        let was_down = self.is_down;
        self.is_down |= self.failures >= DOWN_FAILURES && failing_for >= DOWN_AFTER;
        if self.is_down {
            self.probe_at = now + self.pauses.next(PROBE_PAUSE_MAX).max(asked.unwrap_or_default());
        }
        (self.is_down && !was_down).then_some(failing_for)
    }

    /// Whether the last request failed.
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the receiver counts as down, so that only one request at a time probes it.
    pub const fn is_down(&self) -> bool {
        self.is_down
    }

    /// When the next probe may be sent.
    pub const fn probe_at(&self) -> Timestamp {
        self.probe_at
    }

    /// When a request was accepted last.
    pub const fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }

    /// How long the receiver has worked. This clock stops once nothing was accepted for a tenth of
    /// `give_up_after`.
    pub fn worked(&self, now: Timestamp) -> Duration {
        let idle = self.last_success.map_or(Duration::ZERO, |success| now - success);
        self.worked + idle.min(self.idle_max)
    }
}
