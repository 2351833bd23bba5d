//! The records used last, in memory.

use std::hash::{BuildHasher, RandomState};

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Entries;
use parking_lot::Mutex;

use crate::presence::UserId;
use crate::store::Stored;

/// About how many bytes the records in memory may take.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The size of an entry is estimated as the length of its record's JSON, and this.
const ENTRY_BYTES: u32 = 640;
/// How many stripes there are: a commit to one user voids the reads under way in its stripe.
const STRIPES: usize = 256;

/// The records used last, as the database has them. Unknown users are cached too.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries<UserId, CachedRecord>,
    /// Counts the commits in each stripe.
    stripes: Vec<Mutex<u64>>,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
struct CachedRecord {
    stored: Stored,
    bytes: u32,
}

/// How many commits a stripe had seen when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitsSeen(u64);

impl Cache {
    pub(super) fn new() -> Self {
        let entries = Entries::builder()
            .max_capacity(BYTES_MAX)
            .weigher(|_, kept: &CachedRecord| kept.bytes)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { entries, stripes, hasher: RandomState::new() }
    }

    pub(super) fn get(&self, user: &UserId) -> Option<Stored> {
        self.entries.get(user).map(|kept| kept.stored)
    }

    /// How many commits the user's stripe has seen. To be taken before a record is read from the database, so
    /// that [`fill`](Self::fill) notices a commit that overtook the read.
    pub(super) fn commits_seen(&self, user: &UserId) -> CommitsSeen {
        CommitsSeen(*self.stripe(user).lock())
    }

    /// Caches what was read, unless a commit may have overtaken the read.
    pub(super) fn fill(&self, user: &UserId, read: &Stored, bytes: usize, seen: CommitsSeen) {
        let commits = self.stripe(user).lock();
        if *commits == seen.0 {
            self.keep(user, read.clone(), bytes);
        }
    }

    /// Caches what was committed: the reads under way may be older.
    pub(super) fn committed(&self, user: &UserId, stored: Stored, bytes: usize) {
        let mut commits = self.stripe(user).lock();
        *commits += 1;
        self.keep(user, stored, bytes);
    }

    /// Forgets a record that is no longer what the database has.
    pub(super) fn forget(&self, user: &UserId) {
        let mut commits = self.stripe(user).lock();
        *commits += 1;
        self.entries.invalidate(user);
    }

    fn keep(&self, user: &UserId, stored: Stored, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES);
        self.entries.insert(user.clone(), CachedRecord { stored, bytes });
    }

    fn stripe(&self, user: &UserId) -> &Mutex<u64> {
        let hash = self.hasher.hash_one(user);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }
}
