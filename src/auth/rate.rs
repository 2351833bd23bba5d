use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::presence::Timestamp;

/// How many keys a set of buckets holds; the least used are forgotten, which is to say full.
const KEYS_MAX: u64 = 100_000;

/// How often something may happen: `burst` at once, then `per` each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How many come back within `interval`.
    pub per: u32,
    /// See `per`.
    pub interval: Duration,
}

impl Rate {
    /// How long it takes until the next one comes back, at most.
    pub fn pause(&self) -> Duration {
        self.interval / self.per.max(1)
    }
}

/// A token bucket.
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    filled: Option<Timestamp>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: f64::INFINITY, filled: None }
    }
}

impl Bucket {
    /// Takes a token, if there is one.
    pub fn take(&mut self, rate: &Rate, now: Timestamp) -> bool {
        let since = self.filled.replace(now).map_or(Duration::ZERO, |filled| now - filled);
        let refill = since.as_secs_f64() / rate.interval.as_secs_f64() * f64::from(rate.per);
        self.tokens = (self.tokens + refill).min(f64::from(rate.burst));
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }

    /// Puts a token back.
    pub fn put_back(&mut self) {
        self.tokens += 1.0;
    }
}

/// A bucket for each key.
pub struct Buckets<K> {
    buckets: Cache<K, Arc<Mutex<Bucket>>>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Buckets<K> {
    /// Makes a set in which a bucket lives until it must be full again.
    pub fn new(rate: &Rate) -> Self {
        let refilled = rate.interval.mul_f64(f64::from(rate.burst) / f64::from(rate.per.max(1)));
        let idle = refilled.max(Duration::from_secs(1));
        Self { buckets: Cache::builder().max_capacity(KEYS_MAX).time_to_idle(idle).build() }
    }

    /// Takes a token of a key's bucket, if there is one.
    pub fn take(&self, key: &K, rate: &Rate, now: Timestamp) -> bool {
        self.buckets.get_with_by_ref(key, Arc::default).lock().take(rate, now)
    }

    /// Puts a token back into a key's bucket.
    pub fn put_back(&self, key: &K) {
        self.buckets.get_with_by_ref(key, Arc::default).lock().put_back();
    }
}
