//! The server API: one file, or folder, for each group of calls that `/openapi.json` names.

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
use super::door::Door;
use super::openapi;
use super::problem::Problem;

/// The server API, and its description, which is made of the same list; `cookie` is the name of the
/// dashboard's.
pub(super) fn routes(cookie: &str) -> Router<Arc<Door>> {
    let (api, document) = OpenApiRouter::with_openapi(openapi::frame(cookie))
        .merge(users::routes())
        .merge(sessions::routes())
        .merge(events::routes())
        .merge(policy::routes())
        .merge(webhooks::routes())
        .merge(operation::routes())
        .merge(dashboard::routes())
        .split_for_parts();
    // As it is sent: the document itself takes some ten times as much memory.
    let document = serde_json::to_vec(&document)
        .unwrap_or_else(|error| unreachable!("a description makes JSON: {error}"));
    let document = Bytes::from(document);
    api.route(
        "/openapi.json",
        get(async move || ([(header::CONTENT_TYPE, "application/json")], document)),
    )
    .route("/v1/{*path}", any(unknown))
}

/// What is not there, told only to whoever may read.
async fn unknown(_: MayRead) -> Problem {
    Problem::not_found()
}
