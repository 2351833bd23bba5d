//! The parts of `/openapi.json` that do not come from handlers and their types.

use std::collections::BTreeMap;

use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use super::problem::ProblemBody;

/// The parts common to all calls.
#[derive(OpenApi)]
#[openapi(
    info(title = "presence-hub", description = "Who is online: the server API for app back ends."),
    components(schemas(ProblemBody)),
    security(("bearer" = []), ("api_key" = []), ("cookie" = [])),
    tags(
        (name = "users", description = "Statuses of users, kicks and custom status."),
        (name = "sessions", description = "Devices that are logged in, and refused logins."),
        (name = "events", description = "The transition log, and a snapshot to start a copy from."),
        (name = "policy", description = "Which devices a login kicks."),
        (name = "webhooks", description = "Webhook delivery, and dead letters."),
        (name = "operation", description = "Counts, nodes, settings, audit log."),
        (name = "dashboard", description = "The dashboard's login."),
    ),
)]
struct DocumentFrame;

/// The document without its routes, with the security schemes: a key in a header, or the dashboard's
/// cookie, which has this name.
pub(crate) fn frame(cookie: &str) -> utoipa::openapi::OpenApi {
    let mut document = DocumentFrame::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(cookie)));
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("api_key", header);
    components.add_security_scheme("cookie", cookie);
    document
}

/// Errors that every call may return.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([
            ("400", "The request is invalid."),
            ("401", "The API key is missing or unknown."),
            ("403", "The key may not do this."),
            ("404", "Path not found, for example because a user's id was not percent-encoded."),
            ("405", "Method not allowed; the Allow header lists the allowed ones."),
            ("429", "Too many requests with this key; Retry-After says when to retry."),
            ("503", "The store is unavailable; Retry-After says when to retry."),
        ])
    }
}

/// Errors of calls that take a body.
pub(crate) struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([("408", "The body took too long to arrive."), ("413", "The body is too large.")])
    }
}

fn refusals<const N: usize>(
    refusals: [(&'static str, &'static str); N],
) -> BTreeMap<String, RefOr<Response>> {
    let refusals = refusals.map(|(status, description)| {
        let body = utoipa::openapi::ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ProblemBody")));
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", body.build());
        (status.to_owned(), response.build().into())
    });
    refusals.into()
}
