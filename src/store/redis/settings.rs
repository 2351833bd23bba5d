//! What an operator sets about Redis.

use std::fmt;
use std::time::Duration;

/// The settings of a [`RedisStore`](super::RedisStore).
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or `rediss://` URLs, with user and password. Several are the seeds of one Redis Cluster.
    pub urls: Vec<String>,
    /// The number of partitions: a power of two, 16 to 1024. It cannot change once data is stored.
    pub partitions: u32,
    /// The timeout of a command. A commit that took longer is never written later.
    pub timeout: Duration,
    /// The maximum size of all events in the log. It wins over entries that the webhook has not read.
    pub log_bytes: u64,
    /// The prefix of every key, so that one Redis can serve several hubs.
    pub key_prefix: String,
    /// How far the wall clock may be from that of Redis; zero turns the check off. A store does not open if it is
    /// further away, and [`check`](crate::store::Records::check) fails if it becomes so.
    pub max_clock_skew: Duration,
}

impl RedisSettings {
    /// Whether the wall clock is too far from that of Redis.
    pub(super) fn is_skewed(&self, clock_ms: i64) -> bool {
        let differs = Duration::from_millis(clock_ms.unsigned_abs());
        !self.max_clock_skew.is_zero() && differs > self.max_clock_skew
    }
}

/// Shows everything except the URLs, because they contain passwords.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("urls", &self.urls.len())
            .field("partitions", &self.partitions)
            .field("timeout", &self.timeout)
            .field("log_bytes", &self.log_bytes)
            .field("key_prefix", &self.key_prefix)
            .field("max_clock_skew", &self.max_clock_skew)
            .finish()
    }
}
