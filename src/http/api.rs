use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Door;
use super::audit::Deed;
use super::keys::{MayAct, MayRead};
use super::openapi::{self, Refusals};
use super::problem::Problem;
use crate::clock::Clock;
use crate::hub::{Hub, Processed};
use crate::presence::{
    Answer, Background, DeviceId, EventKind, Kicker, NodeId, Platform, Record, Refusal, SessionId,
    State as UserState, Status, Target, Terminal, Timestamp, UserId, Victim,
};
use crate::store::Damaged;
use crate::wire::{ErrorCode, TEXT_BYTES_MAX, no_object, read_json, show_given};

/// The most users that one call may name.
const USERS_MAX: usize = 500;
/// The most bytes that a body may have, and how long it may take.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// What errors call a body.
const BODY: &str = "the body";
/// See [`BODY_BYTES_MAX`].
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers with many values: written to a vector, which serde_json does faster than what
/// [`Json`] writes to.
pub(super) fn many(values: &impl Serialize) -> Response {
    let json = serde_json::to_vec(values)
        .unwrap_or_else(|error| unreachable!("plain values make JSON: {error}"));
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A JSON body, whatever its content type says; an empty one is `{}`.
pub(super) struct JsonBody<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) T);

impl<T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<Arc<Door>>
    for JsonBody<T, BYTES_MAX>
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Result<Self, Problem> {
        let body = read_body(request.into_body(), BYTES_MAX).await?;
        let body = str::from_utf8(&body);
        let body = body.map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
        let body = if body.is_empty() { "{}" } else { body };
        // A list of the same values in the same order would pass for the fields of a struct.
        if !body.trim_ascii_start().starts_with('{') {
            return Err(Problem::bad_request(no_object(body, BODY)));
        }
        read_json(body, BODY).map(Self).map_err(Problem::bad_request)
    }
}

/// Reads a body, up to a size and for a time.
pub(super) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let read = to_bytes(body, bytes_max);
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    read.map_err(|_| Problem::timeout())?.map_err(|_| Problem::too_large())
}

/// The user that a path names.
pub(super) struct Named(pub(super) UserId);

impl FromRequestParts<Arc<Door>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, door).await;
        let Path(user) = path.map_err(|_| Problem::invalid_user("something that is not UTF-8"))?;
        user.parse().map(Self).map_err(|_| Problem::invalid_user(&show_given(&user.into())))
    }
}

/// Whose statuses are wanted.
#[derive(Deserialize, ToSchema)]
pub(super) struct StatusRequest {
    /// 1 to 500 ids.
    #[schema(min_items = 1, max_items = 500)]
    users: Vec<String>,
    /// Whether with their terminals.
    #[serde(default)]
    detail: bool,
}

/// Statuses, in the order asked.
#[derive(Serialize, ToSchema)]
pub(super) struct Statuses<'a> {
    statuses: Vec<Detail<'a>>,
    errors: Vec<UserError>,
}

/// Why one of many users was left out.
#[derive(Serialize, ToSchema)]
struct UserError {
    user: String,
    #[schema(value_type = String)]
    code: ErrorCode,
}

/// A user's status, with its terminals where that was asked.
#[derive(Serialize, ToSchema)]
pub(super) struct Detail<'a> {
    #[serde(flatten)]
    status: OwnedStatus<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminals: Option<Vec<TerminalDetail<'a>>>,
}

#[derive(Serialize, ToSchema)]
struct OwnedStatus<'a> {
    #[schema(value_type = String)]
    user: &'a UserId,
    #[serde(flatten)]
    #[schema(value_type = openapi::Status)]
    status: Status,
}

/// What the hub remembers of one session.
#[derive(Serialize, ToSchema)]
pub(super) struct TerminalDetail<'a> {
    #[schema(value_type = openapi::Platform)]
    platform: Platform,
    #[schema(value_type = String)]
    device: &'a DeviceId,
    #[schema(value_type = openapi::State)]
    state: UserState,
    /// When its state became what it is.
    #[schema(value_type = u64)]
    since: Timestamp,
    #[schema(value_type = String)]
    session: SessionId,
    #[schema(value_type = u64)]
    last_heard: Timestamp,
    #[schema(value_type = Option<openapi::Background>)]
    background: Option<Background>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    app: Option<&'a str>,
    /// The hub that holds it.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    node: NodeId,
}

/// `POST /v1/status`: how many users are now.
#[utoipa::path(
    post,
    path = "/v1/status",
    operation_id = "getStatuses",
    tag = "users",
    request_body = StatusRequest,
    responses(
        (status = 200, description = "The statuses, in the order asked.", body = Statuses<'static>),
        Refusals,
    ),
)]
pub(super) async fn statuses(
    State(door): State<Arc<Door>>,
    _: MayRead,
    JsonBody(request): JsonBody<StatusRequest>,
) -> Result<Response, Problem> {
    if !(1..=USERS_MAX).contains(&request.users.len()) {
        let given = request.users.len();
        let message = format!("`users`: expected 1 to {USERS_MAX} ids, got {given}");
        return Err(Problem::bad_request(message));
    }
    let (mut users, mut errors) = (Vec::new(), Vec::new());
    for user in request.users {
        match user.parse::<UserId>() {
            Ok(user) => users.push(user),
            Err(_) => errors.push(UserError { user, code: ErrorCode::InvalidUser }),
        }
    }
    let records = door.hub.records(&users).await?;
    let mut statuses = Vec::with_capacity(users.len());
    for (user, record) in users.iter().zip(&records) {
        match record {
            Ok(record) if request.detail => statuses.push(Detail::whole(&door.hub, user, record)),
            Ok(record) => statuses.push(Detail::brief(user, record)),
            Err(Damaged) => {
                errors.push(UserError { user: user.to_string(), code: ErrorCode::Damaged });
            }
        }
    }
    Ok(many(&Statuses { statuses, errors }))
}

/// `GET /v1/users/{user}`: how one user is now, with every device.
#[utoipa::path(
    get,
    path = "/v1/users/{user}",
    operation_id = "getUser",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    responses(
        (status = 200, description = "The status.", body = Detail<'static>),
        Refusals,
    ),
)]
pub(super) async fn user(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Named(user): Named,
) -> Result<Response, Problem> {
    let record = door.hub.record(&user).await?;
    Ok(Json(Detail::whole(&door.hub, &user, &record)).into_response())
}

/// The bodies that a kick takes, for its errors.
const KICK_BODIES: &str = "a kick names what it ends: {\"platform\":\"web\"}, {\"device\":\"d1\"} or \
                           {\"session\":\"...\"} (several of them narrow it down), or \
                           {\"all\":true}, which ends everything and revokes the user's tokens; \
                           \"message\" may be added";

/// Whom to kick: one or more of `platform`, `device` and `session`, or `all`.
///
/// Unknown fields are refused: a mistyped one would change what is kicked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KickRequest {
    /// True ends every session and revokes the tokens from before (L9). Only without the three others.
    all: Option<bool>,
    #[schema(value_type = Option<openapi::Platform>)]
    platform: Option<Platform>,
    #[schema(value_type = Option<String>)]
    device: Option<DeviceId>,
    #[schema(value_type = Option<String>)]
    session: Option<SessionId>,
    /// The client is told, with the notice.
    #[schema(value_type = Option<String>)]
    message: Option<Arc<str>>,
}

impl KickRequest {
    /// What is to be ended, and what its clients are told. What names no session, device or platform
    /// must say that it means all: one null in a back end must not ban a user.
    fn target(self) -> Result<(Target, Option<Arc<str>>), Problem> {
        let Self { all, platform, device, session, message } = self;
        let target = Target { platform, device, session };
        let fault = match (all.unwrap_or_default(), target == Target::default()) {
            (true, true) | (false, false) => {
                return bounded("message", message.as_deref()).map(|()| (target, message));
            }
            (true, false) => "`all` stands beside `platform`, `device` or `session`",
            (false, true) => "the body names nothing to end",
        };
        Err(Problem::bad_request(fault).explained(KICK_BODIES))
    }
}

/// Who was kicked.
#[derive(Serialize, ToSchema)]
pub(super) struct Kicked {
    #[schema(value_type = Vec<openapi::Victim>)]
    kicked: Vec<Victim>,
    /// Whether tokens from before are refused from now on.
    revoked: bool,
}

/// `POST /v1/users/{user}/kick`: ends terminals; `all` also revokes tokens (L9).
#[utoipa::path(
    post,
    path = "/v1/users/{user}/kick",
    operation_id = "kickUser",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    request_body = KickRequest,
    responses(
        (status = 200, description = "Who was kicked.", body = Kicked),
        Refusals,
    ),
)]
pub(super) async fn kick(
    State(door): State<Arc<Door>>,
    MayAct(caller): MayAct,
    Named(user): Named,
    request: Result<JsonBody<KickRequest>, Problem>,
) -> Result<Json<Kicked>, Problem> {
    let JsonBody(request) = request.map_err(|problem| problem.explained(KICK_BODIES))?;
    let (target, message) = request.target()?;
    let named = named(&target);
    let ended = end_terminals(&door.hub, &user, target, message.clone()).await;
    let what = ended.as_ref().map(|(kicked, revoked)| {
        let revoked = if *revoked { ", tokens revoked" } else { "" };
        format!("{named}: {} ended{revoked}", kicked.len())
    });
    let deed = Deed { action: "kick", whom: Some(&user), why: message.as_deref() };
    caller.did(&deed, what.as_deref().map_err(|problem| *problem));
    let (kicked, revoked) = ended?;
    Ok(Json(Kicked { kicked, revoked }))
}

/// A target, as the audit log has it.
fn named(target: &Target) -> String {
    let Target { platform, device, session } = target;
    let parts = [
        platform.map(|platform| format!("platform {platform}")),
        device.as_ref().map(|device| format!("device {device}")),
        session.map(|session| format!("session {session}")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everything".into() } else { parts.join(", ") }
}

/// Kicks on the back end's behalf; returns whom, and whether tokens were revoked.
pub(super) async fn end_terminals(
    hub: &Arc<Hub>,
    user: &UserId,
    target: Target,
    message: Option<Arc<str>>,
) -> Result<(Vec<Victim>, bool), Problem> {
    let event = EventKind::Kick { target, by: Kicker::Admin { message } };
    let applied = apply(hub, user, event).await?;
    let Answer::Kicked { kicked, revoked } = applied.answer else {
        unreachable!("a kick is answered with whom it kicked")
    };
    Ok((kicked, revoked))
}

/// The text to set; null clears it.
#[derive(Deserialize, ToSchema)]
pub(super) struct CustomRequest {
    // Named so that `null` clears it and its absence is an error.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<String>, required = true)]
    custom: Option<Arc<str>>,
}

/// `PUT /v1/users/{user}/custom`: sets or clears a user's custom status.
#[utoipa::path(
    put,
    path = "/v1/users/{user}/custom",
    operation_id = "setCustomStatus",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    request_body = CustomRequest,
    responses(
        (status = 200, description = "The status.", body = Detail<'static>),
        (status = 409, description = "The user is not logged in.", body = openapi::ProblemBody),
        Refusals,
    ),
)]
pub(super) async fn set_custom(
    State(door): State<Arc<Door>>,
    MayAct(caller): MayAct,
    Named(user): Named,
    JsonBody(CustomRequest { custom }): JsonBody<CustomRequest>,
) -> Result<Response, Problem> {
    bounded("custom", custom.as_deref())?;
    let set = EventKind::Set { origin: None, custom: custom.clone() };
    let is_there = |applied: &Processed| applied.answer != Answer::Refused(Refusal::NotLoggedIn);
    let applied = apply(&door.hub, &user, set).await;
    let applied =
        applied.and_then(|a| is_there(&a).then_some(a).ok_or_else(Problem::not_logged_in));
    let what = custom.as_deref().unwrap_or("cleared");
    let deed = Deed { action: "set custom", whom: Some(&user), why: None };
    caller.did(&deed, applied.as_ref().map(|_| what));
    Ok(Json(Detail::brief(&user, &applied?.record)).into_response())
}

/// What is not there, told only to whoever may read.
pub(super) async fn unknown(_: MayRead) -> Problem {
    Problem::not_found()
}

/// Applies an event to its end, even where the caller goes away.
async fn apply(hub: &Arc<Hub>, user: &UserId, event: EventKind) -> Result<Processed, Problem> {
    let (hub, user) = (Arc::clone(hub), user.clone());
    let applied = tokio::spawn(async move { hub.apply(&user, event).await });
    let applied = applied.await.map_err(|_| Problem::unavailable("the hub stops"))?;
    Ok(applied?)
}

impl<'a> Detail<'a> {
    pub(super) fn brief(user: &'a UserId, record: &Record) -> Self {
        Self { status: OwnedStatus { user, status: record.status() }, terminals: None }
    }

    fn whole(hub: &Hub, user: &'a UserId, record: &'a Record) -> Self {
        let terminals = record.terminals.iter().map(|terminal| TerminalDetail::of(hub, terminal));
        Self { terminals: Some(terminals.collect()), ..Self::brief(user, record) }
    }
}

impl<'a> TerminalDetail<'a> {
    pub(super) fn of(hub: &Hub, terminal: &'a Terminal) -> Self {
        Self {
            platform: terminal.platform,
            device: &terminal.device,
            state: terminal.state(),
            since: terminal.since,
            session: terminal.session,
            last_heard: hub.heard(terminal.connection).unwrap_or(terminal.heard),
            background: terminal.background.map(|background| shown(hub.clock(), background)),
            address: terminal.address,
            app: terminal.app.as_deref(),
            node: terminal.connection.node,
        }
    }
}

fn shown(clock: &Clock, background: Background) -> Background {
    let Background { reason, since, deadline } = background;
    let deadline = deadline.map(|at| clock.shown(at));
    Background { reason, since: clock.shown(since), deadline }
}

fn bounded(field: &str, text: Option<&str>) -> Result<(), Problem> {
    match text.map(str::len).filter(|bytes| *bytes > TEXT_BYTES_MAX) {
        Some(bytes) => {
            let expected = format!("expected a text of at most {TEXT_BYTES_MAX} bytes");
            Err(Problem::bad_request(format!("`{field}`: {expected}, got {bytes} bytes")))
        }
        None => Ok(()),
    }
}

fn as_text<S: serde::Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(node)
}
