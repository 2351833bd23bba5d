//! How much of the transition log one user fills (V7).
//!
//! The figure is in the user's record, so it is right after a restart and on every hub, costs no lock and no
//! read of its own, and is committed with the entries that it counts. It is an estimate: the rules know the
//! texts of an entry, not its encoding.

use serde::{Deserialize, Serialize};

use super::{LogQuota, Timestamp};

/// What a user has written into the log: a bucket that empties within the time that the log keeps entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogUse {
    /// The bytes in the bucket at `at`.
    bytes: u64,
    /// When it was counted, on the hub's own time.
    at: Timestamp,
}

impl LogUse {
    /// The bytes that count now.
    pub fn present(&self, quota: &LogQuota, now: Timestamp) -> u64 {
        let emptied = u128::from(quota.bytes) * (now - self.at).as_millis();
        let emptied = emptied / quota.within.as_millis().max(1);
        self.bytes.saturating_sub(u64::try_from(emptied).unwrap_or(u64::MAX))
    }

    /// Adds the sizes of new entries. It never holds more than the quota: a user whose logins and ends went
    /// beyond it need not wait for longer than the log keeps them.
    pub(super) fn with(self, new: u64, quota: &LogQuota, now: Timestamp) -> Self {
        let bytes = self.present(quota, now).saturating_add(new);
        Self { bytes: bytes.min(quota.bytes), at: now }
    }
}
