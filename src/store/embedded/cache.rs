use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Entries;

use crate::presence::UserId;
use crate::store::Stored;

/// About how many bytes the records in memory may take.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What an entry takes besides as much as its record's JSON, where what is not there takes nothing.
const ENTRY_BYTES: u32 = 640;
/// What most records take.
const RECORD_BYTES: usize = 1024;
/// How many stripes there are: a commit to one user voids the reads under way in its stripe.
const STRIPES: usize = 256;

/// The records used last, as the database has them; that somebody is not known, too. Of whom something
/// waits for the database, the [ledger](super::ledger::Ledger) knows better.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries<UserId, Kept, Weigher>,
    /// Counts the commits in each stripe.
    stripes: Vec<Mutex<u64>>,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
struct Kept {
    stored: Stored,
    bytes: u32,
}

#[derive(Debug, Clone)]
struct Weigher;

impl Weighter<UserId, Kept> for Weigher {
    fn weight(&self, _: &UserId, kept: &Kept) -> u64 {
        kept.bytes.into()
    }
}

/// How many commits a stripe had seen when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Cache {
    pub(super) fn new() -> Self {
        let records = usize::try_from(BYTES_MAX).unwrap_or(usize::MAX) / RECORD_BYTES;
        Self {
            entries: Entries::with_weighter(records, BYTES_MAX, Weigher),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, user: &UserId) -> Option<Stored> {
        self.entries.get(user).map(|kept| kept.stored)
    }

    /// To be called before a record is read from the database.
    pub(super) fn mark(&self, user: &UserId) -> Mark {
        Mark(*self.stripe(user).lock())
    }

    /// Keeps what was read, unless a commit may have overtaken it.
    pub(super) fn fill(&self, user: &UserId, read: &Stored, bytes: usize, mark: Mark) {
        let commits = self.stripe(user).lock();
        if *commits == mark.0 {
            self.keep(user, read.clone(), bytes);
        }
    }

    /// Notes a commit: whatever is being read may be older.
    pub(super) fn overtake(&self, user: &UserId) {
        *self.stripe(user).lock() += 1;
    }

    /// Keeps what the database has.
    pub(super) fn keep(&self, user: &UserId, stored: Stored, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES);
        self.entries.insert(user.clone(), Kept { stored, bytes });
    }

    fn stripe(&self, user: &UserId) -> &Mutex<u64> {
        let hash = self.hasher.hash_one(user);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }
}
