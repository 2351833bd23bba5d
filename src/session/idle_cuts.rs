//! Notices that a proxy cuts idle connections.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::presence::Timestamp;

/// How long a connection was idle that a proxy cut after a minute, the usual timeout.
const AT_A_MINUTE: RangeInclusive<Duration> = Duration::from_secs(55)..=Duration::from_secs(65);
/// The range that cuts at a minute are compared with: networks that come and go cut connections
/// anywhere in it.
const NEARBY: RangeInclusive<Duration> = Duration::from_secs(40)..=Duration::from_secs(80);
/// How many cuts at a minute, within [`WITHIN`], show that a proxy does it.
const CUTS: usize = 10;
/// See [`CUTS`].
const WITHIN: Duration = Duration::from_secs(600);
/// How many cuts are remembered.
const KEPT_MAX: usize = 256;

/// Finds out that a proxy cuts idle connections before the hub's ping comes.
#[derive(Debug, Default)]
pub struct IdleCuts {
    /// When connections were cut, and whether at a minute.
    cuts: VecDeque<(Timestamp, bool)>,
    is_told: bool,
}

impl IdleCuts {
    /// Notes a connection that ended without a Close after it had been idle for so long; returns
    /// whether to say now, and only now, that a proxy does that.
    pub fn count(&mut self, idle: Duration, now: Timestamp) -> bool {
        if self.is_told || !NEARBY.contains(&idle) {
            return false;
        }
        self.cuts.retain(|(at, _)| now - *at < WITHIN);
        if self.cuts.len() == KEPT_MAX {
            self.cuts.pop_front();
        }
        self.cuts.push_back((now, AT_A_MINUTE.contains(&idle)));
        let at_a_minute = self.cuts.iter().filter(|(_, at_a_minute)| *at_a_minute).count();
        self.is_told = at_a_minute >= CUTS && at_a_minute > self.cuts.len() / 2;
        self.is_told
    }
}
