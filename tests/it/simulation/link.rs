//! The store of one hub: its link to the shared server.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use presence_hub::presence::{NodeId, Timestamp, UserId, WatchList, WatchListChange};
use presence_hub::store::{
    Among, Backlog, Commit, Cursor, HistoryPart, Listed, Log, LogEntry, Part, Records, StoreError,
    Stored, Subscription, Totals, WatchLists,
};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::feed::Ear;
use super::network::{LinkId, Network, Reply};
use super::server::{Server, all_parts};
use super::signs::Observed;
use super::switch::Switch;
use super::webhook::Poster;

/// How long a hub waits for a reply.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long after it was sent a commit may arrive, by the server's clock. Less than [`TIMEOUT`]: what a hub has
/// given up is not executed later.
const COMMIT_WITHIN: Duration = Duration::from_millis(800);
/// How many messages wait for a hub that stands still.
const MESSAGES_MAX: usize = 100_000;

/// The store of one hub.
pub(super) struct Link {
    id: LinkId,
    network: Arc<Network>,
    pub(super) broken: Option<Switch>,
    /// The hub's node, once it has given a sign of life.
    pub(super) node: OnceLock<NodeId>,
    /// The versions that the hub committed, which it is told instead of lower ones if versions have no floor: it
    /// would raise them for ever.
    committed: Mutex<BTreeMap<UserId, u64>>,
    head: watch::Receiver<Cursor>,
    pub(super) observed: Mutex<Observed>,
    /// Whether the hub's webhook posts, as the last sign of life said.
    pub(super) turn: watch::Sender<bool>,
    /// Whether the hub compares one part after another with the server, whatever it has heard.
    sweeps: bool,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        network: Arc<Network>,
        broken: Option<Switch>,
        sweeps: bool,
    ) -> Self {
        let head = network.with(|state| state.head(id));
        let (node, committed, observed) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let turn = watch::Sender::new(false);
        Self { id, network, broken, node, committed, head, observed, turn, sweeps }
    }

    /// What posts the webhook's requests.
    pub(super) fn poster(&self) -> Poster {
        Poster { link: self.id, network: Arc::clone(&self.network) }
    }

    /// Has the server execute something, and waits for its reply.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: impl fmt::Display,
        execute: impl Fn(&mut Server) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let (sender, reply) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let request = move |server: &mut Server| {
            let answer = server.answers().and_then(|()| execute(server));
            let sender = Arc::clone(&sender);
            let reply = move || {
                // The first of two replies counts.
                if let Some(sender) = sender.lock().take() {
                    // Fails if the hub waits no more.
                    sender.send(answer).ok();
                }
            };
            Box::new(reply) as Reply
        };
        self.network.with(|state| state.request(self.id, &what, Arc::new(request)));
        match timeout(TIMEOUT, reply).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                Err(StoreError::Unavailable { cause: "no reply in time".to_owned() })
            }
        }
    }

    async fn ask_to_commit(
        &self,
        user: &UserId,
        base: &Stored,
        mut commit: Commit,
    ) -> Result<(), StoreError> {
        let deadline = self.network.with(|state| state.server.now) + COMMIT_WITHIN;
        let node = commit.node;
        let is_broken = self.broken == Some(Switch::PublishAfterCommit);
        let later = if is_broken { commit.message.take() } else { None };
        let causes = commit.transitions.iter().map(|it| format!(" {:?}", it.cause));
        let what = format!("commit {user}{}", causes.collect::<String>());
        let (owner, base, version) = (user.clone(), base.clone(), commit.record.version);
        self.ask(what, move |server| server.commit(deadline, &owner, &base, &commit)).await?;
        self.committed.lock().insert(user.clone(), version);
        if let Some(message) = later {
            let publish = move |server: &mut Server| {
                server.publish(node, message.clone());
                Ok(())
            };
            self.ask(format!("publish {user}"), publish).await.ok();
        }
        Ok(())
    }
}

impl Records for Link {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        async move {
            let owner = user.clone();
            let load = move |server: &mut Server| Ok(server.load(&owner));
            let mut stored = self.ask(format!("load {user}"), load).await?;
            if self.broken == Some(Switch::NoFloor)
                && let Some(committed) = self.committed.lock().get(user)
                && stored.record.version < *committed
            {
                Arc::make_mut(&mut stored.record).version = *committed;
            }
            Ok(stored)
        }
        .boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.ask_to_commit(user, base, commit).boxed()
    }

    fn listen(&self, node: NodeId) -> Subscription {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        self.network.with(|state| state.listen(self.id, |numbers| Ear::new(node, numbers, sender)));
        Subscription::of(messages)
    }

    fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.ask("due", move |server| Ok(server.due(node, now, wall, limit))).boxed()
    }

    fn held<'a>(
        &'a self,
        node: NodeId,
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let after = after.cloned();
        self.ask("held", move |server| Ok(server.held(node, part, after.as_ref(), limit))).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let among = among.clone();
        self.ask("users", move |server| Ok(server.users(&among, limit))).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.ask("totals", |server| Ok(server.totals())).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask("check", |_| Ok(())).boxed()
    }

    fn parts(&self) -> Vec<Part> {
        if self.sweeps { all_parts() } else { Vec::new() }
    }

    fn may_lose_commits(&self) -> bool {
        self.broken != Some(Switch::NoReconcile)
    }

    fn damaged(&self) -> u64 {
        0
    }

    fn latest(&self) -> Timestamp {
        Timestamp::default()
    }
}

// No user of the simulation has a watch list.
impl WatchLists for Link {
    fn watch_list<'a>(
        &'a self,
        _: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>> {
        ready(Ok(Arc::default())).boxed()
    }

    fn change_watch_list<'a>(
        &'a self,
        _: NodeId,
        _: &'a UserId,
        _: WatchListChange,
        _: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>> {
        ready(Ok(None)).boxed()
    }
}

impl Log for Link {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.head.clone()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.ask("entries", move |server| Ok(server.entries(after, limit))).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        let owner = user.clone();
        let what = format!("history of {user}");
        self.ask(what, move |server| Ok(server.history(&owner, part, limit))).boxed()
    }

    fn backlog(&self, _after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        ready(Ok(Backlog::default())).boxed()
    }

    fn trim(&self, _now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }
}
