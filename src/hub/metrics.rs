use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::tally::Tally;
use crate::presence::{Cause, Platform, State};
use crate::store::Totals;
use crate::wire::Close;

/// Upper bounds of the buckets of lateness, in seconds; T14 allows one.
const LATENESS_BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 10.0];

/// Upper bounds of the buckets of commits, in seconds.
const COMMIT_BUCKETS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.01, 0.05, 0.1, 0.5, 2.0];
/// What a commit takes at most, unless the store is slow.
const COMMIT_MAX: Duration = Duration::from_millis(100);

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
    login_refusals: Family<Reason, Counter>,
    kicks: Family<Reason, Counter>,
    closes: Family<CloseLabel, Counter>,
    /// Entries of the transition log, in the order of the causes.
    transitions: [Counter; Cause::ALL.len()],
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
    /// Log lines that were dropped, because the reader of standard error had stopped.
    pub log_lines_dropped: Counter,
    /// How long the store took for a commit, in seconds; what it sums up it does not give back.
    commit_seconds: Histogram,
    commits: Counter,
    commit_micros: Counter,
    slow_commits: Counter,
    /// Commits that the store did not take.
    pub commit_failures: Counter,
    task_restarts: Family<Task, Counter>,
    /// Damaged rows of the store that were found and are still there.
    pub damaged_rows: Gauge,
    tallies: Tallies,
    sessions: Family<Session, Gauge<i64>>,
    users: Family<User, Gauge<u64, AtomicU64>>,
}

/// What `/v1/stats` shows of it, since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Open WebSockets.
    pub connections: i64,
    /// Users watched, summed over sessions.
    pub subscriptions: i64,
    /// Logins and resumes accepted, by kind.
    pub logins: BTreeMap<&'static str, u64>,
    /// Logins and upgrades refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Kick notices sent, by reason.
    pub kicks: BTreeMap<&'static str, u64>,
    /// Connections ended, by reason.
    pub closes: BTreeMap<&'static str, u64>,
    /// Entries of the transition log, by cause.
    pub transitions: BTreeMap<&'static str, u64>,
    /// Statuses sent.
    pub deliveries: u64,
    /// Statuses that replaced an unsent one.
    pub conflated: u64,
    /// Times that the hub stood still.
    pub stalls: u64,
    /// Connections that could not be accepted.
    pub accept_errors: u64,
    /// What the store did.
    pub store: StoreCounts,
}

/// What the store did, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCounts {
    /// What it took.
    pub commits: u64,
    /// For how long, in all, in microseconds.
    pub commit_us: u64,
    /// Those of them that took long.
    pub slow_commits: u64,
    /// What it did not take.
    pub failures: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The hub closed it.
    ByHub(Close),
    /// The peer closed it, with this code, or is gone without a word.
    ByPeer(Option<u16>),
}

impl Closed {
    /// The close code; 1006 says that there was none (RFC 6455, section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::ByHub(close) => close.code(),
            Self::ByPeer(code) => code.unwrap_or(1006),
        }
    }

    /// Who closed it.
    pub const fn by(self) -> &'static str {
        match self {
            Self::ByHub(_) => "hub",
            Self::ByPeer(_) => "peer",
        }
    }

    /// Why, in a word.
    const fn reason(self) -> &'static str {
        match self {
            Self::ByHub(close) => close.reason(),
            Self::ByPeer(Some(_)) => "peer",
            Self::ByPeer(None) => "lost",
        }
    }
}

/// Counts by words, which the metrics themselves do not give back.
#[derive(Debug, Default)]
struct Tallies {
    logins: Tally,
    refusals: Tally,
    kicks: Tally,
    closes: Tally,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabel {
    /// The close code; `other` for one that a client made up.
    code: String,
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Session {
    platform: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Task {
    task: &'static str,
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
            login_refusals: Family::default(),
            kicks: Family::default(),
            closes: Family::default(),
            transitions: Default::default(),
            deliveries: Counter::default(),
            conflated: Counter::default(),
            lateness: Histogram::new(LATENESS_BUCKETS),
            stalls: Counter::default(),
            accept_errors: Counter::default(),
            log_lines_dropped: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            commits: Counter::default(),
            commit_micros: Counter::default(),
            slow_commits: Counter::default(),
            commit_failures: Counter::default(),
            task_restarts: Family::default(),
            damaged_rows: Gauge::default(),
            tallies: Tallies::default(),
            sessions: Family::default(),
            users: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let transitions = Family::<CauseLabel, Counter>::default();
        self.transitions = Cause::ALL
            .map(|cause| transitions.get_or_create_owned(&CauseLabel { cause: cause.name() }));
        let hub = self.registry.sub_registry_with_prefix("presence_hub");
        hub.register("connections", "Open WebSockets", self.connections.clone());
        hub.register("sessions", "Sessions by platform and state", self.sessions.clone());
        hub.register("users", "Users remembered, by state", self.users.clone());
        hub.register("subscriptions", "Users watched, over sessions", self.subscriptions.clone());
        hub.register("logins", "Logins accepted", self.logins.clone());
        hub.register("refusals", "Logins and upgrades refused", self.refusals.clone());
        hub.register("login_refusals", "Logins refused", self.login_refusals.clone());
        hub.register("kicks", "Kick notices sent", self.kicks.clone());
        hub.register("closes", "Connections ended", self.closes.clone());
        hub.register("transitions", "Entries of the transition log", transitions);
        hub.register("deliveries", "Statuses sent to watchers", self.deliveries.clone());
        hub.register("conflated", "Statuses that replaced an unsent one", self.conflated.clone());
        hub.register(
            "detection_lateness_seconds",
            "How long after its window an end was found out",
            self.lateness.clone(),
        );
        hub.register("stalls", "Times the hub stood still", self.stalls.clone());
        hub.register("accept_errors", "Connections not accepted", self.accept_errors.clone());
        let dropped = self.log_lines_dropped.clone();
        hub.register("log_lines_dropped", "Log lines dropped: their reader had stopped", dropped);
        let seconds = self.commit_seconds.clone();
        hub.register("store_commit_seconds", "How long a commit took", seconds);
        let failures = self.commit_failures.clone();
        hub.register("store_commit_failures", "Commits that the store did not take", failures);
        let restarts = self.task_restarts.clone();
        hub.register("task_restarts", "Long-lived tasks restarted after a panic", restarts);
        let damaged = self.damaged_rows.clone();
        hub.register("store_damaged_rows", "Damaged rows of the store, still there", damaged);
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
        let Tallies { logins, refusals, kicks, closes } = &self.tallies;
        let transitions = Cause::ALL.into_iter().zip(&self.transitions);
        let transitions = transitions.map(|(cause, counter)| (cause.name(), counter.get()));
        Counts {
            connections: self.connections.get(),
            subscriptions: self.subscriptions.get(),
            logins: logins.counted(),
            refusals: refusals.counted(),
            kicks: kicks.counted(),
            closes: closes.counted(),
            transitions: transitions.collect(),
            deliveries: self.deliveries.get(),
            conflated: self.conflated.get(),
            stalls: self.stalls.get(),
            accept_errors: self.accept_errors.get(),
            store: StoreCounts {
                commits: self.commits.get(),
                commit_us: self.commit_micros.get(),
                slow_commits: self.slow_commits.get(),
                failures: self.commit_failures.get(),
            },
        }
    }

    /// Counts a login.
    pub fn logged_in(&self, kind: &'static str) {
        self.tallies.logins.add(kind);
        self.logins.get_or_create(&Kind { kind }).inc();
    }

    /// Counts a kick.
    pub fn kicked(&self, reason: &'static str) {
        self.tallies.kicks.add(reason);
        self.kicks.get_or_create(&Reason { reason }).inc();
    }

    /// Counts the refusal of a login.
    pub fn login_refused(&self, reason: &'static str) {
        self.login_refusals.get_or_create(&Reason { reason }).inc();
        self.refused(reason);
    }

    /// Counts the refusal of an upgrade.
    pub fn refused(&self, reason: &'static str) {
        self.tallies.refusals.add(reason);
        self.refusals.get_or_create(&Reason { reason }).inc();
    }

    /// Counts the end of a connection.
    pub fn closed(&self, closed: Closed) {
        self.tallies.closes.add(closed.reason());
        let label = CloseLabel { code: code_label(closed.code()), by: closed.by() };
        self.closes.get_or_create(&label).inc();
    }

    /// Counts the restart of a long-lived task.
    pub fn task_restarted(&self, task: &'static str) {
        self.task_restarts.get_or_create(&Task { task }).inc();
    }

    /// Counts an entry of the transition log.
    pub fn logged(&self, cause: Cause) {
        self.transitions[cause as usize].inc();
    }

    /// Counts a commit that the store took.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commits.inc();
        self.commit_micros.inc_by(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if took > COMMIT_MAX {
            self.slow_commits.inc();
        }
    }
}

/// A close code as a label: clients can make up codes, and labels must be few.
fn code_label(code: u16) -> String {
    match code {
        1000..=1013 | 4000..=4007 | 4501..=4505 => code.to_string(),
        _ => "other".into(),
    }
}
