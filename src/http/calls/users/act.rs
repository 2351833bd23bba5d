//! The calls that change users: kick, and set the custom status.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::access::MayAct;
use crate::http::access::audit::AuditAction;
use crate::http::calls::views::Detail;
use crate::http::extract::{JsonBody, UserPath};
use crate::http::openapi::{BodyRefusals, Refusals};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::hub::{Applied, Hub, Unavailable};
use crate::presence::{
    Answer, DeviceId, EventKind, Kicker, Platform, Refusal, SessionId, Target, UserId, Victim,
};
use crate::traces::{Span, names};
use crate::wire::{KickReason, TEXT_BYTES_MAX};

/// The valid bodies of a kick, for its errors.
const KICK_BODIES: &str = "a kick must name what it ends: {\"platform\":\"web\"}, {\"device\":\"d1\"} or \
                           {\"session\":\"...\"} (several of them narrow it down), or \
                           {\"all\":true}, which ends everything and revokes the user's tokens; \
                           \"message\" may be added";

/// What to kick: one or more of `platform`, `device` and `session`, or `all`.
///
/// Unknown fields are refused: a mistyped one would change what is kicked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KickRequest {
    /// True ends every session and revokes earlier tokens (L9). Not together with the other three.
    all: Option<bool>,
    platform: Option<Platform>,
    device: Option<DeviceId>,
    session: Option<SessionId>,
    /// Sent to the client with the notice.
    message: Option<Arc<str>>,
}

impl KickRequest {
    /// The target and the message. To end everything, `all` is required: a null by mistake in a back
    /// end must not ban a user.
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

/// The kicked sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct Kicked {
    kicked: Vec<Victim>,
    /// Whether earlier tokens are now refused.
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
        (status = 200, description = "The kicked sessions.", body = Kicked),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn kick(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    UserPath(user): UserPath,
    request: Result<JsonBody<KickRequest>, Problem>,
) -> Result<Json<Kicked>, Problem> {
    let JsonBody(request) = request.map_err(|problem| problem.explained(KICK_BODIES))?;
    let (target, message) = request.target()?;
    let named = named(&target);
    let ended = end_terminals(&app.hub, &user, target, message.clone()).await;
    let what = ended.as_ref().map(|(kicked, revoked)| {
        let revoked = if *revoked { ", tokens revoked" } else { "" };
        format!("{named}: {} ended{revoked}", kicked.len())
    });
    let audited = AuditAction { action: "kick", whom: Some(&user), why: message.as_deref() };
    caller.audit(&audited, what.as_deref().map_err(|problem| *problem));
    let (kicked, revoked) = ended?;
    Ok(Json(Kicked { kicked, revoked }))
}

/// A target as text, for the audit log.
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

/// Kicks for the back end; returns the kicked sessions, and whether tokens were revoked.
pub(crate) async fn end_terminals(
    hub: &Arc<Hub>,
    user: &UserId,
    target: Target,
    message: Option<Arc<str>>,
) -> Result<(Vec<Victim>, bool), Problem> {
    let event = EventKind::Kick { target, by: Kicker::Admin { message } };
    let span = Span::begin(names::KICK);
    if let Some(span) = &span {
        span.set(names::KICK_REASON, KickReason::Admin.name());
    }
    let applied = apply(hub, user, event).await;
    if let (Some(span), Err(problem)) = (&span, &applied) {
        span.fail(problem.code());
    }
    let applied = applied?;
    let Answer::Kicked { kicked, revoked } = applied.answer else {
        unreachable!("a kick is answered with `Kicked`")
    };
    if let Some(span) = &span {
        span.set_count(names::KICK_COUNT, kicked.len());
    }
    Ok((kicked, revoked))
}

/// The text to set; null clears it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CustomRequest {
    // With an explicit deserializer, a missing field is an error, and only `null` clears.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
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
        (status = 409, description = "The user is not logged in.", body = ProblemBody),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn set_custom(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    UserPath(user): UserPath,
    JsonBody(CustomRequest { custom }): JsonBody<CustomRequest>,
) -> Result<Response, Problem> {
    bounded("custom", custom.as_deref())?;
    let set = EventKind::Set { origin: None, custom: Some(custom.clone()), hidden: None };
    let is_there = |applied: &Applied| applied.answer != Answer::Refused(Refusal::NotLoggedIn);
    let applied = match app.hub.check_room() {
        Ok(()) => apply(&app.hub, &user, set).await,
        Err(full) => Err(full.into()),
    };
    let applied =
        applied.and_then(|a| is_there(&a).then_some(a).ok_or_else(Problem::not_logged_in));
    let what = custom.as_deref().unwrap_or("cleared");
    let audited = AuditAction { action: "set custom", whom: Some(&user), why: None };
    caller.audit(&audited, applied.as_ref().map(|_| what));
    Ok(Json(Detail::brief(&user, &applied?.record)).into_response())
}

/// Applies an event in its own task, so that it completes even if the caller disconnects.
pub(super) async fn apply(
    hub: &Arc<Hub>,
    user: &UserId,
    event: EventKind,
) -> Result<Applied, Problem> {
    let (hub, user) = (Arc::clone(hub), user.clone());
    in_its_own_task(async move { hub.apply(&user, event).await }).await
}

/// Does something in a task of its own, so that it completes even if the caller disconnects.
pub(super) async fn in_its_own_task<T: Send + 'static>(
    act: impl Future<Output = Result<T, Unavailable>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(act).await;
    let done = done.map_err(|_| Problem::unavailable("the hub is stopping: retry later"))?;
    Ok(done?)
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
