use std::hash::{BuildHasher, RandomState};

use moka::sync::Cache as Entries;
use parking_lot::Mutex;

use crate::presence::UserId;
use crate::store::Stored;

/// About how many bytes the records in memory may take.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What an entry takes besides its record.
const ENTRY_BYTES: u32 = 256;
/// How many stripes there are: a commit to one user voids the reads under way in its stripe.
const STRIPES: usize = 256;

/// The records used last, as they were committed last; that somebody is not known, too.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries<UserId, Kept>,
    /// Counts the commits in each stripe.
    stripes: Vec<Mutex<u64>>,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
struct Kept {
    stored: Stored,
    bytes: u32,
}

/// How many commits a stripe had seen when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Cache {
    pub(super) fn new() -> Self {
        let weigh = |_: &UserId, kept: &Kept| kept.bytes;
        Self {
            entries: Entries::builder().max_capacity(BYTES_MAX).weigher(weigh).build(),
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

    /// Keeps what was committed.
    pub(super) fn replace(&self, user: &UserId, committed: Stored, bytes: usize) {
        let mut commits = self.stripe(user).lock();
        *commits += 1;
        self.keep(user, committed, bytes);
    }

    /// The caller holds the user's stripe.
    fn keep(&self, user: &UserId, stored: Stored, bytes: usize) {
        // A record in memory takes about as much as its JSON.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES);
        self.entries.insert(user.clone(), Kept { stored, bytes });
    }

    fn stripe(&self, user: &UserId) -> &Mutex<u64> {
        let hash = self.hasher.hash_one(user);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }
}
