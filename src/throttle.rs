//! Limits log lines of one kind to one a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

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

/// How many lines of one kind are logged within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// How many about one thing.
    pub of_each: u32,
    /// How many about all things together, which strangers may make up.
    pub of_all: u32,
    /// Within how long, from the first about a thing on.
    pub within: Duration,
}

impl Lines {
    /// One line about a thing each minute.
    pub const EACH_ONCE: Self = Self { of_each: 1, of_all: 20, within: EVERY };
}

/// Lets one kind of log line through for each of many things, such as addresses, and counts the
/// others. It remembers no more things than it lets lines through.
#[derive(Debug)]
pub struct KeyedThrottle<K> {
    most: Lines,
    admitted: Mutex<Admitted<K>>,
}

#[derive(Debug)]
struct Admitted<K> {
    /// When each thing's first line was, and how many there were since.
    keys: BTreeMap<K, (Timestamp, u32)>,
    suppressed: u64,
}

impl<K: Ord> KeyedThrottle<K> {
    /// Lets this many lines through.
    pub const fn new(most: Lines) -> Self {
        let admitted = Admitted { keys: BTreeMap::new(), suppressed: 0 };
        Self { most, admitted: Mutex::new(admitted) }
    }

    /// Whether a line about a thing may be logged now; with how many, about any, were suppressed
    /// since the last one.
    pub fn admit(&self, key: K, now: Timestamp) -> Option<u64> {
        let Lines { of_each, of_all, within } = self.most;
        let Admitted { keys, suppressed } = &mut *self.admitted.lock();
        let is_recent = |since: Timestamp| now - since < within;
        let own = keys.get(&key).filter(|(since, _)| is_recent(*since));
        let mut has_room = own.is_none_or(|(_, lines)| *lines < of_each);
        if has_room {
            keys.retain(|_, (since, _)| is_recent(*since));
            has_room = keys.values().map(|(_, lines)| lines).sum::<u32>() < of_all;
        }
        if !has_room {
            *suppressed += 1;
            return None;
        }
        keys.entry(key).or_insert((now, 0)).1 += 1;
        Some(std::mem::take(suppressed))
    }
}
