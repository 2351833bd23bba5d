//! The deadlines of this node's own terminals. No other node applies them, so only this node keeps them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::presence::{Timestamp, UserId};

/// The users with a deadline on the node's own time. It is rebuilt from what the node commits and loads.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    users: HashMap<UserId, Entry>,
    queue: BTreeSet<(Timestamp, UserId)>,
    commits: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Timestamp,
    /// The number of the commit that set it.
    commit: u64,
}

/// The moment at which a load began.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadBegin(u64);

impl Ledger {
    /// Sets a user's deadline after a commit.
    pub(super) fn committed(&mut self, user: &UserId, at: Option<Timestamp>) {
        self.commits += 1;
        self.set(user, at);
    }

    /// Notes a commit that may have been written or not: the earlier deadline stays.
    pub(super) fn in_doubt(&mut self, user: &UserId, at: Option<Timestamp>) {
        self.commits += 1;
        let known = self.users.get(user).map(|entry| entry.at);
        self.set(user, known.into_iter().chain(at).min());
    }

    /// Must be called before a record is loaded.
    pub(super) fn begin_load(&self) -> LoadBegin {
        LoadBegin(self.commits)
    }

    /// Corrects a user's deadline by a loaded record. If the user's record was committed meanwhile, the loaded
    /// one is stale, and its deadline can only add to what is known.
    pub(super) fn loaded(&mut self, user: &UserId, begin: LoadBegin, at: Option<Timestamp>) {
        match self.users.get(user) {
            Some(entry) if entry.commit > begin.0 => {
                let earliest = at.map_or(entry.at, |at| at.min(entry.at));
                self.set(user, Some(earliest));
            }
            Some(_) | None => self.set(user, at),
        }
    }

    fn set(&mut self, user: &UserId, at: Option<Timestamp>) {
        let commit = self.commits;
        if let Some(at) = at {
            let before = self.users.insert(user.clone(), Entry { at, commit });
            if before.is_some_and(|before| before.at == at) {
                return;
            }
            self.remove(before, user);
            self.queue.insert((at, user.clone()));
        } else {
            let before = self.users.remove(user);
            self.remove(before, user);
        }
    }

    fn remove(&mut self, entry: Option<Entry>, user: &UserId) {
        if let Some(entry) = entry {
            self.queue.remove(&(entry.at, user.clone()));
        }
    }

    /// The users whose deadline has passed, the most overdue first, each with for how long.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<(Duration, UserId)> {
        let due = self.queue.iter().take_while(|(at, _)| *at <= now).take(limit);
        due.map(|(at, user)| (now - *at, user.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use crate::presence::{Timestamp, UserId};

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn ana() -> UserId {
        "ana".parse().expect("a user")
    }

    fn due(ledger: &Ledger, secs: u64) -> usize {
        ledger.due(at(secs), 10).len()
    }

    #[test]
    fn the_last_commit_decides() {
        let mut ledger = Ledger::default();
        ledger.committed(&ana(), Some(at(10)));
        ledger.committed(&ana(), Some(at(20)));
        assert_eq!([due(&ledger, 19), due(&ledger, 20)], [0, 1]);
        ledger.committed(&ana(), None);
        assert_eq!(due(&ledger, 100), 0);
    }

    #[test]
    fn a_commit_in_doubt_keeps_the_earlier_deadline() {
        let mut ledger = Ledger::default();
        ledger.committed(&ana(), Some(at(10)));
        ledger.in_doubt(&ana(), Some(at(20)));
        assert_eq!(due(&ledger, 10), 1);
        ledger.in_doubt(&ana(), Some(at(5)));
        assert_eq!(due(&ledger, 5), 1);
        ledger.in_doubt(&ana(), None);
        assert_eq!(due(&ledger, 5), 1);
    }

    #[test]
    fn a_load_corrects_the_deadline() {
        let mut ledger = Ledger::default();
        ledger.in_doubt(&ana(), Some(at(5)));
        let begin = ledger.begin_load();
        ledger.loaded(&ana(), begin, Some(at(30)));
        assert_eq!([due(&ledger, 29), due(&ledger, 30)], [0, 1]);
        ledger.loaded(&ana(), begin, None);
        assert_eq!(due(&ledger, 100), 0);
    }

    #[test]
    fn a_stale_load_delays_no_deadline() {
        let mut ledger = Ledger::default();
        let begin = ledger.begin_load();
        ledger.committed(&ana(), Some(at(10)));
        ledger.loaded(&ana(), begin, Some(at(30)));
        assert_eq!(due(&ledger, 10), 1, "the load began before the commit");
        ledger.loaded(&ana(), begin, None);
        assert_eq!(due(&ledger, 10), 1);
    }
}
