use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Counts by a word, from the start on, so that a word that never came takes no room.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    /// Counts one more.
    pub(super) fn add(&self, word: &'static str) {
        *self.0.lock().entry(word).or_default() += 1;
    }

    /// What was counted so far.
    pub(super) fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().clone()
    }
}
