//! A hash map that is split into many parts, each with a lock of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use parking_lot::{Mutex, MutexGuard};

use super::random::KeyedHash;

/// The number of parts.
const SHARDS: usize = 64;

/// One of the parts.
pub(super) type Shard<K, V> = HashMap<K, V, KeyedHash>;

/// A hash map in many parts, each with a lock of its own. No lock is held over an await.
pub(super) struct Sharded<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hash: KeyedHash,
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    pub(super) fn new(hash: KeyedHash) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hash))).collect();
        Self { shards, hash }
    }

    /// Locks the part of the map that a key belongs to.
    pub(super) fn lock(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let hash = self.hash.hash_one(key);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        self.shards[shard].lock()
    }

    #[expect(clippy::disallowed_methods, reason = "the order does not matter")]
    /// Maps every entry to a value. Locks one part at a time.
    pub(super) fn collect<T>(&self, mut each: impl FnMut(&K, &V) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().iter().map(|(key, value)| each(key, value)));
        }
        all
    }
}

/// Removes an entry, and frees the memory of a part that is empty then.
pub(super) fn remove<K: Hash + Eq, V>(part: &mut Shard<K, V>, key: &K) {
    part.remove(key);
    if part.is_empty() {
        part.shrink_to_fit();
    }
}
