use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::presence::{Cause, Platform, State};
use crate::store::Totals;

/// Upper bounds of the buckets of lateness, in seconds; T14 allows one.
const LATENESS_BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 10.0];

/// What the hub counts, for Prometheus and for `/v1/stats`; every name begins with `presence_hub_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Open WebSockets.
    pub connections: Gauge,
    /// Users watched, summed over sessions.
    pub subscriptions: Gauge,
    logins: Family<Kind, Counter>,
    refusals: Family<Reason, Counter>,
    kicks: Family<Reason, Counter>,
    /// Connections ended, by code and by who closed.
    pub closes: Family<CloseLabel, Counter>,
    /// Entries of the transition log, by cause.
    pub transitions: Family<CauseLabel, Counter>,
    /// Statuses sent to watchers.
    pub deliveries: Counter,
    /// Of those, how many took the place of an older one that had not been sent.
    pub conflated: Counter,
    /// How long after its window an end was found out, in seconds (T14).
    pub lateness: Histogram,
    /// Times that the hub itself stood still for more than a second (T12).
    pub stalls: Counter,
    /// Connections that could not be accepted, as for want of file descriptors.
    pub accept_errors: Counter,
    totals: Sums,
    sessions: Family<Session, Gauge<i64>>,
    users: Family<User, Gauge<u64, AtomicU64>>,
}

/// What `/v1/stats` shows of it, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Open WebSockets.
    pub connections: i64,
    /// Users watched, summed over sessions.
    pub subscriptions: i64,
    /// Logins and resumes accepted.
    pub logins: u64,
    /// Logins and upgrades refused.
    pub refusals: u64,
    /// Kick notices sent.
    pub kicks: u64,
    /// Statuses sent.
    pub deliveries: u64,
    /// Statuses that replaced an unsent one.
    pub conflated: u64,
}

/// Sums over labels.
#[derive(Debug, Default)]
struct Sums {
    logins: Counter,
    refusals: Counter,
    kicks: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    /// The close code; 1006 for an end without one, `other` for one that a client made up.
    pub code: String,
    /// `hub` or `peer`.
    pub by: &'static str,
}

/// Why a transition happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    /// The cause, as in the log.
    pub cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Session {
    platform: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct User {
    state: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            connections: Gauge::default(),
            subscriptions: Gauge::default(),
            logins: Family::default(),
            refusals: Family::default(),
            kicks: Family::default(),
            closes: Family::default(),
            transitions: Family::default(),
            deliveries: Counter::default(),
            conflated: Counter::default(),
            lateness: Histogram::new(LATENESS_BUCKETS),
            stalls: Counter::default(),
            accept_errors: Counter::default(),
            totals: Sums::default(),
            sessions: Family::default(),
            users: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        for cause in Cause::ALL {
            let _ = self.transitions.get_or_create(&CauseLabel { cause: cause.name() });
        }
        let hub = self.registry.sub_registry_with_prefix("presence_hub");
        hub.register("connections", "Open WebSockets", self.connections.clone());
        hub.register("sessions", "Sessions by platform and state", self.sessions.clone());
        hub.register("users", "Users remembered, by state", self.users.clone());
        hub.register("subscriptions", "Users watched, over sessions", self.subscriptions.clone());
        hub.register("logins", "Logins accepted", self.logins.clone());
        hub.register("refusals", "Logins and upgrades refused", self.refusals.clone());
        hub.register("kicks", "Kick notices sent", self.kicks.clone());
        hub.register("closes", "Connections ended", self.closes.clone());
        hub.register("transitions", "Entries of the transition log", self.transitions.clone());
        hub.register("deliveries", "Statuses sent to watchers", self.deliveries.clone());
        hub.register("conflated", "Statuses that replaced an unsent one", self.conflated.clone());
        hub.register(
            "detection_lateness_seconds",
            "How long after its window an end was found out",
            self.lateness.clone(),
        );
        hub.register("stalls", "Times the hub stood still", self.stalls.clone());
        hub.register("accept_errors", "Connections not accepted", self.accept_errors.clone());
    }

    /// Writes everything in Prometheus's text format, with the store's present totals, but for the
    /// end mark.
    pub fn render(&self, totals: &Totals) -> String {
        for platform in Platform::ALL {
            let counts = [
                (State::Online, totals.online[platform as usize]),
                (State::PushOnline, totals.push_online[platform as usize]),
            ];
            for (state, count) in counts {
                let label = Session { platform: platform.name(), state: state.name() };
                self.sessions.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for state in [State::Offline, State::PushOnline, State::Online] {
            let label = User { state: state.name() };
            self.users.get_or_create(&label).set(totals.users[state as usize]);
        }
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &self.registry)
            .unwrap_or_else(|error| unreachable!("a text takes it: {error}"));
        rendered
    }

    /// What the statistics show.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.get(),
            subscriptions: self.subscriptions.get(),
            logins: self.totals.logins.get(),
            refusals: self.totals.refusals.get(),
            kicks: self.totals.kicks.get(),
            deliveries: self.deliveries.get(),
            conflated: self.conflated.get(),
        }
    }

    /// Counts a login.
    pub fn logged_in(&self, kind: &'static str) {
        self.totals.logins.inc();
        self.logins.get_or_create(&Kind { kind }).inc();
    }

    /// Counts a kick.
    pub fn kicked(&self, reason: &'static str) {
        self.totals.kicks.inc();
        self.kicks.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.totals.refusals.inc();
        self.refusals.get_or_create(&Reason { reason }).inc();
    }
}
