//! Rate limits: token buckets, alone or one for each key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

use crate::presence::Timestamp;

/// The maximum number of keys in a set of buckets. Beyond it the older half is dropped; a key without
/// a bucket has a full one.
const KEYS_MAX: usize = 100_000;

/// A rate limit: `burst` at once, then `per` in each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The size of a full bucket.
    pub burst: u32,
    /// How many tokens are refilled per `interval`.
    pub per: u32,
    /// The interval of the refill.
    pub interval: Duration,
}

impl Rate {
    /// How long an empty bucket takes to fill up, at least a second.
    fn refill(&self) -> Duration {
        let refill = self.interval.mul_f64(f64::from(self.burst) / f64::from(self.per.max(1)));
        refill.max(Duration::from_secs(1))
    }

    /// The longest time until the next token.
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
        self.pay(1.0, rate, now).is_ok()
    }

    /// Takes a price in tokens, all or nothing. A price above the burst needs a full bucket.
    ///
    /// # Errors
    ///
    /// If there are too few tokens: how long it takes until there are enough.
    pub fn pay(&mut self, price: f64, rate: &Rate, now: Timestamp) -> Result<(), Duration> {
        self.refill(rate, now);
        let price = price.min(f64::from(rate.burst));
        let missing = price - self.tokens;
        if missing > 0.0 {
            return Err(rate.interval.mul_f64(missing / f64::from(rate.per.max(1))));
        }
        self.tokens -= price;
        Ok(())
    }

    /// Takes tokens, also more than there are: the rest is owed. Returns how long it takes until nothing is
    /// owed any more.
    pub fn charge(&mut self, cost: f64, rate: &Rate, now: Timestamp) -> Duration {
        self.refill(rate, now);
        self.tokens -= cost;
        let owed = (-self.tokens).max(0.0);
        rate.interval.mul_f64(owed / f64::from(rate.per.max(1)))
    }

    fn refill(&mut self, rate: &Rate, now: Timestamp) {
        let since = self.filled.replace(now).map_or(Duration::ZERO, |filled| now - filled);
        let refill = since.as_secs_f64() / rate.interval.as_secs_f64() * f64::from(rate.per);
        self.tokens = (self.tokens + refill).min(f64::from(rate.burst));
    }

    /// Puts a token back.
    pub fn put_back(&mut self) {
        self.refund(1.0);
    }

    /// Puts a part of a price back.
    pub fn refund(&mut self, tokens: f64) {
        self.tokens += tokens;
    }
}

/// A bucket for each key.
///
/// Recently used buckets are in one map and older ones in another, which is dropped as a whole when all
/// its buckets must be full again.
pub struct Buckets<K>(Mutex<Generations<K>>);

struct Generations<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
    /// When `young` was started.
    since: Timestamp,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        let since = Timestamp::default();
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), since }))
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Takes a token from a key's bucket, if there is one.
    pub fn take(&self, key: &K, rate: &Rate, now: Timestamp) -> bool {
        self.pay(key, 1.0, rate, now).is_ok()
    }

    /// Takes a price in tokens from a key's bucket, all or nothing, as [`Bucket::pay`].
    ///
    /// # Errors
    ///
    /// If there are too few tokens: how long it takes until there are enough.
    pub fn pay(&self, key: &K, price: f64, rate: &Rate, now: Timestamp) -> Result<(), Duration> {
        let mut kept = self.0.lock();
        // A reload of the configuration may have changed the rate.
        if now - kept.since >= rate.refill() || kept.young.len() >= KEYS_MAX / 2 {
            kept.old = std::mem::take(&mut kept.young);
            kept.since = now;
        }
        kept.bucket(key).pay(price, rate, now)
    }

    /// Puts a token back into a key's bucket.
    pub fn put_back(&self, key: &K) {
        self.refund(key, 1.0);
    }

    /// Puts a part of a price back into a key's bucket.
    pub fn refund(&self, key: &K, tokens: f64) {
        self.0.lock().bucket(key).refund(tokens);
    }
}

impl<K: Hash + Eq + Clone> Generations<K> {
    fn bucket(&mut self, key: &K) -> &mut Bucket {
        match self.young.entry(key.clone()) {
            Entry::Occupied(young) => young.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(self.old.remove(key).unwrap_or_default()),
        }
    }
}
