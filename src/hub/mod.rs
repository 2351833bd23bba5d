//! The hub: applies events to users, commits the outcome, and notifies sessions, watchers and nodes.
//!
//! ```text
//!   apply(user, event)   in the user's lane
//!     load ─▶ step ─▶ commit ─┬─▶ conflict: retry
//!                             ├─▶ message ─▶ other nodes
//!                             ▼
//!                          ends ─▶ registry ─▶ mailboxes
//!                          status ─▶ watchers ─▶ mailboxes
//! ```

mod advance;
mod apply;
mod budget;
mod connection;
mod deadlines;
mod drain;
mod effects;
mod labels;
mod ledger;
mod mailbox;
mod messages;
mod metrics;
mod queries;
mod random;
mod reconcile;
mod recovery;
mod registry;
mod send_queue;
mod sharded;
mod shedding;
mod store_warnings;
mod subscriptions;
mod takeover;
mod tally;
mod upkeep;
mod watching;
mod write_half;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::advance::Advances;
pub use self::advance::{AdvanceFault, Noticed};
pub use self::apply::{Applied, RESUME_PATIENCE};
use self::apply::{LANES, LIST_LANES, Lanes};
use self::budget::Budget;
pub use self::connection::Connection;
pub use self::deadlines::run as run_deadlines;
pub use self::labels::{Closed, KeyLimit, LoginKind, RefusalReason};
use self::ledger::Ledger;
pub use self::mailbox::{Mailbox, Signal, pending_once};
pub use self::metrics::{Counts, Metrics, StoreCounts};
use self::random::{KeyedHash, Random};
use self::registry::{Registry, Watchers};
pub use self::watching::{ListPage, Rights};
pub use self::write_half::{TryWrite, WriteHalf};
use crate::clock::Clock;
use crate::presence::{ConnectionId, EventId, NodeId, Policy, SessionId, Timestamp, UserId};
use crate::store::{Lost, Part, Store, StoreError, Totals};
use crate::throttle::Throttle;

/// The hub of one node: the only caller of [`step`](crate::presence::step()).
pub struct Hub {
    node: NodeId,
    random: Random,
    clock: Clock,
    policy: ArcSwap<Policy>,
    store: Arc<dyn Store>,
    lanes: Lanes,
    /// Held while a user's sessions begin to watch by the watch list, or follow a change of it.
    list_lanes: Lanes,
    registry: Registry,
    watchers: Watchers,
    budget: Arc<Budget>,
    metrics: Metrics,
    next_connection: AtomicU64,
    /// Set once the hub drains, and never reset: the time over which the clients reconnect, which is also its
    /// longest wait.
    draining: ArcSwapOption<Duration>,
    /// Whether logins are refused because memory is short.
    is_full: AtomicBool,
    /// Whether changes that can wait are refused because the disk is nearly full.
    is_disk_low: AtomicBool,
    /// Connections, and session ends that are not committed yet. A drain waits for them.
    unfinished: TaskTracker,
    /// The dead nodes whose sessions are not all taken over; `None` until this node's first sign of life.
    lost: watch::Sender<Option<Arc<[Lost]>>>,
    /// What this node says of itself with each sign of life.
    card: Mutex<Arc<str>>,
    /// Whether other nodes have taken over this node's sessions.
    retired: watch::Sender<bool>,
    /// What the store may lose; `None` if it loses nothing.
    ledger: Option<Ledger>,
    /// How often messages of other nodes were missed.
    missed: AtomicU64,
    /// Parts of a few users each that must be compared with the store soon.
    doubts: Mutex<BTreeSet<Part>>,
    /// The serials of the connections whose sessions' ends are not committed yet.
    ending: Mutex<HashSet<u64>>,
    /// Users with damaged records, and the running time from which a tick replaces the record.
    damaged: Mutex<BTreeMap<UserId, Timestamp>>,
    /// A throttle for each kind of warning that the store failed.
    store_warnings: Mutex<BTreeMap<&'static str, Throttle>>,
    /// The counts when the store last answered.
    last_totals: Mutex<Totals>,
    /// For development: the moves of the clock.
    advances: Advances,
}

/// The store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    #[source]
    cause: StoreError,
    /// Whether the commit may have been written nevertheless.
    pub is_in_doubt: bool,
}

impl Unavailable {
    /// Whether other nodes have taken over this node's sessions.
    pub(crate) fn is_retired(&self) -> bool {
        self.cause == StoreError::Retired
    }

    /// Whether only this user's record is damaged, and the store works otherwise.
    pub const fn is_damage(&self) -> bool {
        matches!(self.cause, StoreError::Damaged { .. })
    }
}

impl From<StoreError> for Unavailable {
    fn from(cause: StoreError) -> Self {
        Self { cause, is_in_doubt: false }
    }
}

impl Hub {
    /// Makes the hub of a node.
    pub fn new(store: Arc<dyn Store>, policy: Policy, clock: Clock) -> Arc<Self> {
        Self::with_random(store, policy, clock, Random::System)
    }

    /// Makes the hub of a simulated node: its ids follow from a seed.
    pub fn simulated(store: Arc<dyn Store>, policy: Policy, clock: Clock, seed: u64) -> Arc<Self> {
        Self::with_random(store, policy, clock, Random::seeded(seed))
    }

    fn with_random(
        store: Arc<dyn Store>,
        policy: Policy,
        clock: Clock,
        random: Random,
    ) -> Arc<Self> {
        let ledger = store.may_lose_commits().then(Ledger::default);
        let hash = KeyedHash::new(&random);
        Arc::new(Self {
            node: NodeId(random.number()),
            random,
            clock,
            policy: ArcSwap::from_pointee(policy),
            store,
            lanes: Lanes::new(hash, LANES),
            list_lanes: Lanes::new(hash, LIST_LANES),
            registry: Registry::new(hash),
            watchers: Watchers::new(hash),
            budget: Arc::default(),
            metrics: Metrics::default(),
            next_connection: AtomicU64::new(0),
            draining: ArcSwapOption::empty(),
            is_full: AtomicBool::new(false),
            is_disk_low: AtomicBool::new(false),
            unfinished: TaskTracker::new(),
            lost: watch::Sender::new(None),
            card: Mutex::new("{}".into()),
            retired: watch::Sender::new(false),
            ledger,
            missed: AtomicU64::new(0),
            doubts: Mutex::default(),
            ending: Mutex::default(),
            damaged: Mutex::default(),
            store_warnings: Mutex::default(),
            last_totals: Mutex::default(),
            advances: Advances::default(),
        })
    }

    /// The id of this run of the process.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The hub's clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The hub's counters.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Replaces the policy, from the next event on (L10). Returns whether it changed what tokens without a `watch`
    /// claim may watch: then [`narrow_all`](Self::narrow_all) must follow (P7).
    pub fn set_policy(&self, policy: Policy) -> bool {
        let policy = Arc::new(policy);
        let before = self.policy.swap(Arc::clone(&policy));
        before.default_watch != policy.default_watch
    }

    /// Makes a new session id.
    pub fn new_session(&self) -> SessionId {
        SessionId(self.random.number())
    }

    /// Makes the id of a new event.
    fn new_event(&self) -> EventId {
        EventId(self.random.number())
    }

    /// Registers a new connection.
    pub fn connect(self: &Arc<Self>, writer: WriteHalf) -> Connection {
        let serial = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let id = ConnectionId { node: self.node, serial };
        let mailbox =
            Arc::new(Mailbox::new(id, writer, self.clock.now(), Arc::clone(&self.budget)));
        self.registry.add(&mailbox);
        self.metrics.connections.inc();
        if let Some(over) = self.draining.load().as_deref() {
            self.send_away(&mailbox, *over);
        }
        Connection { hub: Arc::clone(self), mailbox, _unfinished: self.unfinished.token() }
    }

    /// Whether logins are refused because memory is short.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) || self.budget.is_half_used()
    }

    /// Sets whether logins are refused because memory is short. Existing sessions stay.
    pub fn set_full(&self, is_full: bool) {
        if self.is_full.swap(is_full, Ordering::Relaxed) == is_full {
            return;
        }
        if is_full {
            tracing::warn!("memory is short; refusing new logins");
        } else {
            tracing::info!("memory is sufficient again; accepting new logins");
        }
    }

    /// Whether the disk is nearly full (`store.min_free`).
    pub fn is_disk_low(&self) -> bool {
        self.is_disk_low.load(Ordering::Relaxed)
    }

    /// Sets whether the disk is nearly full; returns whether it was before. What is left is kept for logins,
    /// kicks and the ends of sessions.
    pub fn set_disk_low(&self, is_low: bool) -> bool {
        self.is_disk_low.swap(is_low, Ordering::Relaxed)
    }

    /// Checks that the disk has room for changes that can wait: custom statuses, and going to the background.
    ///
    /// # Errors
    ///
    /// If the disk is nearly full.
    pub fn check_room(&self) -> Result<(), Unavailable> {
        match self.is_disk_low() {
            false => Ok(()),
            true => {
                Err(StoreError::unavailable(&"less than store.min_free is free on the disk").into())
            }
        }
    }
}
