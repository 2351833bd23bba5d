//! `GET /v1/nodes`: the hubs that share the store.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::access::MayRead;
use crate::http::openapi::Refusals;
use crate::http::probes::process::Process;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::presence::Timestamp;
use crate::store::{NodeCard, Totals};

/// `GET /v1/nodes`: the hubs that share the store.
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
    Ok(Json(Nodes { nodes: Node::all(&app, &totals).await? }))
}

/// The nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
}

/// One hub.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Node {
    id: String,
    /// Where the hub listens.
    address: String,
    version: Cow<'static, str>,
    started: Timestamp,
    uptime_ms: u64,
    state: NodeState,
    /// Terminals that are Online at this node.
    sessions: u64,
    /// Open WebSockets.
    connections: i64,
    /// Users watched, summed over sessions.
    subscriptions: i64,
    /// The hub's wall clock minus that of the store's server, in milliseconds; null if the store has none.
    clock_ms: Option<i64>,
    #[serde(flatten)]
    process: Process,
}

/// Whether a hub accepts logins.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum NodeState {
    Up,
    /// Too little memory for more logins.
    Full,
    /// It is stopping.
    Draining,
    /// It is dead, and other hubs take over its sessions.
    Lost,
}

impl Node {
    /// All hubs: this one as it is now, and the others as they last said, at most some seconds ago.
    pub(crate) async fn all(app: &AppState, totals: &Totals) -> Result<Vec<Self>, Problem> {
        let cards = app.hub.cards().await?;
        let own_id = app.hub.node();
        let (own, others): (Vec<_>, Vec<_>) = cards.iter().partition(|card| card.node == own_id);
        let mut this = Self::this(app).await;
        this.clock_ms = own.first().and_then(|card| card.clock_ms);
        if others.is_empty() {
            // With those that are held: they are on no connection.
            this.sessions = totals.online.iter().sum();
        }
        Ok([this].into_iter().chain(others.into_iter().filter_map(Self::of_card)).collect())
    }

    /// This hub.
    async fn this(app: &AppState) -> Self {
        let (hub, metrics) = (&app.hub, app.hub.metrics());
        let state = match (hub.is_draining(), hub.is_full()) {
            (true, _) => NodeState::Draining,
            (false, true) => NodeState::Full,
            (false, false) => NodeState::Up,
        };
        Self {
            id: hub.node().to_string(),
            address: app.listens_at().to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: app.started,
            uptime_ms: app.uptime_ms(),
            state,
            sessions: hub.sessions_here() as u64,
            connections: metrics.connections.get(),
            subscriptions: metrics.subscriptions.get(),
            clock_ms: None,
            process: Process::measure(app).await,
        }
    }

    /// What this hub says of itself to the others.
    pub(super) async fn card(app: &AppState) -> Arc<str> {
        let card = serde_json::to_string(&Self::this(app).await);
        card.unwrap_or_else(|error| unreachable!("a node makes JSON: {error}")).into()
    }

    /// Another hub, as it last said; `None` if it has said nothing yet, or nothing that this version reads.
    fn of_card(card: &NodeCard) -> Option<Self> {
        let said: Self = serde_json::from_str(&card.card).ok()?;
        let state = if card.is_lost { NodeState::Lost } else { said.state };
        Some(Self { state, clock_ms: card.clock_ms, ..said })
    }
}
