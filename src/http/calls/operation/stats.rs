//! `GET /v1/stats`: current counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::nodes::Node;
use crate::http::access::MayRead;
use crate::http::openapi::Refusals;
use crate::http::probes::process::memory_bytes;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::http::undelivered::Undelivered;
use crate::presence::{Platform, State as UserState, Timestamp};
use crate::store::Totals;
use crate::webhook::ReceiverState;
use crate::wire::Close;

/// `GET /v1/stats`: current counts.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "getStats",
    tag = "operation",
    responses(
        (status = 200, description = "The counts.", body = Stats),
        Refusals,
    ),
)]
pub(crate) async fn stats(
    State(app): State<Arc<AppState>>,
    _: MayRead,
) -> Result<Json<Stats>, Problem> {
    let totals = app.hub.totals().await?;
    let counted = HubCounts::now(&app, &totals).await?;
    Ok(Json(Stats { counted, nodes: Node::all(&app, &totals).await? }))
}

/// The counts, and the nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats {
    #[serde(flatten)]
    counted: HubCounts,
    nodes: Vec<Node>,
}

/// Counts. Those that only grow count from the start of the process.
#[derive(Serialize, ToSchema)]
pub(crate) struct HubCounts {
    /// The hub's wall clock.
    pub(crate) at: Timestamp,
    uptime_ms: u64,
    /// Resident memory; null if the system does not report it.
    memory_bytes: Option<u64>,
    /// Open WebSockets.
    connections: i64,
    /// Sessions, by platform.
    sessions: BTreeMap<&'static str, u64>,
    /// Sessions that are Online, and PushOnline.
    sessions_by_state: BTreeMap<&'static str, u64>,
    /// Known users, by state.
    users: BTreeMap<&'static str, u64>,
    /// Users who are away: `Online`, but at none of their devices.
    users_away: u64,
    /// Users watched, summed over sessions.
    subscriptions: i64,
    logins: u64,
    logins_by_kind: BTreeMap<&'static str, u64>,
    /// Logins and upgrades refused.
    refusals: u64,
    refusals_by_reason: BTreeMap<&'static str, u64>,
    /// Kick notices sent.
    kicks: u64,
    kicks_by_reason: BTreeMap<&'static str, u64>,
    /// Connections ended.
    closes: u64,
    closes_by_reason: BTreeMap<&'static str, u64>,
    /// Connections ended because the client did not read (also in `closes`).
    slow_consumers: u64,
    /// Entries of the transition log.
    transitions: u64,
    transitions_by_cause: BTreeMap<&'static str, u64>,
    /// Statuses sent to watchers.
    deliveries: u64,
    /// Unsent statuses that a newer one replaced.
    conflated: u64,
    /// Times that the process did not run for more than a second.
    stalls: u64,
    /// Failed accepts.
    accept_errors: u64,
    store: StoreStats,
    webhook: WebhookStats,
    outbox: OutboxStats,
}

/// The state and counts of the store.
#[derive(Serialize, ToSchema)]
struct StoreStats {
    /// `up`, or `failing` while commits fail.
    state: &'static str,
    commits: u64,
    /// The total duration of all commits, in microseconds.
    commit_us: u64,
    /// Commits that took more than 100 ms.
    slow_commits: u64,
    /// Failed commits.
    failures: u64,
    /// Damaged rows found since the start and not replaced yet.
    damaged_rows: u64,
    /// Whether less than `store.min_free` is free on the disk, so that custom statuses are refused.
    disk_low: bool,
}

/// The state and counts of all webhooks.
#[derive(Serialize, ToSchema)]
struct WebhookStats {
    /// `off`, `up`, `failing`, `down` or `elsewhere`: of the webhook that is worst off.
    state: ReceiverState,
    /// Events accepted.
    accepted: u64,
    /// Events given up since the start.
    dead: u64,
    /// Dead letters that were neither retried nor dropped.
    dead_waiting: u64,
}

/// The pending events of all webhooks.
#[derive(Serialize, ToSchema)]
struct OutboxStats {
    /// Pending events.
    depth: u64,
    /// Bytes that the log keeps for webhooks, from the oldest pending event on.
    bytes: u64,
    /// The age of the oldest pending event.
    age_ms: u64,
}

impl HubCounts {
    /// The counts at this moment.
    pub(crate) async fn now(app: &AppState, totals: &Totals) -> Result<Self, Problem> {
        let undelivered = Undelivered::all(app).await?;
        let webhooks = app.webhooks.all();
        let counts = app.hub.metrics().counts();
        let slow = counts.closes.get(Close::SlowConsumer.reason());
        let state = if app.hub.check().await.is_ok() { "up" } else { "failing" };
        Ok(Self {
            at: app.hub.clock().wall(),
            uptime_ms: app.uptime_ms(),
            memory_bytes: memory_bytes(),
            connections: counts.connections,
            sessions: sessions(totals),
            sessions_by_state: [
                (UserState::Online.name(), totals.online.iter().sum()),
                (UserState::PushOnline.name(), totals.push_online.iter().sum()),
            ]
            .into(),
            users: [UserState::Online, UserState::PushOnline, UserState::Offline]
                .into_iter()
                .map(|state| (state.name(), totals.users[state as usize]))
                .collect(),
            users_away: totals.away,
            subscriptions: counts.subscriptions,
            logins: sum(&counts.logins),
            logins_by_kind: counts.logins,
            refusals: sum(&counts.refusals),
            refusals_by_reason: counts.refusals,
            kicks: sum(&counts.kicks),
            kicks_by_reason: counts.kicks,
            closes: sum(&counts.closes),
            slow_consumers: slow.copied().unwrap_or_default(),
            closes_by_reason: counts.closes,
            transitions: sum(&counts.transitions),
            transitions_by_cause: counts.transitions,
            deliveries: counts.deliveries,
            conflated: counts.conflated,
            stalls: counts.stalls,
            accept_errors: counts.accept_errors,
            store: StoreStats {
                state,
                commits: counts.store.commits,
                commit_us: counts.store.commit_us,
                slow_commits: counts.store.slow_commits,
                failures: counts.store.failures,
                damaged_rows: app.hub.damaged_rows(),
                disk_low: app.hub.is_disk_low(),
            },
            webhook: WebhookStats {
                state: app.webhooks.worst_state(),
                accepted: webhooks.iter().map(|webhook| webhook.metrics().events.get()).sum(),
                dead: webhooks.iter().map(|webhook| webhook.metrics().dead.get()).sum(),
                dead_waiting: undelivered.dead_waiting,
            },
            outbox: OutboxStats {
                depth: undelivered.backlog.entries,
                bytes: undelivered.backlog.bytes,
                age_ms: undelivered.age_ms(),
            },
        })
    }
}

fn sessions(totals: &Totals) -> BTreeMap<&'static str, u64> {
    let of = |platform: Platform| {
        let (online, push) = (&totals.online, &totals.push_online);
        (platform.name(), online[platform as usize] + push[platform as usize])
    };
    Platform::ALL.into_iter().map(of).collect()
}

fn sum(counts: &BTreeMap<&'static str, u64>) -> u64 {
    counts.values().sum()
}
