//! `GET /v1/nodes`: the running hub processes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::access::MayRead;
use crate::http::openapi::Refusals;
use crate::http::probes::process::Process;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::presence::Timestamp;
use crate::store::Totals;

/// `GET /v1/nodes`: the running hub processes.
#[utoipa::path(
    get,
    path = "/v1/nodes",
    operation_id = "listNodes",
    tag = "operation",
    responses(
        (status = 200, description = "The nodes.", body = Nodes),
        Refusals,
    ),
)]
pub(crate) async fn nodes(
    State(app): State<Arc<AppState>>,
    _: MayRead,
) -> Result<Json<Nodes>, Problem> {
    let totals = app.hub.totals().await?;
    Ok(Json(Nodes { nodes: vec![Node::this(&app, &totals).await] }))
}

/// The nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
}

/// One running hub process.
#[derive(Serialize, ToSchema)]
pub(crate) struct Node {
    id: String,
    version: &'static str,
    started: Timestamp,
    uptime_ms: u64,
    /// `up`, `full` (no memory for more logins) or `draining`.
    state: &'static str,
    /// Terminals that are Online at this node.
    sessions: u64,
    /// Open WebSockets.
    connections: i64,
    /// Users watched, summed over sessions.
    subscriptions: i64,
    #[serde(flatten)]
    process: Process,
}

impl Node {
    /// This process, the only node.
    pub(crate) async fn this(app: &AppState, totals: &Totals) -> Self {
        let (hub, metrics) = (&app.hub, app.hub.metrics());
        let state = match (hub.is_draining(), hub.is_full()) {
            (true, _) => "draining",
            (false, true) => "full",
            (false, false) => "up",
        };
        Self {
            id: hub.node().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            started: app.started,
            uptime_ms: app.uptime_ms(),
            state,
            sessions: totals.online.iter().sum(),
            connections: metrics.connections.get(),
            subscriptions: metrics.subscriptions.get(),
            process: Process::measure(app).await,
        }
    }
}
