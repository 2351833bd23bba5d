//! Which events a webhook gets.

use std::collections::BTreeSet;

use crate::presence::{Cause, Platform};
use crate::store::LogEntry;

/// Which events a webhook gets. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The causes; all if it is empty.
    pub causes: BTreeSet<Cause>,
    /// The platforms of the terminal that changed; all if it is empty. An event without a terminal, which is a change
    /// by the server API, concerns all platforms.
    pub platforms: BTreeSet<Platform>,
}

impl Filter {
    /// Leaves out the entries that the webhook does not get.
    pub(super) fn select(&self, entries: &[LogEntry]) -> Vec<LogEntry> {
        if self.causes.is_empty() && self.platforms.is_empty() {
            return entries.to_vec();
        }
        entries.iter().filter(|entry| self.has(entry)).cloned().collect()
    }

    /// The number of entries that the webhook gets.
    pub(super) fn count(&self, entries: &[LogEntry]) -> usize {
        self.select(entries).len()
    }

    fn has(&self, entry: &LogEntry) -> bool {
        // A damaged entry is never posted, but reported.
        let Ok(transition) = entry.transition() else { return true };
        let has_cause = self.causes.is_empty() || self.causes.contains(&transition.cause);
        let platform = transition.terminal.as_ref().map(|terminal| terminal.platform);
        let has_platform = self.platforms.is_empty()
            || platform.is_none_or(|platform| self.platforms.contains(&platform));
        has_cause && has_platform
    }
}
