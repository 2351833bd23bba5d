//! `GET /v1/config`: the settings in effect, and their defaults.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use crate::http::access::MaySeeAll;
use crate::http::openapi::Refusals;
use crate::http::state::AppState;

/// `GET /v1/config`: the configuration in effect, secrets hidden.
#[utoipa::path(
    get,
    path = "/v1/config",
    operation_id = "getConfig",
    tag = "operation",
    responses(
        (status = 200, description = "Every setting, as `check-config` prints it.", body = Object),
        Refusals,
    ),
)]
pub(crate) async fn config(State(app): State<Arc<AppState>>, _: MaySeeAll) -> Json<Arc<Value>> {
    Json(Arc::clone(&app.settings().config))
}

/// `GET /v1/config/defaults`: the default of every setting.
#[utoipa::path(
    get,
    path = "/v1/config/defaults",
    operation_id = "getConfigDefaults",
    tag = "operation",
    responses(
        (status = 200, description = "Every setting, in the sections of `/v1/config`.", body = Object),
        Refusals,
    ),
)]
pub(crate) async fn defaults(State(app): State<Arc<AppState>>, _: MaySeeAll) -> Json<Arc<Value>> {
    Json(Arc::clone(&app.settings().defaults))
}
