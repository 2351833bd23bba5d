//! A store that fails on demand.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use presence_hub::presence::{
    NodeId, Rescued, SignOfLife, Timestamp, UserId, WatchList, WatchListChange,
};
use presence_hub::store::{
    Among, Backlog, Commit, Cursor, Damaged, HistoryPart, Listed, Log, LogEntry, Lost, MemoryStore,
    NodeCard, Nodes, Part, Records, StoreError, Stored, Subscription, Totals, WatchLists,
};
use tokio::sync::{RwLock, watch};

use crate::lab::{Lab, memory_store};

/// The fault of a commit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Fails with a revision conflict.
    Conflict,
    /// Fails without a write.
    Unavailable,
    /// Writes, but reports a failure.
    AnswerLost,
    /// Like `AnswerLost`, and then the store is down.
    AnswerLostAndDown,
    /// Is written twice: the second time it fails with a conflict, and then the store is down.
    TwiceAndDown,
    /// Writes and reports a failure, and then `check` fails: the commit is not safely stored.
    Unsafe,
    /// Panics.
    Panic,
}

/// A memory store with faults on demand.
pub(super) struct Frail {
    pub(super) inner: MemoryStore,
    may_lose_commits: bool,
    faults: Mutex<VecDeque<Fault>>,
    down: AtomicBool,
    /// Whether messages to other nodes are lost.
    is_silent: AtomicBool,
    /// Whether `check` fails.
    is_unsafe: AtomicBool,
    /// A write lock on it stalls the store.
    pub(super) gate: RwLock<()>,
    /// A write lock on it delays the answers to commits.
    pub(super) answers: RwLock<()>,
    /// A write lock on it holds back watch lists that were read.
    pub(super) list_answers: RwLock<()>,
    /// Users whose commits fail.
    pub(super) refused: Mutex<HashSet<UserId>>,
    /// Nodes whose commits fail, because they do not reach the store.
    pub(super) cut_off: Mutex<HashSet<NodeId>>,
    /// Users with damaged records.
    pub(super) damaged: Mutex<HashSet<UserId>>,
    /// Dead nodes.
    pub(super) lost: Mutex<Vec<(NodeId, SignOfLife)>>,
    /// A write lock on it stalls the trimming of the log.
    pub(super) trims: RwLock<()>,
    pub(super) signs: AtomicU64,
}

impl Frail {
    pub(super) fn lab() -> (Arc<Self>, Lab) {
        let store = Self::new();
        let lab = Self::restart(&store);
        (store, lab)
    }

    /// Starts a hub on the store of an earlier run.
    pub(super) fn restart(store: &Arc<Self>) -> Lab {
        Lab::node(Arc::clone(store) as _, |_| ())
    }

    pub(super) fn new() -> Arc<Self> {
        Self::made(false)
    }

    /// A store that a test may have lose commits.
    pub(super) fn that_may_lose_commits() -> Arc<Self> {
        Self::made(true)
    }

    fn made(may_lose_commits: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: memory_store(),
            may_lose_commits,
            faults: Mutex::default(),
            down: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            is_unsafe: AtomicBool::new(false),
            gate: RwLock::new(()),
            answers: RwLock::new(()),
            list_answers: RwLock::new(()),
            refused: Mutex::default(),
            cut_off: Mutex::default(),
            damaged: Mutex::default(),
            lost: Mutex::default(),
            trims: RwLock::new(()),
            signs: AtomicU64::new(0),
        })
    }

    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().extend(faults);
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Loses the messages to other nodes.
    pub(super) fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    fn with_damage(&self, mut users: Vec<Listed>) -> Vec<Listed> {
        let damaged = self.damaged.lock();
        for (user, record) in &mut users {
            if damaged.contains(user) {
                *record = Err(Damaged);
            }
        }
        users
    }

    async fn up(&self) -> Result<(), StoreError> {
        drop(self.gate.read().await);
        if self.down.load(Ordering::Relaxed) { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { cause: "a test wants it so".into() }
}

impl Records for Frail {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        async move {
            self.up().await?;
            let stored = self.inner.load(user).await?;
            if self.damaged.lock().contains(user) {
                let (revision, record) = (stored.revision, &stored.record);
                let visibility = record.visibility.clone();
                let rescued = Rescued { revoked: record.revoked, visibility };
                return Err(StoreError::Damaged { revision, rescued });
            }
            Ok(stored)
        }
        .boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        mut commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        commit.message.take_if(|_| self.is_silent.load(Ordering::Relaxed));
        async move {
            self.up().await?;
            if self.refused.lock().contains(user) || self.cut_off.lock().contains(&commit.node) {
                return Err(unavailable());
            }
            let fault = self.faults.lock().pop_front();
            match fault {
                None => {
                    self.inner.commit(user, base, commit).await?;
                    self.damaged.lock().remove(user);
                    drop(self.answers.read().await);
                    Ok(())
                }
                Some(Fault::Conflict) => Err(StoreError::Conflict),
                Some(Fault::Unavailable) => Err(unavailable()),
                Some(Fault::Panic) => panic!("a test wants it so"),
                Some(fault) => {
                    self.inner.commit(user, base, commit).await?;
                    self.is_unsafe.store(matches!(fault, Fault::Unsafe), Ordering::Relaxed);
                    let is_twice = matches!(fault, Fault::TwiceAndDown);
                    self.set_down(is_twice || matches!(fault, Fault::AnswerLostAndDown));
                    Err(if is_twice { StoreError::Conflict } else { unavailable() })
                }
            }
        }
        .boxed()
    }

    fn may_lose_commits(&self) -> bool {
        self.may_lose_commits
    }

    fn listen(&self, node: NodeId) -> Subscription {
        self.inner.listen(node)
    }

    fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        async move {
            self.up().await?;
            self.inner.due(node, now, wall, limit).await
        }
        .boxed()
    }

    fn held<'a>(
        &'a self,
        node: NodeId,
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            self.up().await?;
            Ok(self.with_damage(self.inner.held(node, part, after, limit).await?))
        }
        .boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.inner.totals()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            self.up().await?;
            Ok(self.with_damage(self.inner.users(among, limit).await?))
        }
        .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.up().await?;
            if self.is_unsafe.load(Ordering::Relaxed) { Err(unavailable()) } else { Ok(()) }
        }
        .boxed()
    }

    fn damaged(&self) -> u64 {
        self.damaged.lock().len() as u64
    }

    fn latest(&self) -> Timestamp {
        self.inner.latest()
    }
}

impl WatchLists for Frail {
    fn watch_list<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>> {
        async move {
            self.up().await?;
            let list = self.inner.watch_list(user).await;
            drop(self.list_answers.read().await);
            list
        }
        .boxed()
    }

    fn change_watch_list<'a>(
        &'a self,
        node: NodeId,
        user: &'a UserId,
        change: WatchListChange,
        max: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>> {
        async move {
            self.up().await?;
            self.inner.change_watch_list(node, user, change, max).await
        }
        .boxed()
    }
}

impl Log for Frail {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.inner.head()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.inner.entries(after, limit)
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        self.inner.history(user, part, limit)
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        self.inner.backlog(after)
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            drop(self.trims.read().await);
            self.inner.trim(now).await
        }
        .boxed()
    }
}

impl Nodes for Frail {
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        self.signs.fetch_add(1, Ordering::Relaxed);
        async move {
            self.up().await?;
            let mut lost = self.inner.save_sign_of_life(node, sign.clone(), card).await?;
            let seen = |(node, last): &(_, _)| Lost::on_this_machine(*node, last, &sign);
            lost.extend(self.lost.lock().iter().map(seen));
            Ok(lost)
        }
        .boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.lost.lock().retain(|(lost, _)| *lost != node);
        self.inner.retire(node)
    }

    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>> {
        self.inner.cards()
    }
}
