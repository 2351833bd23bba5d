//! The calls about sessions: the list of sessions, and recently refused logins.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::many;
use super::views::SessionDetail;
use crate::http::access::MayRead;
use crate::http::access::budget::Entries;
use crate::http::extract::{Limit, PageToken, QueryParams, SESSIONS, query};
use crate::http::openapi::Refusals;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::hub::Hub;
use crate::presence::{
    DeviceId, Platform, Record, State as UserState, Terminal, Timestamp, UserId,
};
use crate::session::RefusedLogin;
use crate::store::{Among, Damaged};

/// Users read at once, after the first read did not fill the page.
const USERS_READ: usize = 500;
/// The most users that one call scans. Its page may then be short, and have a `next`.
const USERS_READ_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(sessions)).routes(routes!(refusals))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsRequest {
    #[serde(default, deserialize_with = "query::user")]
    user: Option<UserId>,
    platform: Option<Platform>,
    state: Option<UserState>,
    /// The node that holds the session.
    #[serde(default)]
    node: String,
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// A prefix of the `app` that the client gave at login.
    #[serde(default)]
    app: String,
    #[param(value_type = Option<String>)]
    cursor: Option<PageToken<SESSIONS>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

impl SessionsRequest {
    /// The states of users that can have matching sessions.
    fn user_states(&self) -> Vec<UserState> {
        match self.state {
            // An Online terminal makes its user Online.
            Some(UserState::Online) => vec![UserState::Online],
            Some(UserState::PushOnline) | None => vec![UserState::PushOnline, UserState::Online],
            Some(UserState::Offline) => Vec::new(),
        }
    }
}

/// Sessions, in the order of their users' ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionPage<'a> {
    sessions: Vec<SessionDetail<'a>>,
    next: Option<String>,
    /// Users with damaged records, which are left out above; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: &'a Vec<UserId>,
}

/// `GET /v1/sessions`: the sessions of all users.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "listSessions",
    tag = "sessions",
    params(SessionsRequest),
    responses(
        (status = 200, description = "A page of sessions.", body = SessionPage<'static>),
        Refusals,
    ),
)]
pub(crate) async fn sessions(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    QueryParams(request): QueryParams<SessionsRequest>,
) -> Result<Response, Problem> {
    let mut found = SessionsFound::new(&request);
    if let Some(user) = &request.user {
        look_up(&app.hub, &mut found, user).await?;
    } else {
        app.charge(&caller, Entries::Listed(USERS_READ_MAX))?;
        let among = Among { after: None, prefix: String::new(), states: request.user_states() };
        let looked_at = search(&app.hub, &mut found, among).await?;
        app.refund(&caller, Entries::Listed(USERS_READ_MAX.saturating_sub(looked_at)));
    }
    let sessions = found
        .sessions
        .iter()
        .map(|(user, record, index)| SessionDetail::of(&app.hub, user, &record.terminals[*index]));
    let sessions = sessions.collect();
    let next = found.next.as_ref().map(ToString::to_string);
    Ok(many(&SessionPage { sessions, next, damaged: &found.damaged }))
}

/// Adds one user's matching sessions.
async fn look_up(hub: &Hub, found: &mut SessionsFound<'_>, user: &UserId) -> Result<(), Problem> {
    match hub.record(user).await {
        Err(error) if error.is_damage() => found.damaged.push(user.clone()),
        record => found.look_at(user.clone(), &record?),
    }
    Ok(())
}

/// Scans users from the request's cursor until the page is full; returns how many it read.
async fn search(
    hub: &Hub,
    found: &mut SessionsFound<'_>,
    mut among: Among,
) -> Result<usize, Problem> {
    if let Some(PageToken { user, .. }) = found.request.cursor.clone() {
        look_up(hub, found, &user).await?;
        among.after = Some(user);
    }
    // Without filters, `limit` users fill a page; one more shows whether there is a next page.
    let mut at_once = found.request.limit.get() + 1;
    let mut looked_at = 0;
    while looked_at < USERS_READ_MAX {
        let users = hub.users(&among, at_once).await?;
        let is_end = users.len() < at_once;
        looked_at += users.len();
        at_once = USERS_READ;
        for (user, record) in users {
            if found.next.is_some() {
                return Ok(looked_at);
            }
            among.after = Some(user.clone());
            match record {
                Ok(record) => found.look_at(user, &record),
                Err(Damaged) => found.damaged.push(user),
            }
        }
        if is_end || found.next.is_some() {
            return Ok(looked_at);
        }
    }
    found.next = among.after.map(PageToken::after);
    Ok(looked_at)
}

/// The sessions of a page.
struct SessionsFound<'a> {
    request: &'a SessionsRequest,
    sessions: Vec<(UserId, Arc<Record>, usize)>,
    next: Option<PageToken<SESSIONS>>,
    damaged: Vec<UserId>,
}

impl<'a> SessionsFound<'a> {
    const fn new(request: &'a SessionsRequest) -> Self {
        Self { request, sessions: Vec::new(), next: None, damaged: Vec::new() }
    }

    /// Adds a user's matching terminals until the page is full.
    fn look_at(&mut self, user: UserId, record: &Arc<Record>) {
        let token = self.request.cursor.as_ref().filter(|token| token.user == user);
        let shown = token.map_or(0, |token| usize::try_from(token.read).unwrap_or(usize::MAX));
        for (index, terminal) in record.terminals.iter().enumerate().skip(shown) {
            if !self.matches(terminal) {
                continue;
            }
            if self.sessions.len() == self.request.limit.get() {
                self.next = Some(PageToken { user, read: index as u64 });
                return;
            }
            self.sessions.push((user.clone(), Arc::clone(record), index));
        }
    }

    fn matches(&self, terminal: &Terminal) -> bool {
        let SessionsRequest { platform, state, node, address, app, .. } = self.request;
        platform.is_none_or(|platform| platform == terminal.platform)
            && state.is_none_or(|state| state == terminal.state())
            && address.is_none_or(|address| Some(address) == terminal.address)
            && (app.is_empty() || terminal.app.as_deref().is_some_and(|it| it.starts_with(&**app)))
            && (node.is_empty() || *node == terminal.connection.node.to_string())
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RefusalsRequest {
    /// Only refused logins of this user.
    #[serde(default, deserialize_with = "query::user")]
    user: Option<UserId>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// The latest refused logins at this hub, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusalList<'a> {
    refusals: Vec<RefusalEntry<'a>>,
}

/// A login that was refused.
#[derive(Serialize, ToSchema)]
struct RefusalEntry<'a> {
    at: Timestamp,
    /// An error code, `try_again_later` or `login_timeout`.
    reason: &'static str,
    /// For people.
    message: &'a str,
    /// The user in the token, or null if it cannot be read.
    user: Option<&'a UserId>,
    /// Whether the token's signature was valid; otherwise anybody may have written the user.
    verified: bool,
    platform: Option<Platform>,
    device: Option<&'a DeviceId>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
}

/// `GET /v1/refusals`: the latest refused logins at this hub, kept in memory.
#[utoipa::path(
    get,
    path = "/v1/refusals",
    operation_id = "listRefusals",
    tag = "sessions",
    params(RefusalsRequest),
    responses(
        (status = 200, description = "The refused logins, newest first.", body = RefusalList<'static>),
        Refusals,
    ),
)]
pub(crate) async fn refusals(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(RefusalsRequest { user, limit }): QueryParams<RefusalsRequest>,
) -> Result<Response, Problem> {
    let latest = app.sessions.refusals().latest(user.as_ref(), limit.get());
    let refusals = latest.iter().map(|refusal| RefusalEntry::of(refusal)).collect();
    Ok(many(&RefusalList { refusals }))
}

impl<'a> RefusalEntry<'a> {
    fn of(refusal: &'a RefusedLogin) -> Self {
        Self {
            at: refusal.at,
            reason: refusal.reason,
            message: &refusal.message,
            user: refusal.user.as_ref(),
            verified: refusal.is_verified,
            platform: refusal.platform,
            device: refusal.device.as_ref(),
            address: refusal.address,
        }
    }
}
