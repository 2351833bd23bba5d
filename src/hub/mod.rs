//! Where an event meets the rules, the store and everyone who listens.
//!
//! ```text
//!   apply(user, event)   in the user's lane
//!     load ─▶ step ─▶ commit ─┬─▶ conflict: again
//!                             ▼
//!                          ends ─▶ registry ─▶ mailboxes
//!                          status ─▶ watchers ─▶ mailboxes
//!                          both ─▶ bus ─▶ other nodes
//! ```

mod anew;
mod backlog;
mod complaints;
mod connection;
mod deadlines;
mod life;
mod listening;
mod mailbox;
mod metrics;
mod questions;
mod registry;
mod sharded;
mod tally;
mod wire;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex as SyncMutex;
use smallvec::SmallVec;
use tokio::sync::{Mutex, MutexGuard, Notify};

pub use self::connection::Connection;
pub use self::deadlines::run as run_deadlines;
use self::mailbox::flush_all;
pub use self::mailbox::{Ending, Mailbox, Signal, pending_once};
pub use self::metrics::{Closed, Counts, Metrics, StoreCounts};
use self::registry::{Deliveries, Registry, Watchers};
pub use self::wire::{Wire, Writer};
use crate::bus::{Bus, Word};
use crate::clock::{Clock, TICK};
use crate::presence::{
    Answer, Cause, ConnectionId, Effects, End, Event, EventId, EventKind, Kicker, Link, Moment,
    NodeId, Outcome, Policy, Record, SessionId, Sign, Status, Timestamp, UserId, Why, step,
};
use crate::store::{Commit, Store, StoreError};
use crate::throttle::Throttle;
use crate::wire::{By, Close, KickNotice, KickReason, Push, UserStatus, text_frame};

/// How many lanes there are: users share them by hash, at the cost of a wait now and then.
const LANES: usize = 4096;
/// How often a step is decided again after a lost race before the caller hears of it.
const COMMIT_ATTEMPTS_MAX: u32 = 64;

/// The hub of one node: the one caller of [`step`].
pub struct Hub {
    node: NodeId,
    clock: Clock,
    policy: ArcSwap<Policy>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    lanes: Vec<Mutex<()>>,
    hasher: RandomState,
    registry: Registry,
    watchers: Watchers,
    metrics: Metrics,
    next_connection: AtomicU64,
    /// Set for good once the hub drains: how long that may take.
    draining: ArcSwapOption<Duration>,
    /// Whether logins are refused for want of memory.
    is_full: AtomicBool,
    drained: Notify,
    /// Ends of sessions that the store has not taken yet.
    settling: AtomicU64,
    /// Hubs that are gone and whose sessions are not all taken over.
    lost: ArcSwap<Vec<(NodeId, Sign)>>,
    /// Users whose record is damaged, and until when it may stay so, in running time.
    damaged: SyncMutex<BTreeMap<UserId, Timestamp>>,
    /// When the log last had each kind of warning that the store failed.
    complaints: SyncMutex<BTreeMap<&'static str, Throttle>>,
}

/// The store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    #[source]
    cause: StoreError,
    /// Whether it may have been written all the same.
    pub is_in_doubt: bool,
}

impl Unavailable {
    /// Whether it is this user's record alone that cannot be read.
    pub const fn is_damage(&self) -> bool {
        matches!(self.cause, StoreError::Damaged { .. })
    }
}

impl From<StoreError> for Unavailable {
    fn from(cause: StoreError) -> Self {
        Self { cause, is_in_doubt: false }
    }
}

/// What became of an event.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What its sender is told.
    pub answer: Answer,
    /// The user's record after it.
    pub record: Arc<Record>,
}

impl Hub {
    /// Makes the hub of a node over a store.
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        policy: Policy,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            node: NodeId(rand::random()),
            clock,
            policy: ArcSwap::from_pointee(policy),
            store,
            bus,
            lanes: (0..LANES).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
            registry: Registry::default(),
            watchers: Watchers::default(),
            metrics: Metrics::default(),
            next_connection: AtomicU64::new(0),
            draining: ArcSwapOption::empty(),
            is_full: AtomicBool::new(false),
            drained: Notify::new(),
            settling: AtomicU64::new(0),
            lost: ArcSwap::default(),
            damaged: SyncMutex::default(),
            complaints: SyncMutex::default(),
        })
    }

    /// This run of this process.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The clock that everything here runs on.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Puts another policy in force, from the next event on (L10).
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// A session id that was never given out.
    pub fn new_session(&self) -> SessionId {
        SessionId(rand::random())
    }

    /// Takes in a new connection.
    pub fn connect(self: &Arc<Self>, wire: Wire) -> Connection {
        let serial = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let id = ConnectionId { node: self.node, serial };
        let mailbox = Arc::new(Mailbox::new(id, wire, self.clock.now()));
        self.registry.add(&mailbox);
        self.metrics.connections.inc();
        if let Some(over) = self.draining.load().as_deref() {
            send_away(&mailbox, *over);
        }
        Connection { hub: Arc::clone(self), mailbox }
    }

    // Events.

    /// Applies an event to a user; what follows from it has been done, on this node, on return.
    ///
    /// # Errors
    ///
    /// Where the store did not take it; then nobody was told anything.
    pub async fn apply(&self, user: &UserId, kind: EventKind) -> Result<Applied, Unavailable> {
        self.apply_then(user, kind, |_| ()).await
    }

    /// As [`apply`](Self::apply), and does something more before the user's next event: so a login
    /// is answered before whatever ends it is told.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_then(
        &self,
        user: &UserId,
        kind: EventKind,
        then: impl FnOnce(&Applied),
    ) -> Result<Applied, Unavailable> {
        let event = Event { id: EventId(rand::random()), kind };
        self.apply_event(user, &event, None, then).await
    }

    async fn apply_event(
        &self,
        user: &UserId,
        event: &Event,
        from: Option<&Mailbox>,
        then: impl FnOnce(&Applied),
    ) -> Result<Applied, Unavailable> {
        let _lane = self.lane(user).await;
        let policy = self.policy();
        let (mut attempts, mut is_sent_again) = (0, false);
        loop {
            let failed = |cause| Unavailable { cause, is_in_doubt: is_sent_again };
            let stored = match self.load_for(user, &event.kind).await {
                Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                    attempts += 1;
                    continue;
                }
                loaded => loaded.map_err(failed)?,
            };
            let outcome = self.decide(&stored.record, event, &policy, from);
            let record = Arc::new(outcome.record);
            let due = record.due(&policy);
            let reasons: SmallVec<[_; 1]> =
                outcome.transitions.iter().map(|t| (t.cause, t.evidence.deadline)).collect();
            // Another policy may make the same record due at another time.
            if record != stored.record || due != stored.due {
                let transitions = outcome.transitions;
                let sync = record.revoked != stored.record.revoked;
                let commit = Commit { record: Arc::clone(&record), due, transitions, sync };
                let begun = self.clock.instant();
                let committed = self.store.commit(user, stored.revision, commit).await;
                if let Err(StoreError::Unavailable { .. }) = committed {
                    self.metrics.commit_failures.inc();
                }
                match committed {
                    Ok(()) => self.metrics.committed(self.clock.instant() - begun),
                    Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                        attempts += 1;
                        continue;
                    }
                    // The answer may be lost and the commit not: then the record holds the event.
                    Err(StoreError::Unavailable { .. }) if !is_sent_again => {
                        is_sent_again = true;
                        continue;
                    }
                    Err(cause) => return Err(failed(cause)),
                }
            } else if is_sent_again {
                // It was written, and its answer may be that it cannot be relied on.
                self.store.check().await.map_err(failed)?;
            }
            // From here to the end nothing waits: what was committed is told whoever gives up.
            self.count(&reasons);
            let applied = Applied { answer: outcome.answer, record };
            self.end_all(&outcome.effects);
            then(&applied);
            if outcome.effects.announce {
                self.tell(user, applied.record.status());
            }
            return Ok(applied);
        }
    }

    /// The one lock that is held over an await, on purpose: one user's events go one after another.
    async fn lane(&self, user: &UserId) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(user);
        let lane = usize::try_from(hash % LANES as u64).unwrap_or_default();
        self.lanes[lane].lock().await
    }

    /// What the rules make of an event now.
    fn decide(
        &self,
        record: &Record,
        event: &Event,
        policy: &Policy,
        from: Option<&Mailbox>,
    ) -> Outcome {
        step(record, event, policy, &self.moment(record, from))
    }

    /// The present, with what is known of the user's connections here; the one that an event comes
    /// from may have given up its place already.
    fn moment(&self, record: &Record, from: Option<&Mailbox>) -> Moment {
        let connected = record.terminals.iter().filter(|t| t.link == Link::Connected);
        let others = connected.filter(|t| from.is_none_or(|from| from.id() != t.connection));
        let here = others.filter_map(|terminal| self.registry.get(terminal.connection));
        let heard = here.map(|mailbox| (mailbox.id(), mailbox.heard()));
        let heard = heard.chain(from.map(|from| (from.id(), from.heard())));
        let heard = heard.map(|(id, at)| (id, self.clock.shown(at))).collect();
        let (now, stalls) = self.clock.present();
        Moment { now, wall: self.clock.shown(now), stalls, heard }
    }

    /// Counts transitions by their causes, and how late those were that a deadline brought.
    fn count(&self, reasons: &[(Cause, Option<Timestamp>)]) {
        for (cause, deadline) in reasons {
            self.metrics.logged(*cause);
            if let Some(deadline) = *deadline {
                let late = self.clock.wall() - deadline;
                self.metrics.lateness.observe(late.as_secs_f64());
            }
        }
    }

    // What follows.

    fn end_all(&self, effects: &Effects) {
        for end in &effects.ends {
            if end.connection.node == self.node {
                self.end(end, effects.kick.as_deref());
            } else {
                let kick = effects.kick.as_deref().cloned();
                self.bus.publish(self.node, Word::End { end: *end, kick });
            }
        }
    }

    /// Tells all watchers of a user, wherever they are.
    fn tell(&self, user: &UserId, status: Status) {
        self.announce(user, &status);
        self.bus.publish(self.node, Word::Status { user: user.clone(), status });
    }

    fn end(&self, end: &End, kick: Option<&(Kicker, Timestamp)>) {
        let (close, reason) = match end.why {
            Why::LoginElsewhere => (Close::Kicked, Some(KickReason::LoginElsewhere)),
            Why::SameDevice => (Close::Kicked, Some(KickReason::SameDevice)),
            Why::OwnRequest => (Close::Kicked, Some(KickReason::OwnRequest)),
            Why::Admin => (Close::Kicked, Some(KickReason::Admin)),
            Why::Moved => (Close::Moved, None),
            Why::Background => (Close::Background, None),
            Why::TokenExpired => (Close::TokenExpired, None),
        };
        let Some(mailbox) = self.registry.get(end.connection) else { return };
        let notice = reason.zip(kick).map(|(reason, kick)| notice(reason, kick));
        let last = notice.map(|notice| {
            self.metrics.kicked(notice.reason.name());
            text_frame(&Push::Kicked(&notice))
        });
        mailbox.end(Ending { close }, last);
    }

    /// Tells this node's watchers of a user: one encoding for all of them.
    fn announce(&self, user: &UserId, status: &Status) {
        let Some(watched) = self.watchers.get(user) else { return };
        let frame = text_frame(&Push::Status(UserStatus { user, status }));
        let Deliveries { sent, conflated, unflushed } = watched.push(status.version, &frame);
        self.metrics.deliveries.inc_by(sent);
        self.metrics.conflated.inc_by(conflated);
        if !unflushed.is_empty() {
            tokio::spawn(flush_all(unflushed));
        }
    }

    // Draining.

    /// Whether no new session is admitted any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load().is_some()
    }

    /// Whether no login is possible for want of memory.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Says whether there is no memory for more logins; those who are in stay.
    pub fn set_full(&self, is_full: bool) {
        if self.is_full.swap(is_full, Ordering::Relaxed) == is_full {
            return;
        }
        if is_full {
            tracing::warn!("memory is short: new logins are refused until there is more");
        } else {
            tracing::info!("memory is enough again: new logins are admitted");
        }
    }

    /// Sends every connection away, to come back at some time within `over`; returns when all are
    /// gone and every end is stored, or after `over`. Records stay as they are (T11).
    pub async fn drain(&self, over: Duration) {
        self.draining.store(Some(Arc::new(over)));
        for mailbox in self.registry.all() {
            send_away(&mailbox, over);
        }
        let all_gone = async {
            while self.metrics.connections.get() > 0 || self.settling.load(Ordering::Relaxed) > 0 {
                tokio::time::timeout(TICK, self.drained.notified()).await.ok();
            }
        };
        if tokio::time::timeout(over, all_gone).await.is_err() {
            tracing::warn!(
                connections = self.metrics.connections.get(),
                "not all were gone in time"
            );
        }
    }
}

/// Tells a client to come back at some time within `over`, so that not all come at once.
fn send_away(mailbox: &Mailbox, over: Duration) {
    let most = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    let reconnect_ms = rand::random_range(0..=most);
    let last = text_frame(&Push::Closing { reason: "drain", reconnect_ms });
    mailbox.end(Ending { close: Close::Draining }, Some(last));
}

fn notice(reason: KickReason, (kicker, at): &(Kicker, Timestamp)) -> KickNotice {
    let (by, message) = match kicker {
        Kicker::Login(victor) | Kicker::Own(victor) => {
            let by = By { platform: victor.platform, device: victor.device.clone() };
            (Some(by), None)
        }
        Kicker::Admin { message } => (None, message.clone()),
    };
    KickNotice { reason, by, at: *at, message }
}
