//! `/health`, `/ready` and `/metrics`, for probes and scrapers.

mod exposition;
pub(super) mod process;
mod redis;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use self::exposition::MetricsFormat;
use self::process::Process;
use crate::http::access::MayRead;
use crate::http::net::forwarded::is_forwarded;
use crate::http::net::peer::Peer;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::http::undelivered::Undelivered;
use crate::traces;

/// `/health` and `/ready`.
pub(crate) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .route("/ready", get(ready))
}

/// `/metrics` on a shared address: needs a key, except from loopback.
pub(crate) fn metrics_route() -> Router<Arc<AppState>> {
    Router::new().route("/metrics", get(metrics))
}

/// `/metrics` on its own address, without authentication.
pub(crate) fn open_metrics_route() -> Router<Arc<AppState>> {
    Router::new().route("/metrics", get(render))
}

async fn ready(State(app): State<Arc<AppState>>) -> Result<Response, Problem> {
    if app.hub.is_draining() {
        return Err(Problem::unavailable("the hub is draining"));
    }
    app.hub.check().await?;
    Ok(Json(json!({ "status": "ready" })).into_response())
}

async fn metrics(
    state: State<Arc<AppState>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    key: Result<MayRead, Problem>,
) -> Result<Response, Problem> {
    let is_by_proxy = is_forwarded(&headers) || headers.contains_key(header::VIA);
    if is_by_proxy || !peer.address.ip().to_canonical().is_loopback() {
        key?;
    }
    render(state, headers).await
}

async fn render(State(app): State<Arc<AppState>>, headers: HeaderMap) -> Result<Response, Problem> {
    let totals = app.hub.last_totals().await;
    for webhook in app.webhooks.all() {
        // While the store is unavailable, operators need the other metrics most.
        if let Ok(left) = Undelivered::of(&app, &webhook).await {
            webhook.metrics().set_left(&left.backlog, left.age, left.dead_waiting);
        }
    }
    let damaged = i64::try_from(app.hub.damaged_rows()).unwrap_or(i64::MAX);
    app.hub.metrics().damaged_rows.set(damaged);
    let hub = app.hub.metrics().render(&totals);
    let webhook = app.webhooks.metrics().render();
    let traces = traces::render();
    let process = Process::measure(&app).await.render(&app);
    let redis = app.hub.server_counts().as_ref().map(redis::render).unwrap_or_default();
    let format = MetricsFormat::wanted(&headers);
    let headers =
        [(header::CONTENT_TYPE, format.content_type()), (header::VARY, header::ACCEPT.as_str())];
    Ok((headers, format.write(&format!("{hub}{webhook}{traces}{process}{redis}"))).into_response())
}
