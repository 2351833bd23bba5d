//! The hub's random numbers: ids, pauses and hash keys.

use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Where the hub's random numbers come from.
#[derive(Debug)]
pub(super) enum Random {
    /// The system's random numbers, which an attacker cannot predict.
    System,
    /// A seed: the same numbers each time, so that a simulation can be repeated.
    Seeded(Box<Mutex<StdRng>>),
}

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        Self::Seeded(Box::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Any number of a type.
    pub(super) fn number<T>(&self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        match self {
            Self::System => rand::random(),
            Self::Seeded(numbers) => numbers.lock().random(),
        }
    }

    /// A number in a range.
    pub(super) fn within(&self, range: RangeInclusive<u64>) -> u64 {
        match self {
            Self::System => rand::random_range(range),
            Self::Seeded(numbers) => numbers.lock().random_range(range),
        }
    }
}

/// Hashes with a random key, so that clients cannot choose ids that collide. The order of a map follows from the
/// key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedHash(u64);

impl KeyedHash {
    pub(super) fn new(random: &Random) -> Self {
        Self(random.number())
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
