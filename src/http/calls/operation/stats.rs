//! `GET /v1/stats`: what is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::nodes::Node;
use crate::http::access::MayRead;
use crate::http::door::Door;
use crate::http::openapi::Refusals;
use crate::http::probes::process::memory_bytes;
use crate::http::problem::Problem;
use crate::http::undelivered::Undelivered;
use crate::presence::{Platform, State as UserState, Timestamp};
use crate::store::Totals;
use crate::webhook::Condition;
use crate::wire::Close;

/// `GET /v1/stats`: counts.
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
    State(door): State<Arc<Door>>,
    _: MayRead,
) -> Result<Json<Stats>, Problem> {
    let totals = door.hub.totals().await?;
    let counted = Counted::now(&door, &totals).await?;
    Ok(Json(Stats { counted, nodes: vec![Node::this(&door, &totals).await] }))
}

/// The counts, and the hubs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats {
    #[serde(flatten)]
    counted: Counted,
    nodes: Vec<Node>,
}

/// Counts, since the start where they only grow.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counted {
    /// The hub's wall clock.
    pub(crate) at: Timestamp,
    uptime_ms: u64,
    /// Resident; null where the system does not say.
    memory_bytes: Option<u64>,
    /// Open WebSockets.
    connections: i64,
    /// Sessions, by platform.
    sessions: BTreeMap<&'static str, u64>,
    /// Sessions that are Online, and PushOnline.
    sessions_by_state: BTreeMap<&'static str, u64>,
    /// Users remembered, by state.
    users: BTreeMap<&'static str, u64>,
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
    /// Of those, how many had read nothing for too long.
    slow_consumers: u64,
    /// Entries of the transition log.
    transitions: u64,
    transitions_by_cause: BTreeMap<&'static str, u64>,
    /// Statuses sent to watchers.
    deliveries: u64,
    /// Of those, how many took the place of an older one that had not been sent.
    conflated: u64,
    /// Times that the hub itself stood still.
    stalls: u64,
    /// Connections that could not be accepted.
    accept_errors: u64,
    store: StoreStats,
    webhook: WebhookStats,
    outbox: OutboxStats,
}

/// How the store does.
#[derive(Serialize, ToSchema)]
struct StoreStats {
    /// `up`, or `failing` where it takes nothing now.
    state: &'static str,
    commits: u64,
    /// For how long they took, in all, in microseconds.
    commit_us: u64,
    /// Those of them that took more than 100 ms.
    slow_commits: u64,
    /// Commits that it did not take.
    failures: u64,
    /// Damaged rows that were found since the start and are still there.
    damaged_rows: u64,
}

/// How the webhook does.
#[derive(Serialize, ToSchema)]
struct WebhookStats {
    /// `off`, `up`, `failing` or `down`.
    state: Condition,
    /// Events accepted.
    accepted: u64,
    /// Events given up since the start.
    dead: u64,
    /// Dead letters that wait now, whenever they were given up.
    dead_waiting: u64,
}

/// What the webhook has not delivered and not given up: `backlog` of `/v1/webhooks`.
#[derive(Serialize, ToSchema)]
struct OutboxStats {
    /// Events that are pending.
    depth: u64,
    /// Bytes that the log keeps for the webhook, from the oldest pending event on.
    bytes: u64,
    /// Of the oldest pending event.
    age_ms: u64,
}

impl Counted {
    /// Counts what is there now.
    pub(crate) async fn now(door: &Door, totals: &Totals) -> Result<Self, Problem> {
        let undelivered = Undelivered::now(door).await?;
        let counts = door.hub.metrics().counts();
        let slow = counts.closes.get(Close::SlowConsumer.reason());
        let state = if door.hub.check().await.is_ok() { "up" } else { "failing" };
        Ok(Self {
            at: door.hub.clock().wall(),
            uptime_ms: door.uptime_ms(),
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
                damaged_rows: door.hub.store().damaged(),
            },
            webhook: WebhookStats {
                state: door.webhook.shown().state,
                accepted: door.webhook.metrics().events.get(),
                dead: door.webhook.metrics().dead.get(),
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
