//! The calls that read users: statuses, lists, one user, its history and its watchers.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::access::MayRead;
use crate::http::access::budget::Entries;
use crate::http::calls::answer::{EventPage, log_page, many};
use crate::http::calls::views::{self, Detail, SessionDetail, StatusPage};
use crate::http::extract::{
    HISTORY, JsonBody, Limit, PageToken, QueryParams, USERS, UserPath, WATCHERS,
};
use crate::http::openapi::{BodyRefusals, Refusals};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::hub::Hub;
use crate::presence::{State as UserState, UserId};
use crate::store::{Among, Cursor, Damaged, HistoryPart, LogEntry};
use crate::wire::ErrorCode;

/// The most users that one call may name.
const USERS_MAX: usize = 500;
/// Users read at once in a search by `contains`.
const USERS_READ: usize = 500;
/// The most users that one search by `contains` scans.
const IDS_READ_MAX: usize = 10_000;

/// The users whose statuses to read.
#[derive(Deserialize, ToSchema)]
pub(crate) struct StatusRequest {
    /// 1 to 500 ids.
    #[schema(min_items = 1, max_items = 500)]
    users: Vec<String>,
    /// Whether to include terminals.
    #[serde(default)]
    detail: bool,
}

/// Statuses, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct Statuses<'a> {
    statuses: Vec<Detail<'a>>,
    errors: Vec<UserError>,
}

/// A user who was left out, and why.
#[derive(Serialize, ToSchema)]
struct UserError {
    user: String,
    code: ErrorCode,
}

/// `POST /v1/status`: the statuses of many users.
#[utoipa::path(
    post,
    path = "/v1/status",
    operation_id = "getStatuses",
    tag = "users",
    request_body = StatusRequest,
    responses(
        (status = 200, description = "The statuses, in the order of the request.", body = Statuses<'static>),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn statuses(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    JsonBody(request): JsonBody<StatusRequest>,
) -> Result<Response, Problem> {
    if !(1..=USERS_MAX).contains(&request.users.len()) {
        let given = request.users.len();
        let message = format!("`users`: expected 1 to {USERS_MAX} ids, got {given}");
        return Err(Problem::bad_request(message));
    }
    app.charge(&caller, Entries::Read(request.users.len()))?;
    let (mut users, mut errors) = (Vec::new(), Vec::new());
    for user in request.users {
        match user.parse::<UserId>() {
            Ok(user) => users.push(user),
            Err(_) => errors.push(UserError { user, code: ErrorCode::InvalidUser }),
        }
    }
    let records = app.hub.records(&users).await?;
    let mut statuses = Vec::with_capacity(users.len());
    for (user, record) in users.iter().zip(&records) {
        match record {
            Ok(record) if request.detail => statuses.push(Detail::whole(&app.hub, user, record)),
            Ok(record) => statuses.push(Detail::brief(user, record)),
            Err(Damaged) => {
                errors.push(UserError { user: user.to_string(), code: ErrorCode::Damaged });
            }
        }
    }
    Ok(many(&Statuses { statuses, errors }))
}

/// `GET /v1/users/{user}`: one user's status, with every terminal.
#[utoipa::path(
    get,
    path = "/v1/users/{user}",
    operation_id = "getUser",
    tag = "users",
    params(("user" = String, Path, description = "The user, percent-encoded")),
    responses(
        (status = 200, description = "The status.", body = Detail<'static>),
        (status = 500, description = "The user's record is damaged.", body = ProblemBody),
        Refusals,
    ),
)]
pub(crate) async fn user(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    UserPath(user): UserPath,
) -> Result<Response, Problem> {
    let record = app.hub.record(&user).await?;
    Ok(Json(Detail::whole(&app.hub, &user, &record)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersRequest {
    /// A prefix of the ids.
    #[serde(default)]
    prefix: String,
    /// A text that the ids contain. One call scans at most 10,000 users, so a page may be shorter than
    /// `limit` and still have a `next`.
    #[serde(default)]
    contains: String,
    state: Option<UserState>,
    #[param(value_type = Option<String>)]
    cursor: Option<PageToken<USERS>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/users`: the known users.
#[utoipa::path(
    get,
    path = "/v1/users",
    operation_id = "listUsers",
    tag = "users",
    params(UsersRequest),
    responses(
        (status = 200, description = "A page of statuses.", body = StatusPage<'static>),
        Refusals,
    ),
)]
pub(crate) async fn users(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    QueryParams(UsersRequest { prefix, contains, state, cursor, limit }): QueryParams<UsersRequest>,
) -> Result<Response, Problem> {
    let all = || vec![UserState::Offline, UserState::PushOnline, UserState::Online];
    let states = state.map_or_else(all, |state| vec![state]);
    let after = cursor.map(|cursor| cursor.user);
    let among = Among { after, prefix, states };
    if contains.is_empty() {
        app.charge(&caller, Entries::Listed(limit.get()))?;
        return views::statuses::<USERS>(&app.hub, &among, limit, None).await;
    }
    app.charge(&caller, Entries::Listed(IDS_READ_MAX))?;
    let (page, looked_at) = containing(&app.hub, among, &contains, limit).await?;
    app.refund(&caller, Entries::Listed(IDS_READ_MAX.saturating_sub(looked_at)));
    Ok(page)
}

/// A page of users whose ids contain a text, and the number of users that were scanned for it.
async fn containing(
    hub: &Hub,
    mut among: Among,
    text: &str,
    limit: Limit,
) -> Result<(Response, usize), Problem> {
    let mut found = Vec::new();
    let (mut next, mut looked_at) = (None, 0);
    for _ in 0..IDS_READ_MAX / USERS_READ {
        let users = hub.users(&among, USERS_READ).await?;
        looked_at += users.len();
        among.after = users.last().map(|(user, _)| user.clone());
        // After a full read, there may be more.
        next = among.after.clone().filter(|_| users.len() == USERS_READ);
        let room = limit.get() - found.len();
        let mut matching = users.into_iter().filter(|(user, _)| user.as_str().contains(text));
        found.extend(matching.by_ref().take(room));
        if found.len() == limit.get() {
            next = found
                .last()
                .map(|(user, _)| user.clone())
                .filter(|_| matching.next().is_some() || next.is_some());
        }
        if next.is_none() || found.len() == limit.get() {
            break;
        }
    }
    let next = next.map(|user| PageToken::<USERS>::after(user).to_string());
    Ok((views::page(&found, next, None), looked_at))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryRequest {
    /// The `next` of the previous page.
    #[param(value_type = Option<String>)]
    before: Option<PageToken<HISTORY>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/users/{user}/history`: one user's transitions, newest first.
#[utoipa::path(
    get,
    path = "/v1/users/{user}/history",
    operation_id = "getUserHistory",
    tag = "users",
    params(
        ("user" = String, Path, description = "The user, percent-encoded"),
        HistoryRequest,
    ),
    responses(
        (status = 200, description = "The events.", body = EventPage<'static>),
        Refusals,
    ),
)]
pub(crate) async fn history(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    UserPath(user): UserPath,
    QueryParams(HistoryRequest { before, limit }): QueryParams<HistoryRequest>,
) -> Result<Response, Problem> {
    if before.as_ref().is_some_and(|token| token.user != user) {
        return Err(Problem::bad_request(
            "`before`: expected the `next` of a page of this user's history, got another user's",
        ));
    }
    app.charge(&caller, Entries::Read(limit.get()))?;
    let part = HistoryPart::Before(before.map(|token| Cursor(token.read)));
    let entries = app.hub.log().history(&user, part, limit.get()).await?;
    let more = entries.last().filter(|_| entries.len() == limit.get());
    let token =
        |entry: &LogEntry| PageToken::<HISTORY> { user: user.clone(), read: entry.cursor.0 };
    Ok(log_page(&entries, more.map(token)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchersRequest {
    /// The `next` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageToken<WATCHERS>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// The sessions that watch a user, in order of connection.
#[derive(Serialize, ToSchema)]
pub(crate) struct WatcherPage<'a> {
    /// The total number of watching sessions.
    count: usize,
    watchers: Vec<SessionDetail<'a>>,
    next: Option<String>,
    /// Users with damaged records, who are left out above; absent if there are none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    damaged: BTreeSet<&'a UserId>,
}

/// `GET /v1/users/{user}/watchers`: the sessions that watch a user.
#[utoipa::path(
    get,
    path = "/v1/users/{user}/watchers",
    operation_id = "listWatchers",
    tag = "users",
    params(
        ("user" = String, Path, description = "The user, percent-encoded"),
        WatchersRequest,
    ),
    responses(
        (status = 200, description = "A page of sessions.", body = WatcherPage<'static>),
        Refusals,
    ),
)]
pub(crate) async fn watchers(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    UserPath(user): UserPath,
    QueryParams(WatchersRequest { cursor, limit }): QueryParams<WatchersRequest>,
) -> Result<Response, Problem> {
    if cursor.as_ref().is_some_and(|token| token.user != user) {
        return Err(Problem::bad_request(
            "`cursor`: expected the `next` of a page of this user's watchers, got another user's",
        ));
    }
    app.charge(&caller, Entries::Read(limit.get()))?;
    let all = app.hub.watchers(&user);
    let read = cursor.map(|token| token.read);
    let rest = all.iter().filter(|(connection, _)| read.is_none_or(|at| connection.serial > at));
    let shown: Vec<_> = rest.take(limit.get()).collect();
    let last = shown.last().filter(|_| shown.len() == limit.get());
    let token = |read| PageToken::<WATCHERS> { user: user.clone(), read };
    let next = last.map(|(connection, _)| token(connection.serial).to_string());
    let users: Vec<_> = shown.iter().map(|(_, user)| user.clone()).collect();
    let records = app.hub.records(&users).await?;
    let (mut watchers, mut damaged) = (Vec::with_capacity(shown.len()), BTreeSet::new());
    for ((connection, user), record) in shown.iter().zip(&records) {
        let Ok(record) = record else {
            damaged.insert(user);
            continue;
        };
        // A session may have just ended.
        let terminal = record.terminals.iter().find(|terminal| terminal.is_on(*connection));
        watchers.extend(terminal.map(|terminal| SessionDetail::of(&app.hub, user, terminal)));
    }
    Ok(Json(WatcherPage { count: all.len(), watchers, next, damaged }).into_response())
}
