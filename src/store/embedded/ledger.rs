use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::journal::Journal;
use crate::presence::{Census, Due, Record, Timestamp, UserId};
use crate::store::{Commit, Cursor, LogEntry, Revision, Stored, Totals};

/// How many bytes of commits wait before the database is to take them.
const CARRY_BYTES: usize = 2 * 1024 * 1024;
/// How many may wait at all.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is committed, and what of it waits to be carried over into the database.
pub(super) struct Ledger {
    journal: Journal,
    tail: Tail,
    /// Commits that are in the journal and not in the database, in their order.
    waiting: VecDeque<Arc<Entry>>,
    /// The last of them of each user.
    latest: HashMap<UserId, Arc<Entry>>,
    waiting_bytes: usize,
    /// No later than when the first of their records is due.
    due: Due,
    /// When the first of the database's is.
    carried_due: Due,
    is_carry_asked: bool,
}

/// A commit on its way, its events encoded.
pub(super) struct Draft {
    user: UserId,
    record: Arc<Record>,
    due: Due,
    events: SmallVec<[(Timestamp, Arc<str>); 1]>,
}

/// What a commit takes the place of.
pub(super) struct Current {
    /// The record; an empty one with the revision of a damaged one.
    pub(super) stored: Stored,
    /// What it adds to the counts.
    pub(super) census: Census,
    pub(super) is_damaged: bool,
}

impl Current {
    pub(super) fn whole(stored: Stored) -> Self {
        Self { census: stored.record.census(), stored, is_damaged: false }
    }
}

/// A commit.
pub(super) struct Entry {
    pub(super) user: UserId,
    /// Counts the commits of all users.
    pub(super) revision: u64,
    /// The revision of the record that it takes the place of.
    pub(super) expected: Revision,
    pub(super) before: Census,
    pub(super) after: Census,
    pub(super) stored: Stored,
    /// Whether it is due at another time than before.
    pub(super) is_due_anew: bool,
    /// Whether that record was damaged, and is to be kept aside.
    pub(super) replaces_damaged: bool,
    /// How many bytes its record has as JSON.
    pub(super) record_bytes: usize,
    pub(super) events: SmallVec<[(Timestamp, Arc<str>); 1]>,
    /// Where the log ended before.
    pub(super) log_before: Cursor,
}

/// Where the log ends, and the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) revision: u64,
    pub(super) head: Cursor,
    pub(super) totals: Totals,
    /// How many entries and bytes there were from the first ever on.
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) log_before: Cursor,
}

impl Ledger {
    /// Begins where the database is.
    pub(super) fn new(journal: Journal, tail: Tail, carried_due: Due) -> Self {
        Self {
            journal,
            tail,
            waiting: VecDeque::new(),
            latest: HashMap::new(),
            waiting_bytes: 0,
            due: Due::default(),
            carried_due,
            is_carry_asked: false,
        }
    }

    /// Commits what takes the place of a user's current record; the database cannot lose anything up
    /// to the revision `safe`.
    pub(super) fn commit(
        &mut self,
        draft: Draft,
        current: &Current,
        safe: u64,
    ) -> io::Result<Arc<Entry>> {
        let Draft { user, record, due, events } = draft;
        let revision = self.tail.revision + 1;
        let mut entry = Entry {
            user,
            revision,
            expected: current.stored.revision,
            before: current.census,
            after: record.census(),
            is_due_anew: due != current.stored.due,
            replaces_damaged: current.is_damaged,
            stored: Entry::stored(record, due, revision),
            record_bytes: 0,
            events,
            log_before: self.tail.head,
        };
        entry.record_bytes = self.journal.append(&entry, safe)?;
        let entry = Arc::new(entry);
        self.tail.follow(&entry);
        self.waiting_bytes += entry.bytes();
        self.due = earlier(self.due, entry.stored.due);
        self.latest.insert(entry.user.clone(), Arc::clone(&entry));
        self.waiting.push_back(Arc::clone(&entry));
        Ok(entry)
    }

    /// Proves that the journal takes commits.
    pub(super) fn probe(&mut self, is_failing: bool) -> io::Result<()> {
        self.journal.probe(is_failing)
    }

    /// What somebody else did to the journal.
    pub(super) fn harm(&self) -> io::Result<Option<String>> {
        self.journal.harm()
    }

    pub(super) const fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Whether the database must take some before there may be more.
    pub(super) const fn is_full(&self) -> bool {
        self.waiting_bytes > WAITING_BYTES_MAX
    }

    /// Whether the database is to take some, and nobody has been told.
    pub(super) const fn asks_to_be_carried(&mut self) -> bool {
        let asks = self.waiting_bytes > CARRY_BYTES && !self.is_carry_asked;
        self.is_carry_asked |= asks;
        asks
    }

    // What waits.

    /// What waits, in the order in which the database must take it.
    pub(super) fn waiting(&self) -> Vec<Arc<Entry>> {
        self.waiting.iter().cloned().collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first event that waits happened.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.waiting.iter().find_map(|entry| Some(entry.events.first()?.0))
    }

    /// Forgets the first of what waits, as many as the database has taken.
    pub(super) fn carried(&mut self, count: usize, log_before: Cursor, due: Due) {
        self.tail.log_before = log_before;
        self.carried_due = due;
        for entry in self.waiting.drain(..count) {
            self.waiting_bytes -= entry.bytes();
            if self.latest.get(&entry.user).is_some_and(|latest| Arc::ptr_eq(latest, &entry)) {
                self.latest.remove(&entry.user);
            }
        }
        self.due = self.waiting.iter().map(|entry| entry.stored.due).fold(Due::default(), earlier);
        self.is_carry_asked = false;
    }

    /// A user's record, where it waits.
    pub(super) fn load(&self, user: &UserId) -> Option<Stored> {
        self.latest.get(user).map(|entry| entry.stored.clone())
    }

    /// The users who are due by what waits of them, each with for how long.
    pub(super) fn due(&mut self, now: Timestamp, wall: Timestamp) -> Vec<(Duration, UserId)> {
        if overdue(&self.due, now, wall).is_none() {
            return Vec::new();
        }
        self.due = self.latest.values().map(|entry| entry.stored.due).fold(Due::default(), earlier);
        let due = self
            .latest
            .values()
            .filter_map(|entry| Some((overdue(&entry.stored.due, now, wall)?, entry.user.clone())));
        due.collect()
    }

    /// Whether somebody is due by what the database has.
    pub(super) fn is_carried_due(&self, now: Timestamp, wall: Timestamp) -> bool {
        overdue(&self.carried_due, now, wall).is_some()
    }

    /// Whether something of a user waits.
    pub(super) fn waits(&self, user: &UserId) -> bool {
        self.latest.contains_key(user)
    }

    /// Of how many users something waits.
    pub(super) fn users(&self) -> usize {
        self.latest.len()
    }

    /// Entries of the log after a cursor, if all of them wait.
    pub(super) fn log(&self, after: Cursor, limit: usize) -> Option<Vec<LogEntry>> {
        let first = self.waiting.front().map_or(self.tail.head, |entry| entry.log_before);
        if after < first {
            return None;
        }
        let begin = self.waiting.partition_point(|entry| entry.log_after() <= after);
        let entries = self.waiting.range(begin..).flat_map(|entry| entry.log());
        Some(entries.filter(|entry| entry.cursor > after).take(limit).collect())
    }
}

impl Draft {
    pub(super) fn new(user: &UserId, commit: &Commit) -> Self {
        let events = commit.transitions.iter().map(|t| (t.at, LogEntry::encode(user, t)));
        Self {
            user: user.clone(),
            record: Arc::clone(&commit.record),
            due: commit.due,
            events: events.collect(),
        }
    }
}

impl Entry {
    /// What a commit leaves to be loaded: of an empty record, nothing.
    pub(super) fn stored(record: Arc<Record>, due: Due, revision: u64) -> Stored {
        if record.is_empty() {
            return Stored::default();
        }
        Stored { record, due, revision: Revision(revision) }
    }

    /// How many bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.record_bytes + self.events.iter().map(|(_, event)| event.len()).sum::<usize>()
    }

    fn log_after(&self) -> Cursor {
        Cursor(self.log_before.0 + self.events.len() as u64)
    }

    fn log(&self) -> impl Iterator<Item = LogEntry> {
        let cursors = self.log_before.0 + 1..;
        cursors.zip(&self.events).map(|(cursor, (_, event))| LogEntry {
            cursor: Cursor(cursor),
            user: self.user.clone(),
            event: Ok(Arc::clone(event)),
        })
    }
}

impl Tail {
    /// Goes on by a commit.
    pub(super) fn follow(&mut self, entry: &Entry) {
        self.revision = entry.revision;
        self.totals.replace(&entry.before, &entry.after);
        for (_, event) in &entry.events {
            self.head.0 += 1;
            self.entries += 1;
            self.bytes += event.len() as u64;
        }
    }
}

/// For how long something is due, if it is.
fn overdue(due: &Due, now: Timestamp, wall: Timestamp) -> Option<Duration> {
    let since = |at: Option<Timestamp>, now| at.filter(|at| *at <= now).map(|at| now - at);
    since(due.running, now).max(since(due.wall, wall))
}

fn earlier(one: Due, other: Due) -> Due {
    let min = |one: Option<Timestamp>, other| one.into_iter().chain(other).min();
    Due { running: min(one.running, other.running), wall: min(one.wall, other.wall) }
}
