//! What all parts of the adapter share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, ScriptInvocation};
use tokio::sync::watch;

use super::grid::{EntryId, Grid};
use super::keeper::keeper;
use super::keys::{Keys, PartKeys};
use super::ledger::Ledger;
use super::listeners::Listeners;
use super::metrics::Metrics;
use super::place::Place;
use super::places::Places;
use super::reads::Reads;
use super::router::{At, Router};
use super::settings::RedisSettings;
use crate::clock::monotonic;
use crate::presence::{NodeId, Timestamp, UserId};
use crate::store::{Cursor, Lookout, Lost, Part, Retention, StoreError, Totals, WebhookName};

/// The state of a [`RedisStore`](super::RedisStore). No lock is held over an await.
pub(super) struct State {
    pub(super) settings: RedisSettings,
    pub(super) retention: Retention,
    pub(super) keys: Keys,
    pub(super) grid: Grid,
    pub(super) router: Arc<Router>,
    pub(super) reads: Reads,
    pub(super) metrics: Arc<Metrics>,
    /// The latest time in the store at the start.
    pub(super) latest: Timestamp,
    /// The node of this process: the first that signs, listens, commits or asks.
    node: OnceLock<NodeId>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) places: Mutex<Places>,
    /// The greatest id of an entry that this node has committed. Later commits get greater ones, in every
    /// partition, so the log has this node's commits in their order.
    pub(super) last_commit: Mutex<EntryId>,
    pub(super) head: watch::Sender<Cursor>,
    pub(super) listeners: Listeners,
    pub(super) nodes: Mutex<KnownNodes>,
    /// Whether this node has the seat of the webhook without a name.
    pub(super) turn: watch::Sender<bool>,
    /// Whether this node stops, and takes the seat no more.
    pub(super) is_leaving: AtomicBool,
    /// Whether it has those of the other webhooks that it has.
    pub(super) named_turns: Mutex<BTreeMap<WebhookName, watch::Sender<bool>>>,
    pub(super) totals: Mutex<Option<(Instant, Totals)>>,
    /// When the log must be looked at again to be trimmed.
    pub(super) trim: Mutex<TrimAt>,
    /// The users whose damaged rows were found and not replaced.
    pub(super) damaged: Mutex<BTreeSet<UserId>>,
    /// Why the last command failed, until a sign of life succeeds.
    failing: Mutex<Option<String>>,
}

/// What this node has seen of the nodes.
#[derive(Debug, Default)]
pub(super) struct KnownNodes {
    pub(super) lookout: Lookout,
    /// The nodes that live, this one included, by its last sign of life.
    pub(super) live: BTreeSet<NodeId>,
    /// The dead nodes from which nothing is accepted any more.
    pub(super) lost: Vec<Lost>,
}

/// When the log must be looked at again to be trimmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TrimAt {
    #[default]
    Now,
    /// Its oldest entry does not expire before this, and it has as many bytes before its oldest entry.
    NotBefore { expiry: Timestamp, bytes_before: u64 },
    /// It has no entries, and had so many.
    Entries(u64),
}

impl KnownNodes {
    /// Whether a node keeps a partition; if no node is known, every node does.
    fn is_keeper(&self, node: Option<NodeId>, part: u32) -> bool {
        let keeper = keeper(part, self.live.iter().copied());
        keeper.is_none() || keeper == node
    }
}

impl State {
    pub(super) fn new(
        settings: RedisSettings,
        retention: Retention,
        (router, metrics): (Router, Arc<Metrics>),
        latest: Timestamp,
    ) -> Self {
        let grid = Grid::new(settings.partitions);
        Self {
            keys: Keys::new(&settings.key_prefix, settings.partitions),
            grid,
            router: Arc::new(router),
            reads: Reads::default(),
            metrics,
            latest,
            node: OnceLock::new(),
            ledger: Mutex::default(),
            last_commit: Mutex::default(),
            places: Mutex::new(Places::new(grid)),
            head: watch::Sender::new(Cursor::default()),
            listeners: Listeners::default(),
            nodes: Mutex::default(),
            turn: watch::Sender::new(false),
            is_leaving: AtomicBool::new(false),
            named_turns: Mutex::default(),
            totals: Mutex::default(),
            trim: Mutex::default(),
            damaged: Mutex::default(),
            failing: Mutex::default(),
            settings,
            retention,
        }
    }

    /// The partition of a user.
    pub(super) fn part_of(&self, user: &UserId) -> u32 {
        Part::of_user(user, self.grid.partitions()).index()
    }

    /// The part of the users in a partition.
    pub(super) fn part(&self, part: u32) -> Part {
        Part::new(part, self.grid.partitions())
    }

    pub(super) fn keys(&self, part: u32) -> &PartKeys {
        self.keys.of(part)
    }

    /// Learns which node this process is.
    pub(super) fn is_node(&self, node: NodeId) -> bool {
        *self.node.get_or_init(|| node) == node
    }

    pub(super) fn node(&self) -> Option<NodeId> {
        self.node.get().copied()
    }

    /// The partitions that this node keeps: all, before it knows of other nodes.
    pub(super) fn kept(&self) -> Vec<u32> {
        let nodes = self.nodes.lock();
        self.grid.parts().filter(|part| nodes.is_keeper(self.node(), *part)).collect()
    }

    /// How long a commit may take until the server refuses it: less than the timeout, so that a commit whose
    /// caller has given up waiting is never written later.
    pub(super) fn commit_within(&self) -> Duration {
        self.settings.timeout * 4 / 5
    }

    /// Notes the place of a partition's log, and moves the head.
    pub(super) fn note_place(&self, part: u32, place: Place) {
        let mut places = self.places.lock();
        places.note(part, place, monotonic());
        let head = places.head();
        drop(places);
        if let Some(head) = head {
            self.head.send_if_modified(|known| {
                let is_later = head > *known;
                *known = head.max(*known);
                is_later
            });
        }
    }

    pub(super) fn has_head(&self) -> bool {
        *self.head.borrow() != Cursor::default()
    }

    pub(super) async fn run<T: FromRedisValue>(
        &self,
        at: At,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let answer = self.router.run(at, command).await;
        answer.inspect_err(|error| self.note_failure(error))
    }

    pub(super) async fn call<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let answer = self.router.call(at, script).await;
        answer.inspect_err(|error| self.note_failure(error))
    }

    /// Calls a script, and waits until a replica has what it wrote, if there is a replica.
    pub(super) async fn call_on_replica<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let answer = self.router.call_on_replica(at, script).await;
        answer.inspect_err(|error| self.note_failure(error))
    }

    pub(super) fn note_failure(&self, error: &StoreError) {
        if let StoreError::Unavailable { cause } = error {
            *self.failing.lock() = Some(cause.clone());
        }
    }

    /// A sign of life has proved that the store works.
    pub(super) fn works(&self) {
        *self.failing.lock() = None;
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if let Some(cause) = &*self.failing.lock() {
            return Err(StoreError::unavailable(cause));
        }
        let clock_ms = self.metrics.clock_ms();
        if self.settings.is_skewed(clock_ms) {
            let cause = format!(
                "this machine's clock minus that of Redis is {clock_ms} ms, more than \
                 store.max_clock_skew; synchronize both with NTP"
            );
            return Err(StoreError::unavailable(&cause));
        }
        Ok(())
    }
}

/// A place that a script returned.
pub(super) fn place_of(text: &str) -> Result<Place, StoreError> {
    text.parse().map_err(|error: super::place::NotAPlace| StoreError::unavailable(&error))
}
