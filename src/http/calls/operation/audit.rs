//! `GET /v1/audit`: the latest entries of the audit log.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::access::MaySeeAll;
use crate::http::access::audit::Entry;
use crate::http::calls::answer::many;
use crate::http::extract::{Limit, QueryParams};
use crate::http::openapi::Refusals;
use crate::http::state::AppState;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditRequest {
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// The latest entries of the audit log, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<Entry>,
}

/// `GET /v1/audit`: the latest entries of the audit log, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "listAuditEntries",
    tag = "operation",
    params(AuditRequest),
    responses(
        (status = 200, description = "The latest entries.", body = AuditPage),
        Refusals,
    ),
)]
pub(crate) async fn audit(
    State(app): State<Arc<AppState>>,
    _: MaySeeAll,
    QueryParams(AuditRequest { limit }): QueryParams<AuditRequest>,
) -> Response {
    many(&AuditPage { entries: app.audit_log.latest(limit.get()) })
}
