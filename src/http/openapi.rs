//! What `/openapi.json` says beside what the handlers and their types say of themselves.
//!
//! The types here are never made: they describe what other modules write, which know nothing of
//! this description. A test holds real answers against it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi, ToSchema};

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
pub(super) fn frame(cookie: &str) -> utoipa::openapi::OpenApi {
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
pub(super) struct Refusals;

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
pub(super) struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([("408", "The body took too long to arrive."), ("413", "The body is too large.")])
    }
}

/// The refusal of every call that reads one user's record.
pub(super) struct DamageRefusal;

impl IntoResponses for DamageRefusal {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([("500", "The user's record is damaged (`damaged`): the status is unknown.")])
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

/// A refusal.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody {
    error: ProblemError,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
struct ProblemError {
    /// For programs.
    code: String,
    /// For people.
    message: String,
}

/// What a session runs on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes another type")]
pub(super) enum Platform {
    Android,
    Ios,
    Ipad,
    Windows,
    Mac,
    Linux,
    Web,
    Miniprogram,
}

/// Whether somebody is there.
#[derive(Serialize, ToSchema)]
#[expect(dead_code, reason = "it describes another type")]
pub(super) enum State {
    Online,
    PushOnline,
    Offline,
}

/// What others see of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    state: State,
    /// The platforms now Online, sorted.
    platforms: Vec<Platform>,
    /// The text the user set.
    custom: Option<String>,
    /// When the state last changed, in milliseconds since the Unix epoch.
    since: Option<u64>,
    /// When anything was last heard before the user left Online; null while Online.
    last_seen: Option<u64>,
    /// Greater with every change; 0 where nothing is remembered.
    version: u64,
}

/// That an app is in the background.
#[derive(Serialize, ToSchema)]
pub(super) struct Background {
    /// `hide` or `exit`.
    reason: String,
    since: u64,
    /// When it counts as gone, for a mini-program.
    deadline: Option<u64>,
}

/// A session that was kicked.
#[derive(Serialize, ToSchema)]
pub(super) struct Victim {
    platform: Platform,
    device: String,
    session: String,
}

/// A page of the transition log.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// Where the next page goes on.
    next: Option<String>,
    /// Events that were left out because they are damaged; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<Vec<DamagedEvent>>,
}

/// An event of the log that can no longer be read.
#[derive(Serialize, ToSchema)]
struct DamagedEvent {
    user: String,
    cursor: String,
    /// True.
    damaged: bool,
}

/// A change of a user's state, or of one of its devices'.
#[derive(Serialize, ToSchema)]
struct Event {
    /// The same however often it is delivered.
    id: String,
    user: String,
    at: u64,
    /// `login`, `resume`, `logout`, `close`, `silence`, `background`, `exit`, `expired`, `kicked`,
    /// `token_expired`, `node_lost`, `custom` or `recovered`.
    cause: String,
    version: u64,
    /// The user's state before and after.
    state: Change,
    /// The device concerned; null for a change by the server API.
    terminal: Option<Terminal>,
    /// The whole status after it.
    status: UserStatus,
    /// Who kicked.
    by: Option<Kicker>,
    /// Whom a login kicked.
    kicked: Option<Vec<Victim>>,
    evidence: Evidence,
}

#[derive(Serialize, ToSchema)]
struct Change {
    from: State,
    to: State,
}

#[derive(Serialize, ToSchema)]
struct UserStatus {
    user: String,
    #[serde(flatten)]
    status: Status,
}

#[derive(Serialize, ToSchema)]
struct Terminal {
    platform: Platform,
    device: String,
    session: String,
    /// Its state before; null where it was not there.
    from: Option<State>,
    /// Its state after; null where it is gone.
    to: Option<State>,
}

#[derive(Serialize, ToSchema)]
struct Kicker {
    /// `login`, `own` or `admin`.
    kind: String,
    platform: Option<Platform>,
    device: Option<String>,
    session: Option<String>,
    message: Option<String>,
}

/// How it is known.
#[derive(Serialize, ToSchema)]
struct Evidence {
    last_heard: Option<u64>,
    address: Option<String>,
    close_code: Option<u16>,
    deadline: Option<u64>,
    background: Option<String>,
}

/// Whom a login would kick.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// The policy in force.
    policy: String,
    kicked: Vec<KickedCount>,
    /// Whether the login would be refused instead.
    rejected: bool,
    /// Whom it would kick under each preset.
    presets: BTreeMap<String, Vec<KickedCount>>,
}

#[derive(Serialize, ToSchema)]
struct KickedCount {
    platform: Platform,
    count: u64,
}
