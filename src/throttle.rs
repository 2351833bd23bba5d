//! Rate limits for log lines.

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

/// How many log lines of one kind are admitted within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineLimits {
    /// The limit for each key.
    pub of_each: u32,
    /// The limit for all keys together: strangers can make up keys.
    pub of_all: u32,
    /// The time that the limits are for. It begins with the first line about a key.
    pub within: Duration,
}

impl LineLimits {
    /// One line per key each minute.
    pub const EACH_ONCE: Self = Self { of_each: 1, of_all: 20, within: EVERY };
}

/// Limits one kind of log line per key, such as an address, and counts suppressed lines. It remembers
/// at most [`LineLimits::of_all`] keys.
#[derive(Debug)]
pub struct KeyedThrottle<K> {
    most: LineLimits,
    admitted: Mutex<AdmittedLines<K>>,
}

#[derive(Debug)]
struct AdmittedLines<K> {
    /// The time of each key's first line, and the number of lines since.
    keys: BTreeMap<K, (Timestamp, u32)>,
    suppressed: u64,
}

impl<K: Ord> KeyedThrottle<K> {
    /// Admits up to `most` lines.
    pub const fn new(most: LineLimits) -> Self {
        let admitted = AdmittedLines { keys: BTreeMap::new(), suppressed: 0 };
        Self { most, admitted: Mutex::new(admitted) }
    }

    /// Returns the number of lines suppressed since the last one, about any key, if a line about
    /// `key` may be logged now; otherwise counts this line as suppressed.
    pub fn admit(&self, key: K, now: Timestamp) -> Option<u64> {
        let LineLimits { of_each, of_all, within } = self.most;
        let AdmittedLines { keys, suppressed } = &mut *self.admitted.lock();
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
