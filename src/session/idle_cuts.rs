//! Detects a proxy that cuts idle connections.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::presence::Timestamp;

/// The idle time of a connection that was cut by a proxy with the usual timeout of one minute.
const AT_A_MINUTE: RangeInclusive<Duration> = Duration::from_secs(55)..=Duration::from_secs(65);
/// All cuts in this range are counted. An unstable network cuts connections anywhere in it; only a
/// proxy cuts most of them at a minute.
const NEARBY: RangeInclusive<Duration> = Duration::from_secs(40)..=Duration::from_secs(80);
/// The number of cuts at a minute within [`WITHIN`] that shows a proxy.
const CUTS: usize = 10;
/// How long cuts are counted.
const WITHIN: Duration = Duration::from_secs(600);
/// The maximum number of cuts that are kept.
const KEPT_MAX: usize = 256;

/// Detects that a proxy cuts idle connections before the hub's next ping.
#[derive(Debug, Default)]
pub struct IdleCuts {
    /// The times of cuts, and whether each was at a minute.
    cuts: VecDeque<(Timestamp, bool)>,
    /// Whether the warning was given; it is given once.
    is_reported: bool,
}

impl IdleCuts {
    /// Counts a connection that ended without a Close frame after this idle time. Returns `true` once:
    /// when the caller must warn about a proxy.
    pub fn count(&mut self, idle: Duration, now: Timestamp) -> bool {
        if self.is_reported || !NEARBY.contains(&idle) {
            return false;
        }
        self.cuts.retain(|(at, _)| now - *at < WITHIN);
        if self.cuts.len() == KEPT_MAX {
            self.cuts.pop_front();
        }
        self.cuts.push_back((now, AT_A_MINUTE.contains(&idle)));
        let at_a_minute = self.cuts.iter().filter(|(_, at_a_minute)| *at_a_minute).count();
        self.is_reported = at_a_minute >= CUTS && at_a_minute > self.cuts.len() / 2;
        self.is_reported
    }
}
