//! Times and stalls, as the rules count with them.

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

    /// Returns the time so many milliseconds later, or earlier.
    #[must_use]
    pub const fn moved(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add_signed(by_ms))
    }

    /// Returns the last multiple of `grain` that is not later.
    #[must_use]
    pub fn round_down(self, grain: Duration) -> Self {
        Self(self.0 - self.0 % millis(grain).max(1))
    }
}

/// A moment in the life of a hub, on each of its clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// Names the time that the machine has been up; empty where the system does not.
    pub boot: Box<str>,
    /// For how long it has been up, in milliseconds.
    pub up_ms: u64,
    /// The wall clock.
    pub wall: Timestamp,
    /// The hub's own time.
    pub now: Timestamp,
    /// When the hub stood still before, as far as an open window may need it.
    #[serde(default, skip_serializing_if = "<[Stall]>::is_empty")]
    pub stalls: Arc<[Stall]>,
}

/// A time in which the hub stood still: it counts for no window that was open (T12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The last moment that the hub was known to run.
    pub from: Timestamp,
    /// When it ran again.
    pub until: Timestamp,
}

impl Stall {
    /// By how much these stalls move the end of a window that is open since then: by all of a stall
    /// that came later, by the rest of one in which the window was opened.
    pub fn lag(stalls: &[Self], since: Timestamp) -> Duration {
        stalls.iter().map(|stall| stall.until - stall.from.max(since)).sum()
    }
}

impl Sign {
    /// How long before another this one was, whatever happened to the wall clock as long as the
    /// machine was up (T11).
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

    /// How long after `rhs` this is; zero where it is not.
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
