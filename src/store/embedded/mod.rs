//! The store that is embedded: SQLite, in a directory of the hub's own. `README.md` has the design.

mod cache;
mod columns;
mod connection;
mod damage;
mod disk;
mod error;
mod job;
mod mark;
mod mend;
mod notes;
mod open;
mod queries;
mod queue;
mod reader;
mod runs;
mod schema;
mod tail;
#[cfg(test)]
mod thread_panics;
mod transaction;
mod view;
mod watch_lists;
mod writer;

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rusqlite::Connection;
use serde_json::value::RawValue;
use tokio::sync::watch;

use self::columns::Due;
use self::disk::Access;
pub use self::error::OpenFault;
use self::job::{
    ClearProgress, DropDead, Job, PutBack, Retire, SaveDay, SaveProgress, Trim, WriteCommit,
    WriteSign, queued,
};
use self::open::{Opened, open};
use self::queries::UserRow;
use self::tail::Tail;
use self::transaction::EncodedCommit;
use super::log::json;
use super::rules::most_overdue;
use super::{
    Among, Backlog, Commit, Cursor, Day, Days, Dead, DeadSelection, HistoryPart, Listed, Log,
    LogEntry, Lost, NodeCard, Nodes, Outbox, Part, Progress, Records, Retention, Save, StoreError,
    Stored, Subscription, Totals, WebhookName,
};
use crate::presence::{NodeId, SignOfLife, Timestamp, UserId};

/// How many transactions one trim of the log has at most, and how long other jobs have the writer between
/// two of them.
const TRIMS_MAX: usize = 100;
/// See [`TRIMS_MAX`].
const TRIM_PAUSE: Duration = Duration::from_millis(5);

/// Keeps everything in a database that outlives the process.
pub struct EmbeddedStore {
    parts: Opened,
    /// Whether each commit is synced before it is answered.
    syncs_each: bool,
    /// Earlier runs that are not taken over yet, with their last signs of life.
    lost: Mutex<Vec<(NodeId, SignOfLife)>>,
    /// What this node last said of itself: it is alone.
    card: Mutex<Option<NodeCard>>,
    /// It is always this node's turn.
    turn: watch::Sender<bool>,
}

impl EmbeddedStore {
    /// Opens the database in a directory, and makes both where they are not there.
    ///
    /// What is committed is synced within `sync`, or before it is answered where that is zero; `present`
    /// is when the new run begins.
    ///
    /// # Errors
    ///
    /// Where it cannot be read and written, is damaged, or lacks what was committed.
    pub fn open(
        directory: &Path,
        retention: Retention,
        sync: Duration,
        present: &SignOfLife,
    ) -> Result<Self, OpenFault> {
        let parts = open(directory, retention, sync, present)?;
        let lost = Mutex::new(parts.lost.clone());
        let (card, turn) = (Mutex::default(), watch::Sender::new(true));
        Ok(Self { parts, syncs_each: sync.is_zero(), lost, card, turn })
    }

    async fn write<J: Job>(&self, job: J) -> Result<J::Answer, StoreError> {
        let (job, answer) = queued(job);
        self.parts.jobs.give(job);
        let stopped = |_| StoreError::unavailable(&"the thread that writes has stopped");
        answer.await.map_err(stopped)?
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.parts.readers.ask(question).await
    }

    async fn find(&self, user: &UserId) -> Result<UserRow, StoreError> {
        let cache = &self.parts.view.cache;
        if let Some(stored) = cache.get(user) {
            return Ok(UserRow::Whole(stored, 0));
        }
        let seen = cache.commits_seen(user);
        let found = self.parts.readers.load(user).await?;
        if let UserRow::Whole(stored, bytes) = &found {
            cache.fill(user, stored, *bytes, seen);
        }
        Ok(found)
    }

    async fn load(&self, user: &UserId) -> Result<Stored, StoreError> {
        match self.find(user).await? {
            UserRow::Whole(stored, _) => Ok(stored),
            UserRow::Damaged(remains) => {
                Err(StoreError::Damaged { revision: remains.revision, rescued: remains.rescued() })
            }
        }
    }

    async fn swap(&self, user: &UserId, base: &Stored, commit: Commit) -> Result<(), StoreError> {
        // A full disk may take a small commit now and then; only a sign of life proves that it is well.
        self.parts.disk.takes_commits()?;
        let before = if base.is_damaged() {
            match self.find(user).await? {
                UserRow::Damaged(remains) => (remains.census(), remains.due),
                UserRow::Whole(..) => return Err(StoreError::Conflict),
            }
        } else {
            (base.record.census(), Due::of(&base.record, base.wall_deadline))
        };
        // The message is not sent: the embedded store has one node.
        let Commit { node: _, record, wall_deadline, transitions, sync, message: _ } = commit;
        let events = transitions.iter().map(|t| (t.at, LogEntry::encode(user, t)));
        let draft = EncodedCommit {
            user: user.clone(),
            expected: base.revision,
            before,
            replaces_damaged: base.is_damaged(),
            record_json: json(&*record),
            due: Due::of(&record, wall_deadline),
            record,
            events: events.collect(),
        };
        self.write(WriteCommit(draft)).await?.ok_or(StoreError::Conflict)?;
        if sync || self.syncs_each {
            return self.parts.disk.sync_now().await;
        }
        Ok(())
    }

    async fn what_is_due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        if !self.parts.view.is_any_due(now, wall) {
            return Ok(Vec::new());
        }
        let view = Arc::clone(&self.parts.view);
        let due = self.ask(move |c| queries::due(c, now, wall, limit, &view.damage)).await?;
        Ok(most_overdue(due, limit))
    }

    async fn read_log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let Tail { head, log_before, .. } = self.parts.view.tail();
        let after = after.unwrap_or(log_before);
        if after < log_before || after > head || !self.parts.runs.gave_out(after) {
            return Err(StoreError::CursorExpired);
        }
        if after == head {
            return Ok(Vec::new());
        }
        let view = Arc::clone(&self.parts.view);
        let read = move |connection: &Connection| {
            let entries = queries::log(connection, after, head, limit, &view.damage)?;
            Ok((entries, queries::log_before(connection)?))
        };
        let (entries, log_before) = self.ask(read).await?;
        // A trim may have let some go meanwhile.
        if after < log_before {
            return Err(StoreError::CursorExpired);
        }
        Ok(entries)
    }

    async fn trim_all(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut lost = 0;
        for _ in 0..TRIMS_MAX {
            let trimmed = self.write(Trim(now)).await?;
            lost += trimmed.lost;
            if !trimmed.may_be_more {
                break;
            }
            tokio::time::sleep(TRIM_PAUSE).await;
        }
        let log_before = self.parts.view.tail().log_before;
        self.parts.view.damage.gone("log", |cursor| cursor <= log_before);
        Ok(lost)
    }

    /// Notes a sign of life, which proves that records can be read and written, or finds out that they
    /// cannot.
    async fn note_sign(&self, node: NodeId, sign: SignOfLife) -> Result<Vec<Lost>, StoreError> {
        let disk = &self.parts.disk;
        let can_read = self.probe_reads().await;
        let has_room = disk.keep_room();
        let proves = disk.takes_commits().is_err();
        self.write(WriteSign { node: node.to_string(), sign: sign.clone(), proves }).await?;
        has_room?;
        if proves {
            disk.recovered(Access::Writes);
        }
        // A checkpoint logs its own errors, and the next second tries again.
        let disk = Arc::clone(disk);
        drop(tokio::task::spawn_blocking(move || disk.checkpoint()));
        can_read?;
        let lost = self.lost.lock();
        Ok(lost.iter().map(|(node, last)| Lost::on_this_machine(*node, last, &sign)).collect())
    }

    async fn probe_reads(&self) -> Result<(), StoreError> {
        // No user has this id today, and none needs to.
        let nobody = UserId::stored(".").map_err(|error| StoreError::unavailable(&error))?;
        let read = self.parts.readers.load(&nobody).await.map(drop);
        match &read {
            Ok(()) => self.parts.disk.recovered(Access::Reads),
            Err(error) => self.parts.disk.failed(Access::Reads, error),
        }
        read
    }
}

impl Records for EmbeddedStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        self.load(user).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.swap(user, base, commit).boxed()
    }

    fn listen(&self, _: NodeId) -> Subscription {
        Subscription::alone()
    }

    // All deadlines are this node's: every other node is dead, and its users are taken over first.
    fn due(
        &self,
        _: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.what_is_due(now, wall, limit).boxed()
    }

    fn held<'a>(
        &'a self,
        node: NodeId,
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let (after, view) = (after.cloned(), Arc::clone(&self.parts.view));
        self.ask(move |c| queries::held(c, (node, part), after, limit, &view.damage)).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let (among, view) = (among.clone(), Arc::clone(&self.parts.view));
        self.ask(move |connection| queries::users(connection, &among, limit, &view.damage)).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        ready(Ok(self.parts.view.tail().totals)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.parts.disk.condition()).boxed()
    }

    fn damaged(&self) -> u64 {
        self.parts.view.damage.count()
    }

    fn latest(&self) -> Timestamp {
        self.parts.latest
    }
}

impl Log for EmbeddedStore {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.parts.view.head()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.read_log(after, limit).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        let (user, view) = (user.clone(), Arc::clone(&self.parts.view));
        self.ask(move |c| queries::history(c, &user, part, limit, &view.damage)).boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        let Tail { entries, bytes, .. } = self.parts.view.tail();
        self.ask(move |c| queries::backlog(c, after, (entries, bytes))).boxed()
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.trim_all(now).boxed()
    }
}

impl Nodes for EmbeddedStore {
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        *self.card.lock() = Some(NodeCard { node, card, clock_ms: None, is_lost: false });
        self.note_sign(node, sign).boxed()
    }

    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>> {
        ready(Ok(self.card.lock().iter().cloned().collect())).boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.write(Retire(node.to_string())).await?;
            self.parts.view.damage.mended("nodes", &node.to_string());
            self.lost.lock().retain(|(lost, _)| *lost != node);
            Ok(())
        }
        .boxed()
    }
}

impl Days for EmbeddedStore {
    fn days(&self, from: u32) -> BoxFuture<'_, Result<Vec<Day>, StoreError>> {
        let view = Arc::clone(&self.parts.view);
        self.ask(move |connection| notes::days(connection, from, &view.damage)).boxed()
    }

    fn save_day(
        &self,
        day: u32,
        figures: Arc<str>,
        keep_from: u32,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let figures = RawValue::from_string(figures.to_string());
            let figures = figures.map_err(|error| StoreError::unavailable(&error))?;
            self.write(SaveDay { day, figures, keep_from }).await
        }
        .boxed()
    }

    fn days_turn(&self) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }
}

impl Outbox for EmbeddedStore {
    fn turn(&self, _: &WebhookName) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }

    fn progress<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<Option<Progress>, StoreError>> {
        let (latest, view, webhook) =
            (self.parts.latest, Arc::clone(&self.parts.view), webhook.clone());
        self.ask(move |c| notes::progress_and_behind(c, &webhook, latest, &view.damage)).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(SaveProgress(save)).boxed()
    }

    fn clear<'a>(&'a self, webhook: &'a WebhookName) -> BoxFuture<'a, Result<(), StoreError>> {
        self.write(ClearProgress(webhook.clone())).boxed()
    }

    fn webhooks(&self) -> BoxFuture<'_, Result<Vec<WebhookName>, StoreError>> {
        self.ask(notes::webhooks).boxed()
    }

    fn dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Dead>, StoreError>> {
        let (view, webhook) = (Arc::clone(&self.parts.view), webhook.clone());
        self.ask(move |c| notes::dead(c, &webhook, after, put_back, limit, &view.damage)).boxed()
    }

    fn dead_waiting<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let webhook = webhook.clone();
        self.ask(move |connection| notes::dead_waiting(connection, &webhook)).boxed()
    }

    fn put_back<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.write(PutBack(webhook.clone(), which)).boxed()
    }

    fn drop_dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move {
            let dropped = self.write(DropDead(webhook.clone(), which.clone())).await?;
            self.parts.view.damage.gone("dead", |cursor| match &which {
                DeadSelection::These(these) => these.contains(&cursor),
                DeadSelection::All => true,
            });
            Ok(dropped)
        }
        .boxed()
    }
}
