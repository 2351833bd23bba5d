//! The hub's counters, for Prometheus and for `/v1/stats`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    CloseLabel, Closed, KeyLimit, LoginKind, RefusalReason, SocketsTaken, TaskName,
};
use super::tally::Tally;
use crate::presence::{Cause, Platform, State};
use crate::store::Totals;
use crate::wire::KickReason;

/// Upper bounds of the lateness buckets, in seconds. T14 allows 1 s.
const LATENESS_BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 10.0];

/// Upper bounds of the commit duration buckets, in seconds.
const COMMIT_BUCKETS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.01, 0.05, 0.1, 0.5, 2.0];
/// A commit that takes longer counts as slow.
const COMMIT_MAX: Duration = Duration::from_millis(100);

/// The hub's counters; every name in Prometheus begins with `presence_hub_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Open WebSockets.
    pub connections: Gauge,
    /// Users watched, summed over sessions.
    pub subscriptions: Gauge,
    logins: Tally<LoginKind>,
    refusals: Tally<RefusalReason>,
    login_refusals: Tally<RefusalReason>,
    kicks: Tally<KickReason>,
    closes: Tally<CloseLabel>,
    /// Entries of the transition log.
    transitions: Tally<Cause>,
    /// Statuses sent to watchers.
    pub deliveries: Counter,
    /// Statuses that replaced an unsent older one.
    pub conflated: Counter,
    /// How long after its window an end was detected, in seconds (T14).
    pub lateness: Histogram,
    /// Stalls of the hub of more than 1 s (T12).
    pub stalls: Counter,
    /// Connections that could not be accepted, for example because of too many open files.
    pub accept_errors: Counter,
    /// Connections closed because all together held too much memory, and they the most.
    pub greedy_cut: Counter,
    /// Log lines that were dropped because the log queue was full.
    pub log_lines_dropped: Counter,
    /// Commit durations in seconds. The histogram's sum cannot be read back, so `commit_micros` keeps it.
    commit_seconds: Histogram,
    commits: Counter,
    commit_micros: Counter,
    slow_commits: Counter,
    /// Commits that failed.
    pub commit_failures: Counter,
    /// Sockets that got no place, or only one for a short answer.
    crowded: Tally<SocketsTaken>,
    task_restarts: Tally<TaskName>,
    /// Requests to the server API that were refused because their key was over a limit.
    key_refusals: Tally<KeyLimit>,
    /// Damaged rows in the store that were found and not repaired.
    pub damaged_rows: Gauge,
    sessions: Family<[Labelled; 2], Gauge>,
    users: Family<[Labelled; 1], Gauge<u64, AtomicU64>>,
}

/// A label and its value.
type Labelled = (&'static str, &'static str);

/// The counts that `/v1/stats` shows, since the start.
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
    /// Stalls of the hub.
    pub stalls: u64,
    /// Connections that could not be accepted.
    pub accept_errors: u64,
    /// The store's counts.
    pub store: StoreCounts,
}

/// The store's counts, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCounts {
    /// Commits.
    pub commits: u64,
    /// The total duration of all commits, in microseconds.
    pub commit_us: u64,
    /// Commits that took longer than 100 ms.
    pub slow_commits: u64,
    /// Commits that failed.
    pub failures: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            connections: Gauge::default(),
            subscriptions: Gauge::default(),
            logins: Tally::default(),
            refusals: Tally::default(),
            login_refusals: Tally::default(),
            kicks: Tally::default(),
            closes: Tally::default(),
            transitions: Tally::showing(Cause::ALL),
            deliveries: Counter::default(),
            conflated: Counter::default(),
            lateness: Histogram::new(LATENESS_BUCKETS),
            stalls: Counter::default(),
            accept_errors: Counter::default(),
            greedy_cut: Counter::default(),
            log_lines_dropped: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            commits: Counter::default(),
            commit_micros: Counter::default(),
            slow_commits: Counter::default(),
            commit_failures: Counter::default(),
            crowded: Tally::showing(["all", "address", "handshakes"].map(SocketsTaken)),
            task_restarts: Tally::default(),
            key_refusals: Tally::showing(KeyLimit::ALL),
            damaged_rows: Gauge::default(),
            sessions: Family::default(),
            users: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let hub = self.registry.sub_registry_with_prefix("presence_hub");
        hub.register("connections", "Open WebSockets", self.connections.clone());
        hub.register("sessions", "Sessions by platform and state", self.sessions.clone());
        hub.register(
            "users",
            "Known users, by state; away is a part of Online",
            self.users.clone(),
        );
        hub.register(
            "subscriptions",
            "Watched users, summed over sessions",
            self.subscriptions.clone(),
        );
        hub.register("logins", "Logins accepted", self.logins.clone());
        hub.register("refusals", "Logins and upgrades refused", self.refusals.clone());
        hub.register("login_refusals", "Logins refused", self.login_refusals.clone());
        hub.register("kicks", "Kick notices sent", self.kicks.clone());
        hub.register("closes", "Connections ended", self.closes.clone());
        let transitions = self.transitions.clone();
        hub.register("transitions", "Entries of the transition log", transitions);
        hub.register("deliveries", "Statuses sent to watchers", self.deliveries.clone());
        hub.register("conflated", "Statuses that replaced an unsent one", self.conflated.clone());
        hub.register(
            "detection_lateness_seconds",
            "How long after its window an end was detected",
            self.lateness.clone(),
        );
        hub.register("stalls", "Stalls of the event loop", self.stalls.clone());
        hub.register("accept_errors", "Connections not accepted", self.accept_errors.clone());
        let cut = self.greedy_cut.clone();
        hub.register("greedy_connections_closed", "Connections closed to save memory", cut);
        let dropped = self.log_lines_dropped.clone();
        hub.register("log_lines_dropped", "Log lines dropped: the log queue was full", dropped);
        let seconds = self.commit_seconds.clone();
        hub.register("store_commit_seconds", "How long a commit took", seconds);
        let failures = self.commit_failures.clone();
        hub.register("store_commit_failures", "Commits that failed", failures);
        let crowded = self.crowded.clone();
        hub.register(
            "sockets_refused",
            "Sockets refused: places taken by all or one address, or its handshakes",
            crowded,
        );
        let restarts = self.task_restarts.clone();
        hub.register("task_restarts", "Long-lived tasks restarted after a panic", restarts);
        let refusals = self.key_refusals.clone();
        hub.register("key_refusals", "Requests refused: their key was over a limit", refusals);
        let damaged = self.damaged_rows.clone();
        hub.register("store_damaged_rows", "Damaged rows in the store, not repaired", damaged);
    }

    /// Renders all metrics in Prometheus's text format, with the store's present totals, without the
    /// `# EOF` line.
    pub fn render(&self, totals: &Totals) -> String {
        for platform in Platform::ALL {
            let counts = [
                (State::Online, totals.online[platform as usize]),
                (State::PushOnline, totals.push_online[platform as usize]),
            ];
            for (state, count) in counts {
                let labels = [("platform", platform.name()), ("state", state.name())];
                self.sessions.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for state in [State::Offline, State::PushOnline, State::Online] {
            let labels = [("state", state.name())];
            self.users.get_or_create(&labels).set(totals.users[state as usize]);
        }
        self.users.get_or_create(&[("state", "away")]).set(totals.away);
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &self.registry)
            .unwrap_or_else(|error| unreachable!("writing to a String cannot fail: {error}"));
        rendered
    }

    /// The counts for the statistics.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.get(),
            subscriptions: self.subscriptions.get(),
            logins: self.logins.by_name(),
            refusals: self.refusals.by_name(),
            kicks: self.kicks.by_name(),
            closes: self.closes.by_name(),
            transitions: self.transitions.by_name(),
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
    pub fn logged_in(&self, kind: LoginKind) {
        self.logins.add(kind);
    }

    /// Counts a kick.
    pub fn kicked(&self, reason: KickReason) {
        self.kicks.add(reason);
    }

    /// Counts the refusal of a login.
    pub fn login_refused(&self, reason: RefusalReason) {
        self.login_refusals.add(reason);
        self.refusals.add(reason);
    }

    /// Counts the refusal of an upgrade.
    pub fn upgrade_refused(&self, reason: RefusalReason) {
        self.refusals.add(reason);
    }

    /// Counts the end of a connection.
    pub fn closed(&self, closed: Closed) {
        self.closes.add(closed.label());
    }

    /// Counts a socket that got no place, or only one for a short answer: `all` places are taken, or those
    /// that one `address` may have, or its TLS `handshakes`.
    pub fn crowded(&self, by: &'static str) {
        self.crowded.add(SocketsTaken(by));
    }

    /// Counts the restart of a long-lived task.
    pub fn task_restarted(&self, task: &'static str) {
        self.task_restarts.add(TaskName(task));
    }

    /// Counts a request that was refused because its key was over a limit.
    pub fn key_refused(&self, limit: KeyLimit) {
        self.key_refusals.add(limit);
    }

    /// Counts an entry of the transition log.
    pub fn logged(&self, cause: Cause) {
        self.transitions.add(cause);
    }

    /// Counts a successful commit.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commits.inc();
        self.commit_micros.inc_by(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if took > COMMIT_MAX {
            self.slow_commits.inc();
        }
    }
}
