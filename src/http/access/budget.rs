//! What each key of the server API may still ask for: requests, and open event streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::auth::{Buckets, KeyMark, Rate};
use crate::presence::Timestamp;
use crate::throttle::{KeyedThrottle, LineLimits};

/// How many users a call may look at in a list for the price of one more request. Measured: each costs 8 us
/// of a processor, and a plain request 0.1 ms.
const LISTED_PER_REQUEST: f64 = 10.0;
/// How many named users, or events, a call may read for the price of one more request. Measured: 2 us each.
const READ_PER_REQUEST: f64 = 50.0;

/// What a call reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// Users that the store lists.
    Listed(usize),
    /// Users that the caller names, and events of the log.
    Read(usize),
}

impl Entries {
    /// The price of reading them, in requests.
    pub(super) fn price(self) -> f64 {
        match self {
            Self::Listed(count) => count as f64 / LISTED_PER_REQUEST,
            Self::Read(count) => count as f64 / READ_PER_REQUEST,
        }
    }
}

/// What each key may still ask for.
pub(crate) struct KeyBudgets {
    requests: Buckets<KeyMark>,
    streams: Arc<OpenStreams>,
    /// Limits log lines about refusals.
    pub(super) refusals_logged: KeyedThrottle<KeyMark>,
}

impl Default for KeyBudgets {
    fn default() -> Self {
        Self {
            requests: Buckets::default(),
            streams: Arc::default(),
            refusals_logged: KeyedThrottle::new(LineLimits::EACH_ONCE),
        }
    }
}

/// The number of open event streams of each key.
#[derive(Default)]
struct OpenStreams(Mutex<BTreeMap<KeyMark, usize>>);

/// A guard: its event stream is counted until this is dropped.
pub(crate) struct CountedStream {
    streams: Arc<OpenStreams>,
    key: KeyMark,
}

impl KeyBudgets {
    /// Takes a price in requests from a key's budget, all or nothing. Otherwise returns how long it takes
    /// until the budget has as much.
    pub(super) fn pay(
        &self,
        key: KeyMark,
        price: f64,
        rate: &Rate,
        now: Timestamp,
    ) -> Result<(), Duration> {
        self.requests.pay(&key, price, rate, now)
    }

    /// Puts a part of a price back.
    pub(super) fn refund(&self, key: KeyMark, price: f64) {
        self.requests.refund(&key, price);
    }

    /// Counts an event stream of a key, if it has fewer than `most`.
    pub(super) fn open_stream(&self, key: KeyMark, most: usize) -> Option<CountedStream> {
        let mut open = self.streams.0.lock();
        let count = open.entry(key).or_default();
        let has_room = *count < most;
        *count += usize::from(has_room);
        has_room.then(|| CountedStream { streams: Arc::clone(&self.streams), key })
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
