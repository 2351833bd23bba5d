//! A map under many locks.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use parking_lot::{Mutex, MutexGuard};

/// How many locks a map is spread over.
const SHARDS: usize = 64;

/// A map under many locks; none is held over an await.
pub(super) struct Sharded<K, V> {
    shards: Vec<Mutex<HashMap<K, V>>>,
    hasher: RandomState,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    /// Locks the part of the map that a key belongs to.
    pub(super) fn lock(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        let hash = self.hasher.hash_one(key);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        self.shards[shard].lock()
    }

    #[expect(clippy::disallowed_methods, reason = "whoever asks for all of it wants no order")]
    /// Collects something of every entry, one part of the map after the other.
    pub(super) fn collect<T>(&self, mut each: impl FnMut(&K, &V) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().iter().map(|(key, value)| each(key, value)));
        }
        all
    }
}

/// Removes an entry; a part of the map that is empty then keeps no room for what it held.
pub(super) fn remove<K: Hash + Eq, V>(part: &mut HashMap<K, V>, key: &K) {
    part.remove(key);
    if part.is_empty() {
        part.shrink_to_fit();
    }
}
