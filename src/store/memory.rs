//! A store in memory: it keeps nothing over a restart, except the latest time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::ready;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::messages::Messages;
use super::rules::{self, Fate, Oldest};
use super::saved_time::SavedTime;
use super::{
    Among, Backlog, Commit, Cursor, Dead, DeadSelection, HeldUser, HistoryPart, Listed, Log,
    LogEntry, Lookout, Lost, Nodes, Outbox, Progress, Records, Retention, Revision, Save,
    StoreError, Stored, Subscription, Totals,
};
use crate::presence::{NodeId, SignOfLife, Timestamp, UserId};

/// The maximum number of entries of the log in memory.
pub const LOG_ENTRIES_MAX: usize = 100_000;

/// How far ahead of the present the saved time is. It is written every second, and the versions of that
/// second must not be greater.
const SAVED_AHEAD: Duration = Duration::from_secs(2);

/// Keeps everything in memory, and loses it at exit.
#[derive(Debug)]
pub struct MemoryStore {
    /// Not held over an await.
    state: Mutex<Contents>,
    head: watch::Sender<Cursor>,
    messages: Messages,
    retention: Retention,
    /// The saved time of the run before, if any.
    latest: Timestamp,
    /// The file in which this run saves its time.
    saved_time: Option<SavedTime>,
}

#[derive(Debug, Default)]
struct Contents {
    users: BTreeMap<UserId, Stored>,
    /// Users by their deadlines, on each node's own time and on the wall clock.
    deadlines: BTreeMap<NodeId, BTreeSet<(Timestamp, UserId)>>,
    wall_deadlines: BTreeSet<(Timestamp, UserId)>,
    /// The last revision. Never reused, even after a user is deleted and created again.
    commits: u64,
    log: BTreeMap<Cursor, TimedEntry>,
    /// The size of all events in `log`.
    log_bytes: u64,
    /// The cursors of each user's entries, the oldest first.
    history: HashMap<UserId, VecDeque<Cursor>>,
    /// The cursor before the oldest entry.
    log_before: Cursor,
    totals: Totals,
    progress: Option<(Cursor, BTreeMap<UserId, HeldUser>)>,
    /// The last sign of life of each node, and what each has seen of the others.
    nodes: BTreeMap<NodeId, (SignOfLife, Lookout)>,
    /// The nodes from which nothing is accepted any more.
    retired: BTreeSet<NodeId>,
    /// Dead letters, and whether each was put back.
    dead: BTreeMap<Cursor, (Dead, bool)>,
}

/// A log entry and its time, from which its age is counted.
#[derive(Debug)]
struct TimedEntry {
    entry: LogEntry,
    at: Timestamp,
}

impl MemoryStore {
    /// Makes an empty store. Its log holds at most [`LOG_ENTRIES_MAX`] entries.
    pub fn new(retention: Retention, wall: Timestamp) -> Self {
        let begin = Cursor::of_new_run(Cursor::default(), wall);
        let state = Contents { log_before: begin, ..Contents::default() };
        let head = watch::Sender::new(begin);
        let (latest, saved_time) = (Timestamp::default(), None);
        let messages = Messages::default();
        Self { state: Mutex::new(state), head, messages, retention, latest, saved_time }
    }

    /// Saves the time in a directory, and nothing else. So the next run's versions are greater even if
    /// the wall clock was set back (V2).
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or created.
    pub fn with_saved_time(self, directory: &Path) -> io::Result<Self> {
        let (saved_time, latest) = SavedTime::open(directory)?;
        Ok(Self { saved_time: Some(saved_time), latest, ..self })
    }

    fn swap(&self, user: &UserId, base: &Stored, commit: Commit) -> Result<(), StoreError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.retired.contains(&commit.node) {
            return Err(StoreError::Retired);
        }
        let current = state.users.remove(user).unwrap_or_default();
        if current.revision != base.revision {
            state.users.insert(user.clone(), current);
            return Err(StoreError::Conflict);
        }
        let Commit { node, record, wall_deadline, transitions, sync: _, message } = commit;
        state.totals.replace(&current.record.census(), &record.census());
        let is_kept = !record.is_empty();
        let stored = Stored { record, wall_deadline, revision: Revision(state.commits + 1) };
        state.reindex(user, &current, &stored);
        if is_kept {
            state.commits += 1;
            state.users.insert(user.clone(), stored);
        }
        let mut head = *self.head.borrow();
        for transition in &transitions {
            head.0 += 1;
            let event = LogEntry::encode(user, transition);
            state.log_bytes += event.len() as u64;
            let entry = LogEntry { cursor: head, user: user.clone(), event: Ok(event) };
            state.history.entry(user.clone()).or_default().push_back(head);
            state.log.insert(head, TimedEntry { entry, at: transition.at });
        }
        while state.log.len() > LOG_ENTRIES_MAX {
            state.evict_oldest();
        }
        // Under the lock, because the next commit reads the head.
        if !transitions.is_empty() {
            self.head.send_replace(head);
        }
        if let Some(message) = message {
            self.messages.send(node, message);
        }
        Ok(())
    }

    fn read(&self, after: Option<Cursor>, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let state = self.state.lock();
        let after = after.unwrap_or(state.log_before);
        if after < state.log_before || after > *self.head.borrow() {
            return Err(StoreError::CursorExpired);
        }
        let entries = state.log.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(entries.take(limit).map(|(_, kept)| kept.entry.clone()).collect())
    }
}

impl Contents {
    /// Evicts the oldest entry.
    fn evict_oldest(&mut self) {
        let Some((cursor, TimedEntry { entry, .. })) = self.log.pop_first() else { return };
        self.log_before = cursor;
        self.log_bytes -= entry.bytes() as u64;
        if let Some(history) = self.history.get_mut(&entry.user) {
            history.pop_front();
            if history.is_empty() {
                self.history.remove(&entry.user);
            }
        }
    }

    /// The oldest entry that the webhook has not delivered or given up.
    fn unread(&self) -> Option<Cursor> {
        let (position, held) = self.progress.as_ref()?;
        let next = self.log.range((Bound::Excluded(*position), Bound::Unbounded)).next();
        rules::first_unread(held.values().map(|held| held.from), next.map(|(cursor, _)| *cursor))
    }

    fn trim(&mut self, retention: &Retention, now: Timestamp) -> u64 {
        let unread = self.unread();
        let mut lost = 0;
        while let Some((cursor, kept)) = self.log.first_key_value() {
            let bytes_from_it = self.log_bytes;
            let oldest = Oldest { cursor: *cursor, at: Some(kept.at), bytes_from_it };
            match retention.fate(&oldest, unread, now) {
                Fate::Keep => break,
                Fate::Expire => (),
                Fate::Lose => lost += 1,
            }
            self.evict_oldest();
        }
        lost
    }

    /// Replaces the deadlines of a user's record with those of its new version.
    fn reindex(&mut self, user: &UserId, old: &Stored, new: &Stored) {
        if !old.record.deadlines().eq(new.record.deadlines()) {
            for (node, at) in old.record.deadlines() {
                let deadlines = self.deadlines.entry(node).or_default();
                deadlines.remove(&(at, user.clone()));
                if deadlines.is_empty() {
                    self.deadlines.remove(&node);
                }
            }
            for (node, at) in new.record.deadlines() {
                self.deadlines.entry(node).or_default().insert((at, user.clone()));
            }
        }
        if old.wall_deadline != new.wall_deadline {
            if let Some(at) = old.wall_deadline {
                self.wall_deadlines.remove(&(at, user.clone()));
            }
            if let Some(at) = new.wall_deadline {
                self.wall_deadlines.insert((at, user.clone()));
            }
        }
    }

    fn overdue(&self, node: NodeId, now: Timestamp, wall: Timestamp, limit: usize) -> Vec<UserId> {
        let until = |index: &BTreeSet<(Timestamp, UserId)>, at: Timestamp| -> Vec<_> {
            let due = index.iter().take_while(|(due, _)| *due <= at);
            due.map(|(due, user)| (at - *due, user.clone())).take(limit).collect()
        };
        let mut overdue = until(&self.wall_deadlines, wall);
        overdue.extend(self.deadlines.get(&node).into_iter().flat_map(|own| until(own, now)));
        rules::most_overdue(overdue, limit)
    }

    /// Notes a node's sign of life; returns which others are dead, as that node has seen them.
    fn sign(&mut self, node: NodeId, sign: SignOfLife) -> Result<Vec<Lost>, StoreError> {
        if self.retired.contains(&node) {
            return Err(StoreError::Retired);
        }
        let mut lookout = self.nodes.remove(&node).map(|(_, lookout)| lookout).unwrap_or_default();
        let others = self.nodes.iter().map(|(other, (sign, _))| (*other, sign));
        let lost = lookout.look(others, sign.now);
        // The dead node may still commit. It is stopped before the takeover begins: a session that it began during
        // the takeover would be missed, and no node would ever end it.
        self.retired.extend(lost.iter().map(|it| it.node));
        self.nodes.insert(node, (sign, lookout));
        Ok(lost)
    }

    fn held(&self, node: NodeId, after: Option<&UserId>, limit: usize) -> Vec<Listed> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.users.range::<UserId, _>((after, Bound::Unbounded));
        let held = users.filter(|(_, stored)| stored.record.is_held_by(node));
        held.take(limit)
            .map(|(user, stored)| (user.clone(), Ok(Arc::clone(&stored.record))))
            .collect()
    }

    fn list(&self, among: &Among, limit: usize) -> Vec<Listed> {
        let (from, is_after) = among.begin();
        let from = if is_after { Bound::Excluded(from) } else { Bound::Included(from) };
        let users = self.users.range::<str, _>((from, Bound::Unbounded));
        let users = users.take_while(|(user, _)| among.has_prefix(user));
        let selected = users.filter(|(_, stored)| {
            stored.record.version > 0 && among.states.contains(&stored.record.state())
        });
        let listed =
            |(user, stored): (&UserId, &Stored)| (user.clone(), Ok(Arc::clone(&stored.record)));
        selected.take(limit).map(listed).collect()
    }

    fn history(&self, user: &UserId, part: HistoryPart, limit: usize) -> Vec<LogEntry> {
        let Some(cursors) = self.history.get(user) else { return Vec::new() };
        let entry = |cursor: &Cursor| Some(self.log.get(cursor)?.entry.clone());
        match part {
            HistoryPart::After(after) => {
                let begin = cursors.partition_point(|cursor| *cursor <= after);
                cursors.range(begin..).filter_map(entry).take(limit).collect()
            }
            HistoryPart::Before(before) => {
                let is_before = |cursor: &Cursor| before.is_none_or(|before| *cursor < before);
                let end = cursors.partition_point(is_before);
                cursors.range(..end).rev().filter_map(entry).take(limit).collect()
            }
        }
    }

    fn backlog(&self, after: Cursor) -> Backlog {
        let mut backlog = Backlog::default();
        for (_, kept) in self.log.range((Bound::Excluded(after), Bound::Unbounded)) {
            backlog.entries += 1;
            backlog.bytes += kept.entry.bytes() as u64;
            backlog.oldest.get_or_insert(kept.at);
        }
        backlog
    }

    fn save(&mut self, save: Save) {
        let (position, held) = self.progress.get_or_insert_default();
        *position = save.position;
        for user in &save.freed {
            held.remove(user);
        }
        held.extend(save.held.into_iter().map(|one| (one.user.clone(), one)));
        for cursor in &save.revived {
            self.dead.remove(cursor);
        }
        let dead = save.dead.into_iter().map(|dead| (dead.entry.cursor, (dead, false)));
        self.dead.extend(dead);
    }

    fn selected<'a>(&'a self, which: &'a DeadSelection) -> impl Iterator<Item = Cursor> + 'a {
        let idle = self.dead.iter().filter(|(_, (_, put_back))| !put_back);
        idle.map(|(cursor, _)| *cursor).filter(move |cursor| match which {
            DeadSelection::All => true,
            DeadSelection::These(these) => these.contains(cursor),
        })
    }
}

impl Records for MemoryStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        let stored = self.state.lock().users.get(user).cloned();
        ready(Ok(stored.unwrap_or_default())).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.swap(user, base, commit)).boxed()
    }

    fn listen(&self, node: NodeId) -> Subscription {
        self.messages.subscribe(node)
    }

    fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        ready(Ok(self.state.lock().overdue(node, now, wall, limit))).boxed()
    }

    fn held<'a>(
        &'a self,
        node: NodeId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        ready(Ok(self.state.lock().held(node, after, limit))).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        ready(Ok(self.state.lock().list(among, limit))).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        ready(Ok(self.state.lock().totals)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn damaged(&self) -> u64 {
        0
    }

    fn latest(&self) -> Timestamp {
        self.latest
    }
}

impl Log for MemoryStore {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        ready(self.read(after, limit)).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        ready(Ok(self.state.lock().history(user, part, limit))).boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        ready(Ok(self.state.lock().backlog(after))).boxed()
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(self.state.lock().trim(&self.retention, now))).boxed()
    }
}

impl Nodes for MemoryStore {
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        if let Some(saved_time) = &self.saved_time {
            // An error matters only if the wall clock is set back before the next run.
            saved_time.write(sign.now + SAVED_AHEAD).ok();
        }
        ready(self.state.lock().sign(node, sign)).boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state.lock();
        state.nodes.remove(&node);
        state.retired.insert(node);
        ready(Ok(())).boxed()
    }
}

impl Outbox for MemoryStore {
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>> {
        let state = self.state.lock();
        let progress = state.progress.as_ref().map(|(position, held)| {
            let behind = held.values().map(|held| {
                let entries = state.history.get(&held.user).into_iter().flatten();
                let behind = entries.filter(|cursor| (held.from..=*position).contains(*cursor));
                (held.user.clone(), behind.count())
            });
            let behind = behind.collect();
            Progress { position: *position, held: held.values().cloned().collect(), behind }
        });
        ready(Ok(progress)).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.lock().save(save);
        ready(Ok(())).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.lock().progress = None;
        ready(Ok(())).boxed()
    }

    fn dead(
        &self,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Dead>, StoreError>> {
        let state = self.state.lock();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let dead = state.dead.range((after, Bound::Unbounded));
        let dead = dead.filter(|(_, (_, is_back))| *is_back == put_back);
        ready(Ok(dead.take(limit).map(|(_, (dead, _))| dead.clone()).collect())).boxed()
    }

    fn dead_waiting(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let state = self.state.lock();
        let waiting = state.dead.values().filter(|(_, is_back)| !is_back);
        ready(Ok(waiting.count() as u64)).boxed()
    }

    fn put_back(&self, which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut state = self.state.lock();
        let selected: Vec<_> = state.selected(&which).collect();
        let mut count = 0;
        for cursor in &selected {
            if let Some((dead, put_back)) = state.dead.get_mut(cursor)
                && !dead.entry.is_damaged()
            {
                *put_back = true;
                count += 1;
            }
        }
        ready(Ok(count)).boxed()
    }

    fn drop_dead(&self, which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut state = self.state.lock();
        let selected: Vec<_> = state.selected(&which).collect();
        for cursor in &selected {
            state.dead.remove(cursor);
        }
        ready(Ok(selected.len() as u64)).boxed()
    }
}
