use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures::future::try_join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Door;
use super::keys::{MayAct, MayRead};
use super::problem::Problem;
use crate::hub::{Applied, Hub};
use crate::presence::{
    Answer, Background, DeviceId, EventKind, Kicker, NodeId, Platform, Record, Refusal,
    SESSIONS_MAX, SessionId, State as UserState, Status, Target, Timestamp, UserId, Victim,
    explain as explain_login,
};
use crate::wire::{ErrorCode, TEXT_BYTES_MAX};

/// The most users that one call may name.
const USERS_MAX: usize = 500;
/// The most bytes that a body may have, and how long it may take.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// See [`BODY_BYTES_MAX`].
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, whatever its content type says; an empty one is `{}`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Door>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Result<Self, Problem> {
        let body = read_body(request.into_body()).await?;
        let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
        // A list of the same values in the same order would pass for the fields of a struct.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad_request("the body is no JSON object"));
        }
        serde_json::from_slice(body).map(Self).map_err(|e| Problem::bad_request(e.to_string()))
    }
}

/// Reads a body, up to a size and for a time.
pub(super) async fn read_body(body: Body) -> Result<Bytes, Problem> {
    let read = to_bytes(body, BODY_BYTES_MAX);
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    read.map_err(|_| Problem::timeout())?.map_err(|_| Problem::too_large())
}

/// The user that a path names.
pub(super) struct Named(UserId);

impl FromRequestParts<Arc<Door>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, door).await;
        let Path(user) = path.map_err(|_| Problem::invalid_user())?;
        user.parse().map(Self).map_err(|_| Problem::invalid_user())
    }
}

#[derive(Deserialize)]
pub(super) struct StatusRequest {
    users: Vec<String>,
    #[serde(default)]
    detail: bool,
}

#[derive(Serialize)]
struct Statuses<'a> {
    statuses: Vec<Detail<'a>>,
    errors: Vec<UserError>,
}

/// Why one of many users was left out.
#[derive(Serialize)]
struct UserError {
    user: String,
    code: ErrorCode,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    status: OwnedStatus<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminals: Option<Vec<TerminalDetail<'a>>>,
}

#[derive(Serialize)]
struct OwnedStatus<'a> {
    user: &'a UserId,
    #[serde(flatten)]
    status: Status,
}

#[derive(Serialize)]
struct TerminalDetail<'a> {
    platform: Platform,
    device: &'a DeviceId,
    state: UserState,
    since: Timestamp,
    session: SessionId,
    last_heard: Timestamp,
    background: Option<Background>,
    address: Option<IpAddr>,
    app: Option<&'a str>,
    #[serde(serialize_with = "as_text")]
    node: NodeId,
}

/// `POST /v1/status`: how many users are now.
pub(super) async fn statuses(
    State(door): State<Arc<Door>>,
    _: MayRead,
    JsonBody(request): JsonBody<StatusRequest>,
) -> Result<Response, Problem> {
    if !(1..=USERS_MAX).contains(&request.users.len()) {
        return Err(Problem::bad_request(format!("`users` must have 1 to {USERS_MAX} ids")));
    }
    let (mut users, mut errors) = (Vec::new(), Vec::new());
    for user in request.users {
        match user.parse::<UserId>() {
            Ok(user) => users.push(user),
            Err(_) => errors.push(UserError { user, code: ErrorCode::InvalidUser }),
        }
    }
    let records = try_join_all(users.iter().map(|user| door.hub.record(user))).await?;
    let statuses = users
        .iter()
        .zip(&records)
        .map(|(user, record)| match request.detail {
            true => Detail::whole(&door.hub, user, record),
            false => Detail::brief(user, record),
        })
        .collect();
    Ok(Json(Statuses { statuses, errors }).into_response())
}

/// `GET /v1/users/{user}`: how one user is now, with every device.
pub(super) async fn user(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Named(user): Named,
) -> Result<Response, Problem> {
    let record = door.hub.record(&user).await?;
    Ok(Json(Detail::whole(&door.hub, &user, &record)).into_response())
}

/// A mistyped field would widen what is kicked, so there is no unknown one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KickRequest {
    platform: Option<Platform>,
    device: Option<DeviceId>,
    session: Option<SessionId>,
    message: Option<Arc<str>>,
}

/// `POST /v1/users/{user}/kick`: ends terminals, and revokes tokens where it names none (L9).
pub(super) async fn kick(
    State(door): State<Arc<Door>>,
    _: MayAct,
    Named(user): Named,
    JsonBody(request): JsonBody<KickRequest>,
) -> Result<Json<Value>, Problem> {
    let KickRequest { platform, device, session, message } = request;
    bounded("message", message.as_deref())?;
    let target = Target { platform, device, session };
    let (kicked, revoked) = end_terminals(&door.hub, &user, target, message).await?;
    Ok(Json(json!({ "kicked": kicked, "revoked": revoked })))
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
    tracing::info!(%user, kicked = kicked.len(), revoked, "kicked by the back end");
    Ok((kicked, revoked))
}

#[derive(Deserialize)]
pub(super) struct CustomRequest {
    // Named so that `null` clears it and its absence is an error.
    #[serde(deserialize_with = "Option::deserialize")]
    custom: Option<Arc<str>>,
}

/// `PUT /v1/users/{user}/custom`: sets or clears a user's custom status.
pub(super) async fn set_custom(
    State(door): State<Arc<Door>>,
    _: MayAct,
    Named(user): Named,
    JsonBody(CustomRequest { custom }): JsonBody<CustomRequest>,
) -> Result<Response, Problem> {
    bounded("custom", custom.as_deref())?;
    let applied = apply(&door.hub, &user, EventKind::Set { origin: None, custom }).await?;
    if applied.answer == Answer::Refused(Refusal::NotLoggedIn) {
        return Err(Problem::not_logged_in());
    }
    Ok(Json(Detail::brief(&user, &applied.record)).into_response())
}

#[derive(Deserialize)]
pub(super) struct ExplainRequest {
    login: Platform,
    #[serde(default)]
    existing: String,
}

/// `GET /v1/policy/explain`: whom a login would kick.
pub(super) async fn explain(
    State(door): State<Arc<Door>>,
    _: MayRead,
    query: Result<Query<ExplainRequest>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(request) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    explanation(&door.hub.policy().login, &request.existing, request.login)
        .map(Json)
        .map_err(Problem::bad_request)
}

/// Explains a login beside devices written as `web,android:2`, as the call and the command answer it.
///
/// # Errors
///
/// What is wrong with what is written.
pub fn explanation(
    policy: &crate::presence::LoginPolicy,
    existing: &str,
    login: Platform,
) -> Result<Value, String> {
    let mut devices: Vec<(Platform, usize)> = Vec::new();
    for entry in existing.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (platform, count) = entry.split_once(':').unwrap_or((entry, "1"));
        let platform = platform.parse().map_err(|error| format!("`{platform}`: {error}"))?;
        let count = count.parse().ok().filter(|count| (1..=SESSIONS_MAX).contains(count));
        devices.push((platform, count.ok_or(format!("`{entry}`: no count of devices"))?));
        if devices.iter().map(|(_, count)| count).sum::<usize>() > SESSIONS_MAX {
            return Err(format!("a user has at most {SESSIONS_MAX} sessions"));
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

/// `GET /v1/stats`: counts.
pub(super) async fn stats(
    State(door): State<Arc<Door>>,
    _: MayRead,
) -> Result<Json<Value>, Problem> {
    let totals = door.hub.totals().await?;
    let metrics = door.hub.metrics();
    let sessions: Map<_, _> = Platform::ALL
        .into_iter()
        .map(|platform| {
            let count = totals.online[platform as usize] + totals.push_online[platform as usize];
            (platform.name().to_owned(), json!(count))
        })
        .collect();
    let users: Map<_, _> = [UserState::Online, UserState::PushOnline, UserState::Offline]
        .into_iter()
        .map(|state| (state.name().to_owned(), json!(totals.users[state as usize])))
        .collect();
    let counts = metrics.counts();
    Ok(Json(json!({
        "connections": counts.connections,
        "sessions": sessions,
        "users": users,
        "subscriptions": counts.subscriptions,
        "logins": counts.logins,
        "refusals": counts.refusals,
        "kicks": counts.kicks,
        "deliveries": counts.deliveries,
        "conflated": counts.conflated,
        "nodes": [{
            "id": door.hub.node().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "started": door.started,
            "connections": counts.connections,
            "subscriptions": counts.subscriptions,
        }],
    })))
}

/// What is not there, told only to whoever may read.
pub(super) async fn unknown(_: MayRead) -> Problem {
    Problem::not_found()
}

/// Applies an event to its end, even where the caller goes away.
async fn apply(hub: &Arc<Hub>, user: &UserId, event: EventKind) -> Result<Applied, Problem> {
    let (hub, user) = (Arc::clone(hub), user.clone());
    let applied = tokio::spawn(async move { hub.apply(&user, event).await });
    let applied = applied.await.map_err(|_| Problem::unavailable("the hub stops"))?;
    Ok(applied?)
}

impl<'a> Detail<'a> {
    fn brief(user: &'a UserId, record: &Record) -> Self {
        Self { status: OwnedStatus { user, status: record.status() }, terminals: None }
    }

    fn whole(hub: &Hub, user: &'a UserId, record: &'a Record) -> Self {
        let terminals = record.terminals.iter().map(|terminal| TerminalDetail {
            platform: terminal.platform,
            device: &terminal.device,
            state: terminal.state(),
            since: terminal.since,
            session: terminal.session,
            last_heard: hub.heard(terminal.connection).unwrap_or(terminal.heard),
            background: terminal.background,
            address: terminal.address,
            app: terminal.app.as_deref(),
            node: terminal.connection.node,
        });
        Self { terminals: Some(terminals.collect()), ..Self::brief(user, record) }
    }
}

fn bounded(field: &str, text: Option<&str>) -> Result<(), Problem> {
    if text.is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
        let message = format!("`{field}` must have at most {TEXT_BYTES_MAX} bytes");
        return Err(Problem::bad_request(message));
    }
    Ok(())
}

fn as_text<S: serde::Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(node)
}
