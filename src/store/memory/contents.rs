//! What the store in memory holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::presence::{NodeId, SignOfLife, Timestamp, UserId, WatchList};
use crate::store::rules::{self, Fate, Oldest};
use crate::store::{
    Among, Backlog, Cursor, Dead, DeadSelection, HeldUser, HistoryPart, Listed, LogEntry, Lookout,
    Lost, Part, Retention, Save, StoreError, Stored, Totals, WebhookName,
};

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) users: BTreeMap<UserId, Stored>,
    /// Those that are not empty.
    pub(super) watch_lists: BTreeMap<UserId, Arc<WatchList>>,
    /// Users by their deadlines, on each node's own time and on the wall clock.
    pub(super) deadlines: BTreeMap<NodeId, BTreeSet<(Timestamp, UserId)>>,
    pub(super) wall_deadlines: BTreeSet<(Timestamp, UserId)>,
    /// The last revision. Never reused, even after a user is deleted and created again.
    pub(super) commits: u64,
    pub(super) log: BTreeMap<Cursor, TimedEntry>,
    /// The size of all events in `log`.
    pub(super) log_bytes: u64,
    /// The cursors of each user's entries, the oldest first.
    pub(super) history: HashMap<UserId, VecDeque<Cursor>>,
    /// The cursor before the oldest entry.
    pub(super) log_before: Cursor,
    pub(super) totals: Totals,
    /// The position and the held users of each webhook.
    pub(super) progress: BTreeMap<WebhookName, (Cursor, BTreeMap<UserId, HeldUser>)>,
    /// The figures of each day.
    pub(super) days: BTreeMap<u32, Arc<str>>,
    pub(super) nodes: BTreeMap<NodeId, KnownNode>,
    /// The nodes from which nothing is accepted any more.
    pub(super) retired: BTreeSet<NodeId>,
    /// Dead letters, and whether each was put back.
    pub(super) dead: BTreeMap<(WebhookName, Cursor), (Dead, bool)>,
}

#[derive(Debug)]
pub(super) struct KnownNode {
    /// Its last sign of life.
    pub(super) sign: SignOfLife,
    pub(super) card: Arc<str>,
    /// What it has seen of the other nodes.
    pub(super) lookout: Lookout,
}

/// A log entry and its time, from which its age is counted.
#[derive(Debug)]
pub(super) struct TimedEntry {
    pub(super) entry: LogEntry,
    pub(super) at: Timestamp,
}

impl Contents {
    /// Evicts the oldest entry.
    pub(super) fn evict_oldest(&mut self) {
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

    /// The oldest entry that some webhook has not delivered or given up.
    fn unread(&self) -> Option<Cursor> {
        let position = self.progress.values().map(|(position, _)| *position).min()?;
        let next = self.log.range((Bound::Excluded(position), Bound::Unbounded)).next();
        let held = self.progress.values().flat_map(|(_, held)| held.values());
        rules::first_unread(held.map(|held| held.from), next.map(|(cursor, _)| *cursor))
    }

    pub(super) fn trim(&mut self, retention: &Retention, now: Timestamp) -> u64 {
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
    pub(super) fn reindex(&mut self, user: &UserId, old: &Stored, new: &Stored) {
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

    pub(super) fn overdue(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> Vec<UserId> {
        let until = |index: &BTreeSet<(Timestamp, UserId)>, at: Timestamp| -> Vec<_> {
            let due = index.iter().take_while(|(due, _)| *due <= at);
            due.map(|(due, user)| (at - *due, user.clone())).take(limit).collect()
        };
        let mut overdue = until(&self.wall_deadlines, wall);
        overdue.extend(self.deadlines.get(&node).into_iter().flat_map(|own| until(own, now)));
        rules::most_overdue(overdue, limit)
    }

    /// Notes a node's sign of life; returns which others are dead, as that node has seen them.
    pub(super) fn sign(
        &mut self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> Result<Vec<Lost>, StoreError> {
        if self.retired.contains(&node) {
            return Err(StoreError::Retired);
        }
        let mut lookout = self.nodes.remove(&node).map(|known| known.lookout).unwrap_or_default();
        let others = self.nodes.iter().map(|(other, known)| (*other, &known.sign));
        let lost = lookout.look(others, sign.now, sign.now);
        // The dead node may still commit. It is stopped before the takeover begins: a session that it began during
        // the takeover would be missed, and no node would ever end it.
        self.retired.extend(lost.iter().map(|it| it.node));
        self.nodes.insert(node, KnownNode { sign, card, lookout });
        Ok(lost)
    }

    pub(super) fn held(
        &self,
        node: NodeId,
        part: Part,
        after: Option<&UserId>,
        limit: usize,
    ) -> Vec<Listed> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.users.range::<UserId, _>((after, Bound::Unbounded));
        let held = users.filter(|(user, stored)| part.has(user) && stored.record.is_held_by(node));
        held.take(limit)
            .map(|(user, stored)| (user.clone(), Ok(Arc::clone(&stored.record))))
            .collect()
    }

    pub(super) fn list(&self, among: &Among, limit: usize) -> Vec<Listed> {
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

    pub(super) fn history(&self, user: &UserId, part: HistoryPart, limit: usize) -> Vec<LogEntry> {
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

    pub(super) fn backlog(&self, after: Cursor) -> Backlog {
        let mut backlog = Backlog::default();
        for (_, kept) in self.log.range((Bound::Excluded(after), Bound::Unbounded)) {
            backlog.entries += 1;
            backlog.bytes += kept.entry.bytes() as u64;
            backlog.oldest.get_or_insert(kept.at);
        }
        backlog
    }

    pub(super) fn save(&mut self, save: Save) {
        let webhook = save.webhook;
        let (position, held) = self.progress.entry(webhook.clone()).or_default();
        *position = save.position;
        for user in &save.freed {
            held.remove(user);
        }
        held.extend(save.held.into_iter().map(|one| (one.user.clone(), one)));
        for cursor in &save.revived {
            self.dead.remove(&(webhook.clone(), *cursor));
        }
        let dead =
            save.dead.into_iter().map(|dead| ((webhook.clone(), dead.entry.cursor), (dead, false)));
        self.dead.extend(dead);
    }

    /// The dead letters of a webhook, oldest first.
    pub(super) fn letters<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> impl Iterator<Item = (Cursor, &'a (Dead, bool))> {
        let from = (webhook.clone(), Cursor::default());
        let own = self.dead.range(from..).take_while(move |((of, _), _)| of == webhook);
        own.map(|((_, cursor), letter)| (*cursor, letter))
    }

    pub(super) fn selected<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: &'a DeadSelection,
    ) -> impl Iterator<Item = Cursor> + 'a {
        let idle = self.letters(webhook).filter(|(_, (_, put_back))| !put_back);
        idle.map(|(cursor, _)| cursor).filter(move |cursor| match which {
            DeadSelection::All => true,
            DeadSelection::These(these) => these.contains(cursor),
        })
    }
}
