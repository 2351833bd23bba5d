//! What is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::keys::MayRead;
use super::openapi::Refusals;
use super::problem::Problem;
use super::{Door, webhooks};
use crate::presence::{Platform, State as UserState, Timestamp};

/// `GET /v1/stats`: counts.
#[utoipa::path(
    get,
    path = "/v1/stats",
    responses(
        (status = 200, description = "The counts.", body = Stats),
        Refusals,
    ),
)]
pub(super) async fn stats(
    State(door): State<Arc<Door>>,
    _: MayRead,
) -> Result<Json<Stats>, Problem> {
    let totals = door.hub.totals().await?;
    let metrics = door.hub.metrics();
    let sessions = Platform::ALL
        .into_iter()
        .map(|platform| {
            let count = totals.online[platform as usize] + totals.push_online[platform as usize];
            (platform.name(), count)
        })
        .collect();
    let users = [UserState::Online, UserState::PushOnline, UserState::Offline]
        .into_iter()
        .map(|state| (state.name(), totals.users[state as usize]))
        .collect();
    let counts = metrics.counts();
    let (backlog, age) = webhooks::backlog(&door).await?;
    Ok(Json(Stats {
        connections: counts.connections,
        sessions,
        users,
        subscriptions: counts.subscriptions,
        logins: counts.logins,
        refusals: counts.refusals,
        kicks: counts.kicks,
        deliveries: counts.deliveries,
        conflated: counts.conflated,
        outbox: OutboxStats {
            depth: backlog.entries,
            bytes: backlog.bytes,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        },
        nodes: vec![NodeStats {
            id: door.hub.node().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            started: door.started,
            connections: counts.connections,
            subscriptions: counts.subscriptions,
        }],
    }))
}

/// Counts, since the start where they only grow.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    /// Open WebSockets.
    connections: i64,
    /// Sessions, by platform.
    sessions: BTreeMap<&'static str, u64>,
    /// Users remembered, by state.
    users: BTreeMap<&'static str, u64>,
    /// Users watched, summed over sessions.
    subscriptions: i64,
    logins: u64,
    /// Logins and upgrades refused.
    refusals: u64,
    /// Kick notices sent.
    kicks: u64,
    /// Statuses sent to watchers.
    deliveries: u64,
    /// Of those, how many took the place of an older one that had not been sent.
    conflated: u64,
    outbox: OutboxStats,
    nodes: Vec<NodeStats>,
}

/// What the webhook has not dealt with.
#[derive(Serialize, ToSchema)]
struct OutboxStats {
    depth: u64,
    bytes: u64,
    /// Of the oldest.
    age_ms: u64,
}

/// One hub.
#[derive(Serialize, ToSchema)]
struct NodeStats {
    id: String,
    version: &'static str,
    #[schema(value_type = u64)]
    started: Timestamp,
    connections: i64,
    subscriptions: i64,
}
