use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::presence::Timestamp;

/// How many requests in a row fail, and for how long nothing is accepted, before the receiver counts
/// as down. Of several requests under way, a few may fail within a millisecond that a success follows.
const DOWN_FAILURES: u32 = 4;
/// See [`DOWN_FAILURES`].
const DOWN_AFTER: Duration = Duration::from_secs(3);
/// The pauses between attempts: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest pause between two probes of a receiver that is down. Where a probe bears the events
/// of users whom it refuses, everybody else's wait as long.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Which part of `give_up_after` counts at most of a time without any success. A receiver with
/// little to accept still works; one that was down takes up this part of an event's time.
const IDLE_SHARE: u32 = 10;

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

    /// The next pause. It is no longer than `most`, so that an event is given up in time, unless that
    /// would be less than the first pause.
    pub(super) fn next(&mut self, most: Duration) -> Duration {
        let pause = self.0.next().unwrap_or(PAUSE_MAX);
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::random_range(0..=millis)).min(most.max(PAUSE))
    }
}

/// Whether the receiver accepts anything, and for how long it has worked.
#[derive(Debug)]
pub struct Health {
    /// Requests in a row that were not accepted.
    failures: u32,
    /// When the first of them failed.
    failing_since: Timestamp,
    is_down: bool,
    pauses: Pauses,
    probe_at: Timestamp,
    /// When one was accepted last.
    last_success: Option<Timestamp>,
    /// For how long it had worked then.
    worked: Duration,
    idle_max: Duration,
}

impl Health {
    /// Goes on from a receiver that has worked for so long, where an event is given up after that.
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

    /// Notes that a request was accepted; returns for how long the receiver had been failing, if it
    /// was down.
    pub fn succeeded(&mut self, now: Timestamp) -> Option<Duration> {
        let was_down = self.is_down.then(|| now - self.failing_since);
        self.worked = self.worked(now);
        self.last_success = Some(now);
        (self.failures, self.is_down) = (0, false);
        self.pauses = Pauses::up_to(PROBE_PAUSE_MAX);
        was_down
    }

    /// Notes that a request was not accepted; returns for how long none was, if the receiver counts
    /// as down from now on.
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

    /// Whether the last request was not accepted.
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether nothing is accepted, so that one request at a time tries.
    pub const fn is_down(&self) -> bool {
        self.is_down
    }

    /// When the next of them may go out.
    pub const fn probe_at(&self) -> Timestamp {
        self.probe_at
    }

    /// When a request was accepted last.
    pub const fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }

    /// For how long the receiver has worked: a clock that stands still while nothing is accepted for
    /// longer than a part of `give_up_after`.
    pub fn worked(&self, now: Timestamp) -> Duration {
        let idle = self.last_success.map_or(Duration::ZERO, |success| now - success);
        self.worked + idle.min(self.idle_max)
    }
}
