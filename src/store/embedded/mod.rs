//! A journal and a database in a directory of the hub's own.
//!
//! ```text
//!   commit ─▶ journal: one write ─▶ ledger ─▶ head ─▶ answer
//!                                     │      (who reads)
//!                                     ▼ each ten seconds, after 2 MiB, or when the database is asked
//!   signs, trims, webhook ─▶ writer: one transaction for all that waits ─▶ SQLite, cache
//!
//!   sync thread: fdatasync each `store.sync`     checkpoint thread: keeps SQLite's log short
//! ```
//!
//! A commit is handed to the kernel before it is answered, so the death of the process undoes nothing:
//! what the database has not taken, the next run reads from the journal. A power cut undoes at most what
//! is not synced yet, and whole commits from the end. What somebody else takes from the files is noticed:
//! while the hub runs, by their lengths, and at a start, by the mark that says how much was committed.
//!
//! A journal, because a change that comes alone is one write of a line, by whoever commits it; a
//! transaction of SQLite's own is a dozen system calls and two changes of threads. SQLite behind it, because
//! it holds more than fits in memory, rolls back on a full disk and goes on, opens within milliseconds
//! after a kill, and is one file that operators can look into.

mod cache;
mod checked;
mod damage;
mod disk;
mod handoff;
mod journal;
mod ledger;
mod mark;
mod mend;
mod notes;
mod open;
mod pen;
mod reader;
mod runs;
mod schema;
#[cfg(test)]
mod thread_panics;
mod wal;
mod writer;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::File;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use self::cache::Cache;
use self::checked::note;
use self::damage::Damage;
use self::disk::{Disk, Target};
use self::handoff::Giver;
use self::ledger::{Current, Draft, Ledger, Tail};
pub use self::open::OpenFault;
use self::pen::MORE_TO_TRIM;
use self::reader::{ReadFault, Readers};
use self::runs::Runs;
use self::writer::{Job, Write};
use super::{
    Among, Backlog, Commit, Cursor, Dead, Listed, LogEntry, Outbox, Part, Progress, Revision, Save,
    Store, StoreError, Stored, Totals, Which,
};
use crate::presence::{NodeId, Sign, Timestamp, UserId};

/// How many pieces of the log one call lets go, and how long others have the writer in between.
const TRIMS_MAX: usize = 100;
/// See [`TRIMS_MAX`].
const TRIM_PAUSE: Duration = Duration::from_millis(5);

/// Keeps everything in a database that outlives the process.
pub struct EmbeddedStore {
    ledger: Arc<Mutex<Ledger>>,
    cache: Arc<Cache>,
    head: watch::Sender<Cursor>,
    disk: Arc<Disk>,
    /// Whether each commit is synced before it is answered.
    syncs_each: bool,
    jobs: Giver<Job>,
    readers: Arc<Readers>,
    /// The hubs that had signed when it was opened: they are gone.
    lost: Mutex<Vec<(NodeId, Sign)>>,
    /// The latest time that an earlier run left.
    latest: Timestamp,
    /// The cursors that each run gave out.
    runs: Runs,
    damage: Arc<Damage>,
    /// Held for as long as the database is open.
    _lock: Arc<File>,
}

impl EmbeddedStore {
    async fn write(&self, write: Write) -> Result<u64, StoreError> {
        let (done, answer) = oneshot::channel();
        self.jobs.give(Job { write, done });
        let stopped = |_| StoreError::unavailable(&"the thread that writes has stopped");
        answer.await.map_err(stopped)?
    }

    async fn load(&self, user: &UserId) -> Result<Stored, StoreError> {
        let mark = self.cache.mark(user);
        // In this order: what has left the ledger is in the cache or the database.
        let waiting = self.ledger.lock().load(user);
        if let Some(stored) = waiting.or_else(|| self.cache.get(user)) {
            return Ok(stored);
        }
        let (stored, bytes) = self.readers.load(user).await?;
        self.cache.fill(user, &stored, bytes, mark);
        Ok(stored)
    }

    async fn swap(
        &self,
        user: &UserId,
        expected: Revision,
        commit: Commit,
    ) -> Result<(), StoreError> {
        let sync = commit.sync || self.syncs_each;
        let draft = Draft::new(user, &commit);
        loop {
            if self.ledger.lock().is_full() {
                self.write(Write::Nothing).await?;
            }
            let mark = self.cache.mark(user);
            let current = self.current(user, expected).await?;
            if current.stored.revision != expected {
                return Err(StoreError::Conflict);
            }
            let mut ledger = self.ledger.lock();
            // Else somebody has committed meanwhile, maybe for this user.
            if self.cache.mark(user) == mark {
                self.add(&mut ledger, draft, &current)?;
                break;
            }
        }
        if sync {
            return self.disk.sync_now().await;
        }
        self.disk.sync_soon();
        Ok(())
    }

    /// What a commit takes the place of: the user's record, or what is left of it.
    async fn current(&self, user: &UserId, expected: Revision) -> Result<Current, StoreError> {
        match self.load(user).await {
            Ok(stored) => Ok(Current::whole(stored)),
            Err(StoreError::Damaged { revision, .. }) if revision == expected => {
                let whose = user.clone();
                let wreck = self.readers.read(move |c| reader::wreck(c, &whose)).await?;
                let wreck = wreck.ok_or(StoreError::Conflict)?;
                Ok(Current {
                    census: wreck.census(),
                    stored: Stored { due: wreck.due, revision, ..Stored::default() },
                    is_damaged: true,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Commits; what is committed is shown before anybody is told that it was.
    fn add(&self, ledger: &mut Ledger, draft: Draft, current: &Current) -> Result<(), StoreError> {
        let unavailable = |error| StoreError::unavailable(&error);
        self.disk.takes_commits()?;
        if let Some(harm) = ledger.harm().map_err(unavailable)? {
            return Err(self.disk.close(&harm));
        }
        let before = ledger.tail().head;
        let added = ledger.commit(draft, current, self.disk.safe()).map_err(unavailable);
        let entry = added.inspect_err(|error| self.disk.failed(Target::Journal, error))?;
        if current.is_damaged {
            self.damage.mended("users", entry.user.as_str());
        }
        self.disk.committed(entry.revision);
        self.cache.overtake(&entry.user);
        let head = ledger.tail().head;
        if head != before {
            self.head.send_replace(head);
        }
        if ledger.asks_to_be_carried() {
            self.jobs.give(Job { write: Write::Nothing, done: oneshot::channel().0 });
        }
        Ok(())
    }

    /// Proves that records can be read, or finds out that they cannot.
    async fn probe_reads(&self) -> Result<(), StoreError> {
        // Nobody is logged in under this id, and nobody need be.
        let nobody = UserId::stored(".").map_err(|error| StoreError::unavailable(&error))?;
        match self.readers.load(&nobody).await {
            Ok(_) | Err(StoreError::Damaged { .. }) => self.disk.succeeded(Target::Reads),
            Err(error) => {
                self.disk.failed(Target::Reads, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Proves that the journal takes commits, or finds out that it does not.
    fn probe_journal(&self) -> Result<(), StoreError> {
        let is_failing = self.disk.is_failing(Target::Journal);
        let probed = self.ledger.lock().probe(is_failing);
        match probed.map_err(|error| StoreError::unavailable(&error)) {
            Ok(()) => self.disk.succeeded(Target::Journal),
            Err(error) => {
                self.disk.failed(Target::Journal, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has the database take what waits, where a question is for the database.
    async fn settle(&self) -> Result<(), StoreError> {
        if !self.ledger.lock().is_settled() {
            self.write(Write::Nothing).await?;
        }
        Ok(())
    }

    /// Asks the database, with all that is committed in it.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ReadFault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.settle().await?;
        self.readers.read(question).await
    }

    async fn what_is_due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let (mut due, is_carried_due, waiting) = {
            let mut ledger = self.ledger.lock();
            (ledger.due(now, wall), ledger.is_carried_due(now, wall), ledger.users())
        };
        if is_carried_due {
            // Of whom something waits, the database knows only what was before.
            let most = limit.saturating_add(waiting);
            let damage = Arc::clone(&self.damage);
            let read =
                move |connection: &Connection| reader::due(connection, now, wall, most, &damage);
            let mut carried = self.readers.read(read).await?;
            let found = carried.len();
            {
                let ledger = self.ledger.lock();
                carried.retain(|(_, user)| !ledger.waits(user));
            }
            if carried.len() < found && self.disk.condition().is_ok() {
                // So that it is not asked for them again and again.
                self.settle().await.ok();
            }
            due.extend(carried);
        }
        // The most overdue first.
        due.sort_by_key(|(by, _)| Reverse(*by));
        let mut seen = HashSet::new();
        let users = due.into_iter().map(|(_, user)| user);
        Ok(users.filter(|user| seen.insert(user.clone())).take(limit).collect())
    }

    async fn read_log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let (Tail { head, log_before, .. }, waiting) = {
            let ledger = self.ledger.lock();
            let tail = *ledger.tail();
            (tail, ledger.log(after.unwrap_or(tail.log_before), limit))
        };
        let after = after.unwrap_or(log_before);
        if after < log_before || after > head || !self.runs.gave_out(after) {
            return Err(StoreError::CursorExpired);
        }
        if let Some(entries) = waiting {
            return Ok(entries);
        }
        // What the database has is read though it takes no more.
        self.settle().await.ok();
        let damage = Arc::clone(&self.damage);
        let read = move |connection: &Connection| {
            let entries = reader::log(connection, after, head, limit, &damage)?;
            Ok((entries, reader::log_before(connection)?))
        };
        let (entries, log_before) = self.readers.read(read).await?;
        // Some may have been let go meanwhile.
        if after < log_before {
            return Err(StoreError::CursorExpired);
        }
        Ok(entries)
    }

    async fn trim_all(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut lost = 0;
        for _ in 0..TRIMS_MAX {
            let answer = self.write(Write::Trim { now }).await?;
            lost += answer & !MORE_TO_TRIM;
            if answer & MORE_TO_TRIM == 0 {
                break;
            }
            tokio::time::sleep(TRIM_PAUSE).await;
        }
        let log_before = self.ledger.lock().tail().log_before;
        self.damage.gone("log", |cursor| cursor <= log_before);
        Ok(lost)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::unavailable(&error)
    }
}

impl Store for EmbeddedStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        self.load(user).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        expected: Revision,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.swap(user, expected, commit).boxed()
    }

    fn due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.what_is_due(now, wall, limit).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let (among, damage) = (among.clone(), Arc::clone(&self.damage));
        self.ask(move |connection| reader::users(connection, &among, limit, &damage)).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        ready(Ok(self.ledger.lock().tail().totals)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.disk.condition()).boxed()
    }

    fn damaged(&self) -> u64 {
        self.damage.count()
    }

    fn latest(&self) -> Timestamp {
        self.latest
    }

    fn head(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    fn log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.read_log(after, limit).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: Part,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        let (user, damage) = (user.clone(), Arc::clone(&self.damage));
        let read =
            move |connection: &Connection| reader::history(connection, &user, part, limit, &damage);
        self.ask(read).boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        let Tail { entries, bytes, .. } = *self.ledger.lock().tail();
        let totals = (entries, bytes);
        self.ask(move |connection| reader::backlog(connection, after, totals)).boxed()
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.trim_all(now).boxed()
    }

    fn sign(&self, node: NodeId, sign: Sign) -> BoxFuture<'_, Result<(), StoreError>> {
        let sign = Write::Sign { node: node.to_string(), sign: note(&sign) };
        async move {
            let can_read = self.probe_reads().await;
            let can_commit = self.probe_journal();
            self.write(sign).await?;
            can_read.and(can_commit)
        }
        .boxed()
    }

    fn lost(&self) -> BoxFuture<'_, Result<Vec<(NodeId, Sign)>, StoreError>> {
        ready(Ok(self.lost.lock().clone())).boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.write(Write::Retire { node: node.to_string() }).await?;
            self.damage.mended("nodes", &node.to_string());
            self.lost.lock().retain(|(lost, _)| *lost != node);
            Ok(())
        }
        .boxed()
    }
}

impl Outbox for EmbeddedStore {
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>> {
        let (latest, damage) = (self.latest, Arc::clone(&self.damage));
        let read =
            move |connection: &Connection| notes::progress_and_behind(connection, latest, &damage);
        async move {
            // So that the database counts what is committed; what it has is read in any case.
            self.settle().await.ok();
            self.readers.read(read).await
        }
        .boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::Progress(save)).map(done).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::NoProgress).map(done).boxed()
    }

    fn dead(
        &self,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Dead>, StoreError>> {
        let damage = Arc::clone(&self.damage);
        let read =
            move |connection: &Connection| notes::dead(connection, after, put_back, limit, &damage);
        self.readers.read(read).boxed()
    }

    fn dead_waiting(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.readers.read(notes::dead_waiting).boxed()
    }

    fn put_back(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(Write::PutBack(which)).boxed()
    }

    fn drop_dead(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            let dropped = self.write(Write::DropDead(which.clone())).await?;
            self.damage.gone("dead", |cursor| match &which {
                Which::These(these) => these.contains(&cursor),
                Which::All => true,
            });
            Ok(dropped)
        }
        .boxed()
    }
}

fn done(written: Result<u64, StoreError>) -> Result<(), StoreError> {
    written.map(|_| ())
}
