//! The calls about who may see a user, whom a user watches, and the erasure of a user.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::act::{apply, in_its_own_task};
use crate::http::access::audit::AuditAction;
use crate::http::access::{MayAct, MayRead};
use crate::http::extract::{JsonBody, UserPath};
use crate::http::openapi::{BodyRefusals, Refusals};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::presence::{
    Answer, BLOCKED_MAX, BlockedChange, EventKind, Refusal, UserId, Victim, VisibilityChange,
    VisibilityView, WatchList, WatchListChange,
};
use crate::wire::show_given;

/// `GET /v1/users/{user}/visibility`: who may not see a user (P2, P3).
#[utoipa::path(
    get,
    path = "/v1/users/{user}/visibility",
    operation_id = "getVisibility",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    responses(
        (status = 200, description = "Who may not see the user.", body = VisibilityView),
        (status = 500, description = "The user's record is damaged.", body = ProblemBody),
        Refusals,
    ),
)]
pub(crate) async fn visibility(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    UserPath(user): UserPath,
) -> Result<Json<VisibilityView>, Problem> {
    Ok(Json(app.hub.record(&user).await?.visibility_view()))
}

/// What to change; at least one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VisibilityRequest {
    /// Whether everybody else sees the user as `Offline` (P2).
    hidden: Option<bool>,
    /// The viewers who see the user as `Offline`, at most 200: these and no others (P3).
    #[schema(max_items = 200)]
    blocked: Option<Vec<String>>,
}

/// `PUT /v1/users/{user}/visibility`: hides or shows a user, and replaces the blocked viewers; what is not named
/// stays (P2, P3).
#[utoipa::path(
    put,
    path = "/v1/users/{user}/visibility",
    operation_id = "setVisibility",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    request_body = VisibilityRequest,
    responses(
        (status = 200, description = "Who may not see the user now.", body = VisibilityView),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn set_visibility(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    UserPath(user): UserPath,
    JsonBody(VisibilityRequest { hidden, blocked }): JsonBody<VisibilityRequest>,
) -> Result<Json<VisibilityView>, Problem> {
    if hidden.is_none() && blocked.is_none() {
        let message = "the body changes nothing: expected \"hidden\" (true or false), \"blocked\" \
                       (a list of user ids), or both";
        return Err(Problem::bad_request(message));
    }
    let blocked = blocked.map(|ids| users("blocked", &ids)).transpose()?;
    let said = [
        hidden.map(|hidden| if hidden { "hidden".to_owned() } else { "not hidden".to_owned() }),
        blocked.as_ref().map(|viewers| format!("{} blocked", viewers.len())),
    ];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let blocked = blocked.map(|viewers| {
        let mut change = BlockedChange::Replace(viewers);
        change.leave_out(&user);
        change
    });
    let change = VisibilityChange { hidden, blocked };
    let applied = match app.hub.check_room() {
        Ok(()) => apply(&app.hub, &user, EventKind::Visibility { origin: None, change }).await,
        Err(full) => Err(full.into()),
    };
    let applied = applied.and_then(|applied| match applied.answer {
        Answer::Refused(Refusal::TooManyBlocked) => {
            Err(Problem::too_many(&format!("`blocked`: expected at most {BLOCKED_MAX} ids")))
        }
        Answer::Refused(_)
        | Answer::Done
        | Answer::Stale
        | Answer::Admitted { .. }
        | Answer::Kicked { .. }
        | Answer::Background { .. } => Ok(applied),
    });
    let audited = AuditAction { action: "set visibility", whom: Some(&user), why: None };
    caller.audit(&audited, applied.as_ref().map(|_| &*said));
    Ok(Json(applied?.record.visibility_view()))
}

/// A user's watch list.
#[derive(Serialize, ToSchema)]
pub(crate) struct WatchListBody<'a> {
    /// In the byte order of the ids.
    #[schema(value_type = Vec<String>)]
    users: &'a [UserId],
    count: usize,
}

/// `GET /v1/users/{user}/watch-list`: whom a user watches (P8).
#[utoipa::path(
    get,
    path = "/v1/users/{user}/watch-list",
    operation_id = "getWatchList",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    responses(
        (status = 200, description = "The watch list.", body = WatchListBody<'static>),
        Refusals,
    ),
)]
pub(crate) async fn watch_list(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    UserPath(user): UserPath,
) -> Result<Response, Problem> {
    Ok(shown(&*app.hub.watch_list(&user).await?))
}

/// The users of a watch list: these, and no others.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchListRequest {
    /// At most `limits.watch_list` ids.
    users: Vec<String>,
}

/// `PUT /v1/users/{user}/watch-list`: replaces a user's watch list (P8).
#[utoipa::path(
    put,
    path = "/v1/users/{user}/watch-list",
    operation_id = "setWatchList",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    request_body = WatchListRequest,
    responses(
        (status = 200, description = "The new list.", body = WatchListBody<'static>),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn set_watch_list(
    State(app): State<Arc<AppState>>,
    caller: MayAct,
    UserPath(user): UserPath,
    JsonBody(request): JsonBody<WatchListRequest>,
) -> Result<Response, Problem> {
    let change = WatchListChange::Replace(users("users", &request.users)?);
    Ok(shown(&*change_list(&app, caller, &user, change).await?))
}

/// Whom to add to a watch list, and whom to remove; who is named in both is removed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchListPatch {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// The size of a watch list.
#[derive(Serialize, ToSchema)]
pub(crate) struct WatchListCount {
    count: usize,
}

/// `PATCH /v1/users/{user}/watch-list`: changes a user's watch list (P8).
#[utoipa::path(
    patch,
    path = "/v1/users/{user}/watch-list",
    operation_id = "changeWatchList",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    request_body = WatchListPatch,
    responses(
        (status = 200, description = "How many are on the list now.", body = WatchListCount),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn change_watch_list(
    State(app): State<Arc<AppState>>,
    caller: MayAct,
    UserPath(user): UserPath,
    JsonBody(WatchListPatch { add, remove }): JsonBody<WatchListPatch>,
) -> Result<Json<WatchListCount>, Problem> {
    let (add, remove) = (users("add", &add)?, users("remove", &remove)?);
    let change = WatchListChange::Patch { add, remove };
    let list = change_list(&app, caller, &user, change).await?;
    Ok(Json(WatchListCount { count: list.users().len() }))
}

/// What an erasure ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct Erased {
    kicked: Vec<Victim>,
    /// Always true.
    erased: bool,
}

/// `DELETE /v1/users/{user}`: ends every session, revokes tokens (L9), and removes all that the hub keeps of the
/// user but the revocation, the last version, and the log's entries.
#[utoipa::path(
    delete,
    path = "/v1/users/{user}",
    operation_id = "eraseUser",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    responses(
        (status = 200, description = "The user is erased.", body = Erased),
        Refusals,
    ),
)]
pub(crate) async fn erase(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    UserPath(user): UserPath,
) -> Result<Json<Erased>, Problem> {
    let erased = apply(&app.hub, &user, EventKind::Erase).await;
    let erased = match erased {
        Ok(applied) => {
            let nobody = WatchListChange::Replace(Vec::new());
            let (hub, whose) = (Arc::clone(&app.hub), user.clone());
            let emptied = async move { hub.change_watch_list(&whose, nobody, 0).await };
            in_its_own_task(emptied).await.map(|_| applied)
        }
        Err(problem) => Err(problem),
    };
    let audited = AuditAction { action: "erase", whom: Some(&user), why: None };
    caller.audit(&audited, erased.as_ref().map(|_| "everything"));
    let Answer::Kicked { kicked, .. } = erased?.answer else {
        unreachable!("an erasure is answered with `Kicked`")
    };
    Ok(Json(Erased { kicked, erased: true }))
}

async fn change_list(
    app: &AppState,
    MayAct(caller): MayAct,
    user: &UserId,
    change: WatchListChange,
) -> Result<Arc<WatchList>, Problem> {
    let max = app.settings().watch_list;
    let (hub, whose) = (Arc::clone(&app.hub), user.clone());
    let changed = match app.hub.check_room() {
        Ok(()) => {
            in_its_own_task(async move { hub.change_watch_list(&whose, change, max).await }).await
        }
        Err(full) => Err(full.into()),
    };
    let too_many = || Problem::too_many(&format!("a watch list has at most {max} users"));
    let changed = changed.and_then(|list| list.ok_or_else(too_many));
    let said = changed.as_ref().map(|list| format!("{} users", list.users().len()));
    let audited = AuditAction { action: "change watch list", whom: Some(user), why: None };
    caller.audit(&audited, said.as_deref().map_err(|problem| *problem));
    changed
}

fn shown(list: &WatchList) -> Response {
    Json(WatchListBody { users: list.users(), count: list.users().len() }).into_response()
}

/// Reads user ids.
fn users(field: &str, ids: &[String]) -> Result<Vec<UserId>, Problem> {
    let read = |id: &String| {
        let given = || format!("`{field}`: {}", show_given(&id.as_str().into()));
        id.parse().map_err(|_| Problem::invalid_user(&given()))
    };
    ids.iter().map(read).collect()
}
