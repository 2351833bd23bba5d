//! `GET /v1/policy/explain`: which devices a login would kick.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::access::MayRead;
use crate::http::extract::QueryParams;
use crate::http::openapi::Refusals;
use crate::http::state::AppState;
use crate::presence::{self, Devices, Explanation, Platform};

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(explain))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// The platform that logs in.
    login: Platform,
    /// The devices that are logged in, in order of login: `web,android:2`.
    #[serde(default)]
    #[param(inline)]
    existing: Devices,
}

/// `GET /v1/policy/explain`: which devices a login would kick.
#[utoipa::path(
    get,
    path = "/v1/policy/explain",
    operation_id = "explainPolicy",
    tag = "policy",
    params(ExplainRequest),
    responses(
        (status = 200, description = "The devices that it would kick.", body = Explanation),
        Refusals,
    ),
)]
pub(crate) async fn explain(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(ExplainRequest { login, existing }): QueryParams<ExplainRequest>,
) -> Json<Explanation> {
    Json(presence::explain(&existing, login, &app.hub.policy().login))
}
