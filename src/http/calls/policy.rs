//! Whom a login would kick, as the call and the command answer it.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::access::MayRead;
use crate::http::door::Door;
use crate::http::extract::Asked;
use crate::http::openapi::{self, Refusals};
use crate::http::problem::Problem;
use crate::presence::{LoginPolicy, Platform, SESSIONS_MAX, explain as explain_login};
use crate::wire::show_given;

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(explain))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// What comes.
    #[param(value_type = openapi::Platform)]
    login: Platform,
    /// What is logged in, in this order: `web,android:2`.
    #[serde(default)]
    existing: String,
}

/// `GET /v1/policy/explain`: whom a login would kick.
#[utoipa::path(
    get,
    path = "/v1/policy/explain",
    operation_id = "explainPolicy",
    tag = "policy",
    params(ExplainRequest),
    responses(
        (status = 200, description = "Whom it would kick.", body = openapi::Explanation),
        Refusals,
    ),
)]
pub(crate) async fn explain(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(request): Asked<ExplainRequest>,
) -> Result<Json<Value>, Problem> {
    explanation(&door.hub.policy().login, &request.existing, request.login)
        .map(Json)
        .map_err(Problem::bad_request)
}

/// Explains a login beside devices written as `web,android:2`, as the call and the command answer it.
///
/// # Errors
///
/// What is wrong with what is written.
pub fn explanation(policy: &LoginPolicy, existing: &str, login: Platform) -> Result<Value, String> {
    let mut devices: Vec<(Platform, usize)> = Vec::new();
    for entry in existing.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (platform, count) = entry.split_once(':').unwrap_or((entry, "1"));
        let platform = platform.parse().map_err(|error| {
            format!("`existing`: {error}; got {}", show_given(&platform.into()))
        })?;
        let count = count.parse().ok().filter(|count| (1..=SESSIONS_MAX).contains(count));
        let wrong = || {
            let expected = "expected platforms with counts such as \"web,android:2\"";
            format!("`existing`: {expected}, got {}", show_given(&entry.into()))
        };
        devices.push((platform, count.ok_or_else(wrong)?));
        let all: usize = devices.iter().map(|(_, count)| count).sum();
        if all > SESSIONS_MAX {
            return Err(format!(
                "`existing`: expected at most {SESSIONS_MAX} devices, got {all} or more"
            ));
        }
    }
    let explained = explain_login(&devices, login, policy);
    let list = |kicked: &[(Platform, usize)]| -> Value {
        kicked
            .iter()
            .map(|(platform, count)| json!({ "platform": platform, "count": count }))
            .collect()
    };
    let presets: Map<_, _> = explained
        .presets
        .iter()
        .map(|(preset, kicked)| (preset.name().to_owned(), list(kicked)))
        .collect();
    Ok(json!({
        "policy": policy.name(),
        "kicked": list(&explained.kicked),
        "rejected": explained.rejected,
        "presets": presets,
    }))
}
