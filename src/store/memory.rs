use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;

use super::{Commit, Cursor, LogEntry, Revision, Store, StoreError, Stored, Totals};
use crate::presence::{Timestamp, UserId};

/// The most entries that the log in memory holds.
pub const LOG_ENTRIES_MAX: usize = 100_000;

/// Keeps everything in this process, and loses it on exit.
#[derive(Debug)]
pub struct MemoryStore {
    /// Nothing is awaited while it is held.
    state: Mutex<Inner>,
    log_ttl: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    users: HashMap<UserId, Stored>,
    /// Users by when they are due, on the process's own time and on the wall clock.
    due_running: BTreeSet<(Timestamp, UserId)>,
    due_wall: BTreeSet<(Timestamp, UserId)>,
    /// Makes revisions, which so only grow, even over a user's oblivion.
    commits: u64,
    log: VecDeque<LogEntry>,
    /// The cursor of the entry before the first that the log still holds.
    log_before: u64,
    totals: Totals,
}

impl MemoryStore {
    /// Makes an empty store whose log reaches back that long, and [`LOG_ENTRIES_MAX`] at most.
    pub fn new(log_ttl: Duration) -> Self {
        Self { state: Mutex::default(), log_ttl }
    }

    fn swap(&self, user: &UserId, expected: Revision, commit: Commit) -> Result<(), StoreError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let current = state.users.remove(user).unwrap_or_default();
        if current.revision != expected {
            state.users.insert(user.clone(), current);
            return Err(StoreError::Conflict);
        }
        let Commit { record, due, transitions } = commit;
        state.totals.replace(&current.record.census(), &record.census());
        reindex(&mut state.due_running, user, current.due.running, due.running);
        reindex(&mut state.due_wall, user, current.due.wall, due.wall);
        if !record.is_empty() {
            state.commits += 1;
            let stored = Stored { record, due, revision: Revision(state.commits) };
            state.users.insert(user.clone(), stored);
        }
        for transition in transitions {
            let oldest = transition.at - self.log_ttl;
            let transition = Arc::new(transition);
            state.log.push_back(LogEntry { user: user.clone(), transition });
            let aged = |entry: &LogEntry| entry.transition.at < oldest;
            while state.log.len() > LOG_ENTRIES_MAX || state.log.front().is_some_and(aged) {
                state.log.pop_front();
                state.log_before += 1;
            }
        }
        Ok(())
    }

    fn read_log(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, LogEntry)>, StoreError> {
        let state = self.state.lock();
        let Some(skipped) = after.0.checked_sub(state.log_before) else {
            return Err(StoreError::CursorExpired);
        };
        let entries = state.log.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        Ok((after.0 + 1..).map(Cursor).zip(entries.take(limit).cloned()).collect())
    }
}

impl Store for MemoryStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        let stored = self.state.lock().users.get(user).cloned();
        ready(Ok(stored.unwrap_or_default())).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        expected: Revision,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.swap(user, expected, commit)).boxed()
    }

    fn due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        let state = self.state.lock();
        let until = |index: &BTreeSet<(Timestamp, UserId)>, at: Timestamp| -> Vec<_> {
            let due = index.iter().take_while(|(due, _)| *due <= at);
            due.map(|(due, user)| (at - *due, user.clone())).take(limit).collect()
        };
        let mut overdue = until(&state.due_running, now);
        overdue.extend(until(&state.due_wall, wall));
        overdue.sort_by_key(|(by, _)| Reverse(*by));
        let mut seen = HashSet::new();
        let users = overdue.into_iter().map(|(_, user)| user);
        let users = users.filter(|user| seen.insert(user.clone())).take(limit).collect();
        ready(Ok(users)).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        ready(Ok(self.state.lock().totals)).boxed()
    }

    fn log(
        &self,
        after: Cursor,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Cursor, LogEntry)>, StoreError>> {
        ready(self.read_log(after, limit)).boxed()
    }
}

fn reindex(
    index: &mut BTreeSet<(Timestamp, UserId)>,
    user: &UserId,
    old: Option<Timestamp>,
    new: Option<Timestamp>,
) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        index.remove(&(old, user.clone()));
    }
    if let Some(new) = new {
        index.insert((new, user.clone()));
    }
}
