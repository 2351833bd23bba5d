//! The server API under `/v1`: one file or folder for each tag of `/openapi.json`.

mod answer;
mod dashboard;
mod events;
pub(super) mod operation;
mod policy;
mod sessions;
pub(super) mod users;
mod views;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::{any, get};
use utoipa_axum::router::OpenApiRouter;

use super::access::MayRead;
use super::openapi;
use super::problem::Problem;
use super::state::AppState;

/// The routes of the server API, and its OpenAPI document, generated from the same list. `cookie` is
/// the name of the dashboard's cookie.
pub(super) fn routes(cookie: &str) -> Router<Arc<AppState>> {
    let (api, document) = OpenApiRouter::with_openapi(openapi::frame(cookie))
        .merge(users::routes())
        .merge(sessions::routes())
        .merge(events::routes())
        .merge(policy::routes())
        .merge(webhooks::routes())
        .merge(operation::routes())
        .merge(dashboard::routes())
        .split_for_parts();
    // Kept as text: the document itself takes about ten times as much memory.
    let document = serde_json::to_vec(&document)
        .unwrap_or_else(|error| unreachable!("a description makes JSON: {error}"));
    let document = Bytes::from(document);
    api.route(
        "/openapi.json",
        get(async move || ([(header::CONTENT_TYPE, "application/json")], document)),
    )
    .route("/v1/{*path}", any(unknown))
}

/// 404, but only for authenticated callers.
async fn unknown(_: MayRead) -> Problem {
    Problem::not_found()
}
