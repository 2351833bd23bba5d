//! What `/openapi.json` says beside what the handlers and their types say of themselves.

use std::collections::BTreeMap;

use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use super::problem::ProblemBody;

/// What is said of all calls.
#[derive(OpenApi)]
#[openapi(
    info(title = "presence-hub", description = "Who is online: the server API for app back ends."),
    components(schemas(ProblemBody)),
    security(("bearer" = []), ("api_key" = []), ("cookie" = [])),
    tags(
        (name = "users", description = "Who is there, and what is done to them."),
        (name = "sessions", description = "The devices that are logged in."),
        (name = "events", description = "What changed, and the state to begin a copy with."),
        (name = "policy", description = "Whom a login kicks."),
        (name = "webhooks", description = "How webhooks go, and what was given up."),
        (name = "operation", description = "Counts, hubs, settings."),
        (name = "dashboard", description = "The dashboard's login."),
    ),
)]
struct Frame;

/// The frame that the routes are put into, with the ways to say who one is: a key in a header, or the
/// dashboard's cookie of this name.
pub(crate) fn frame(cookie: &str) -> utoipa::openapi::OpenApi {
    let mut document = Frame::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(cookie)));
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("api_key", header);
    components.add_security_scheme("cookie", cookie);
    document
}

/// The refusals that every call may answer with.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([
            ("400", "Something about the request is wrong."),
            ("401", "No key that is known."),
            ("403", "The key may not do this."),
            ("404", "There is no such path, as where a user's id was not percent-encoded."),
            ("405", "The path does not take this method; Allow lists those it takes."),
            ("503", "The store cannot be reached now; Retry-After says when to ask again."),
        ])
    }
}

/// The refusals of every call that takes a body.
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
