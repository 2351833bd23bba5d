//! A store in memory: it keeps nothing over a restart, except the latest time.

mod contents;

use std::collections::BTreeSet;
use std::future::ready;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::contents::{Contents, TimedEntry};
use crate::presence::{NodeId, SignOfLife, Timestamp, UserId, WatchList, WatchListChange};
use crate::store::messages::Messages;
use crate::store::saved_time::SavedTime;
use crate::store::{
    Among, Backlog, Commit, Cursor, Day, Days, Dead, DeadSelection, HistoryPart, Listed, Log,
    LogEntry, Lost, Message, NodeCard, Nodes, Outbox, Part, Progress, Records, Retention, Revision,
    Save, StoreError, Stored, Subscription, Totals, WatchLists, WebhookName,
};

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
    /// All nodes of one process may post.
    turn: watch::Sender<bool>,
}

impl MemoryStore {
    /// Makes an empty store. Its log holds at most [`LOG_ENTRIES_MAX`] entries.
    pub fn new(retention: Retention, wall: Timestamp) -> Self {
        let begin = Cursor::of_new_run(Cursor::default(), wall);
        let state = Contents { log_before: begin, ..Contents::default() };
        let head = watch::Sender::new(begin);
        let (latest, saved_time) = (Timestamp::default(), None);
        let (messages, turn) = (Messages::default(), watch::Sender::new(true));
        Self { state: Mutex::new(state), head, messages, retention, latest, saved_time, turn }
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
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        ready(Ok(self.state.lock().held(node, part, after, limit))).boxed()
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

impl WatchLists for MemoryStore {
    fn watch_list<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>> {
        let list = self.state.lock().watch_lists.get(user).cloned();
        ready(Ok(list.unwrap_or_default())).boxed()
    }

    fn change_watch_list<'a>(
        &'a self,
        node: NodeId,
        user: &'a UserId,
        change: WatchListChange,
        max: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>> {
        let mut state = self.state.lock();
        if state.retired.contains(&node) {
            return ready(Err(StoreError::Retired)).boxed();
        }
        let list = state.watch_lists.get(user).cloned().unwrap_or_default();
        let Some(list) = list.changed(&change, max).map(Arc::new) else {
            return ready(Ok(None)).boxed();
        };
        if list.users().is_empty() {
            state.watch_lists.remove(user);
        } else {
            state.watch_lists.insert(user.clone(), Arc::clone(&list));
        }
        self.messages.send(node, Message::watch_list_of(user.clone()));
        ready(Ok(Some(list))).boxed()
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
        card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        if let Some(saved_time) = &self.saved_time {
            // An error matters only if the wall clock is set back before the next run.
            saved_time.write(sign.now + SAVED_AHEAD).ok();
        }
        ready(self.state.lock().sign(node, sign, card)).boxed()
    }

    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>> {
        let state = self.state.lock();
        let cards = state.nodes.iter().map(|(node, known)| NodeCard {
            node: *node,
            card: Arc::clone(&known.card),
            clock_ms: None,
            is_lost: state.retired.contains(node),
        });
        ready(Ok(cards.collect())).boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state.lock();
        state.nodes.remove(&node);
        state.retired.insert(node);
        ready(Ok(())).boxed()
    }
}

impl Days for MemoryStore {
    fn days(&self, from: u32) -> BoxFuture<'_, Result<Vec<Day>, StoreError>> {
        let state = self.state.lock();
        let days = state.days.range(from..).map(|(day, figures)| (*day, Arc::clone(figures)));
        ready(Ok(days.collect())).boxed()
    }

    fn save_day(
        &self,
        day: u32,
        figures: Arc<str>,
        keep_from: u32,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state.lock();
        state.days.insert(day, figures);
        state.days.retain(|day, _| *day >= keep_from);
        ready(Ok(())).boxed()
    }

    fn days_turn(&self) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }
}

impl Outbox for MemoryStore {
    fn turn(&self, _: &WebhookName) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }

    fn progress<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<Option<Progress>, StoreError>> {
        let state = self.state.lock();
        let progress = state.progress.get(webhook).map(|(position, held)| {
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

    fn clear<'a>(&'a self, webhook: &'a WebhookName) -> BoxFuture<'a, Result<(), StoreError>> {
        self.state.lock().progress.remove(webhook);
        ready(Ok(())).boxed()
    }

    fn webhooks(&self) -> BoxFuture<'_, Result<Vec<WebhookName>, StoreError>> {
        let state = self.state.lock();
        let known = state.progress.keys().chain(state.dead.keys().map(|(webhook, _)| webhook));
        let named: BTreeSet<_> = known.filter(|webhook| !webhook.is_unnamed()).collect();
        ready(Ok(named.into_iter().cloned().collect())).boxed()
    }

    fn dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Dead>, StoreError>> {
        let state = self.state.lock();
        let dead = state.letters(webhook).filter(|(cursor, (_, is_back))| {
            *is_back == put_back && after.is_none_or(|after| *cursor > after)
        });
        ready(Ok(dead.take(limit).map(|(_, (dead, _))| dead.clone()).collect())).boxed()
    }

    fn dead_waiting<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let state = self.state.lock();
        let waiting = state.letters(webhook).filter(|(_, (_, is_back))| !is_back);
        ready(Ok(waiting.count() as u64)).boxed()
    }

    fn put_back<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let mut state = self.state.lock();
        let selected: Vec<_> = state.selected(webhook, &which).collect();
        let mut count = 0;
        for cursor in selected {
            if let Some((dead, put_back)) = state.dead.get_mut(&(webhook.clone(), cursor))
                && !dead.entry.is_damaged()
            {
                *put_back = true;
                count += 1;
            }
        }
        ready(Ok(count)).boxed()
    }

    fn drop_dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let mut state = self.state.lock();
        let selected: Vec<_> = state.selected(webhook, &which).collect();
        for cursor in &selected {
            state.dead.remove(&(webhook.clone(), *cursor));
        }
        ready(Ok(selected.len() as u64)).boxed()
    }
}
