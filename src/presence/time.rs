//! The rules' types for time: timestamps, stalls of the hub, and signs of life.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds since the Unix epoch.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Makes a timestamp from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, as a token's `iat` counts them.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the time `by_ms` milliseconds later, or earlier if negative.
    #[must_use]
    pub const fn shifted(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add_signed(by_ms))
    }

    /// Rounds down to a multiple of `grain`.
    #[must_use]
    pub fn round_down(self, grain: Duration) -> Self {
        Self(self.0 - self.0 % millis(grain).max(1))
    }
}

/// A sign of life of a hub: one moment, on each of its clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOfLife {
    /// The id of the machine's boot; empty if the system has none.
    pub boot: Box<str>,
    /// How long the machine has been up, in milliseconds.
    pub up_ms: u64,
    /// The wall clock.
    pub wall: Timestamp,
    /// The hub's own time.
    pub now: Timestamp,
    /// The earlier stalls of the hub, for windows that are still open.
    #[serde(default, skip_serializing_if = "<[Stall]>::is_empty")]
    pub stalls: Arc<[Stall]>,
}

/// A time in which the hub was not running; windows that were open are extended by it (T12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The last moment at which the hub was known to run.
    pub from: Timestamp,
    /// When the hub ran again.
    pub until: Timestamp,
}

impl Stall {
    /// By how much these stalls extend a window that was opened at `since`: by each later stall, and
    /// by the rest of a stall during which the window was opened.
    pub fn lag(stalls: &[Self], since: Timestamp) -> Duration {
        stalls.iter().map(|stall| stall.until - stall.from.max(since)).sum()
    }
}

impl SignOfLife {
    /// The time from this sign to a later one, by the machine's uptime unless it was rebooted, so
    /// that a jump of the wall clock does not count (T11).
    pub fn before(&self, later: &Self) -> Duration {
        if self.boot == later.boot && !self.boot.is_empty() {
            Duration::from_millis(later.up_ms.saturating_sub(self.up_ms))
        } else {
            later.wall - self.wall
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(millis(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(millis(rhs)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// The time from `rhs` to this; zero if `rhs` is later.
    fn sub(self, rhs: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(rhs.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
