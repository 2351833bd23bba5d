//! Many users and sessions, in pages.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Door;
use crate::http::calls::users::act::{Detail, TerminalDetail, many};
use crate::http::access::keys::MayRead;
use crate::http::openapi::{self, Refusals};
use crate::http::extract::place::{Place, SESSIONS, SNAPSHOT, USERS};
use crate::http::problem::Problem;
use crate::http::extract::query::{Asked, Limit};
use crate::hub::Hub;
use crate::presence::{Platform, Record, State as UserState, Terminal, UserId};
use crate::store::{Among, Cursor, Damaged, Listed};

/// How many users are read at once in search of sessions, once what was read had too few.
const USERS_READ: usize = 500;
/// How many users one call looks at in search of sessions; a page may have fewer then, and a next.
const USERS_READ_MAX: usize = 1000;
/// How many users one call looks at in search of ids that contain a text.
const IDS_READ_MAX: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRequest {
    #[param(value_type = Option<String>)]
    page: Option<Place<SNAPSHOT>>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// Statuses, in the order of their users' ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusPage<'a> {
    statuses: Vec<Detail<'a>>,
    next: Option<String>,
    /// Of a snapshot's first page: the place in the log that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Users who were left out because their records are damaged; absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<String>>)]
    damaged: Vec<&'a UserId>,
}

/// `GET /v1/snapshot`: everybody who is not Offline. The cursor of the first page is from before it
/// was read: whatever a page misses comes after it in the log.
#[utoipa::path(
    get,
    path = "/v1/snapshot",
    operation_id = "getSnapshot",
    tag = "events",
    params(SnapshotRequest),
    responses(
        (status = 200, description = "A page of statuses.", body = StatusPage<'static>),
        Refusals,
    ),
)]
pub(crate) async fn snapshot(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(SnapshotRequest { page, limit }): Asked<SnapshotRequest>,
) -> Result<Response, Problem> {
    let cursor = page.is_none().then(|| *door.hub.store().head().borrow());
    let states = vec![UserState::PushOnline, UserState::Online];
    let after = page.map(|page| page.user);
    let among = Among { after, states, ..Among::default() };
    statuses::<SNAPSHOT>(&door.hub, &among, limit, cursor).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersRequest {
    /// What their ids begin with.
    #[serde(default)]
    prefix: String,
    /// What their ids contain. A page may have fewer than `limit` then, and a `next`: one call looks
    /// at 10,000 users at most.
    #[serde(default)]
    contains: String,
    #[param(value_type = Option<openapi::State>)]
    state: Option<UserState>,
    #[param(value_type = Option<String>)]
    cursor: Option<Place<USERS>>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// `GET /v1/users`: those who are remembered.
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
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(UsersRequest { prefix, contains, state, cursor, limit }): Asked<UsersRequest>,
) -> Result<Response, Problem> {
    let all = || vec![UserState::Offline, UserState::PushOnline, UserState::Online];
    let states = state.map_or_else(all, |state| vec![state]);
    let after = cursor.map(|cursor| cursor.user);
    let among = Among { after, prefix, states };
    if contains.is_empty() {
        return statuses::<USERS>(&door.hub, &among, limit, None).await;
    }
    containing(&door.hub, among, &contains, limit).await
}

/// Users whose ids contain a text, as far as one call looks for them.
async fn containing(
    hub: &Hub,
    mut among: Among,
    text: &str,
    limit: Limit,
) -> Result<Response, Problem> {
    let mut found = Vec::new();
    let mut next = None;
    for _ in 0..IDS_READ_MAX / USERS_READ {
        let users = hub.store().users(&among, USERS_READ).await?;
        among.after = users.last().map(|(user, _)| user.clone());
        // Where the last page was full, there may be more.
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
    let next = next.map(|user| Place::<USERS>::after(user).to_string());
    Ok(page(&found, next, None))
}

/// A page of users, which names those whose records are damaged.
fn page(users: &[Listed], next: Option<String>, cursor: Option<Cursor>) -> Response {
    let (mut statuses, mut damaged) = (Vec::with_capacity(users.len()), Vec::new());
    for (user, record) in users {
        match record {
            Ok(record) => statuses.push(Detail::brief(user, record)),
            Err(Damaged) => damaged.push(user),
        }
    }
    many(&StatusPage { statuses, next, cursor, damaged })
}

async fn statuses<const LIST: u8>(
    hub: &Hub,
    among: &Among,
    limit: Limit,
    cursor: Option<Cursor>,
) -> Result<Response, Problem> {
    let users = hub.store().users(among, limit.get()).await?;
    let next = users.last().filter(|_| users.len() == limit.get()).map(|(user, _)| user);
    let next = next.map(|user| Place::<LIST>::after(user.clone()).to_string());
    Ok(page(&users, next, cursor))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsRequest {
    #[param(value_type = Option<String>)]
    user: Option<UserId>,
    #[param(value_type = Option<openapi::Platform>)]
    platform: Option<Platform>,
    #[param(value_type = Option<openapi::State>)]
    state: Option<UserState>,
    /// The hub that holds it.
    #[serde(default)]
    node: String,
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// What the text that its client gave at login begins with.
    #[serde(default)]
    app: String,
    #[param(value_type = Option<String>)]
    cursor: Option<Place<SESSIONS>>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

impl SessionsRequest {
    /// The states of the users who may have such a session.
    fn user_states(&self) -> Vec<UserState> {
        match self.state {
            // A terminal that is Online makes its user so.
            Some(UserState::Online) => vec![UserState::Online],
            Some(UserState::PushOnline) | None => vec![UserState::PushOnline, UserState::Online],
            Some(UserState::Offline) => Vec::new(),
        }
    }
}

/// A session with its user.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionDetail<'a> {
    #[schema(value_type = String)]
    user: &'a UserId,
    #[serde(flatten)]
    terminal: TerminalDetail<'a>,
}

impl<'a> SessionDetail<'a> {
    pub(crate) fn of(hub: &Hub, user: &'a UserId, terminal: &'a Terminal) -> Self {
        Self { user, terminal: TerminalDetail::of(hub, terminal) }
    }
}

/// Sessions, in the order of their users' ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionPage<'a> {
    sessions: Vec<SessionDetail<'a>>,
    next: Option<String>,
    /// Users who were left out because their records are damaged; absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<String>>)]
    damaged: &'a Vec<UserId>,
}

/// `GET /v1/sessions`: the terminals of all users.
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
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(request): Asked<SessionsRequest>,
) -> Result<Response, Problem> {
    let mut found = Found::new(&request);
    if let Some(user) = &request.user {
        look_up(&door.hub, &mut found, user).await?;
    } else {
        let among = Among { after: None, prefix: String::new(), states: request.user_states() };
        search(&door.hub, &mut found, among).await?;
    }
    let sessions = found
        .sessions
        .iter()
        .map(|(user, record, index)| SessionDetail::of(&door.hub, user, &record.terminals[*index]));
    let sessions = sessions.collect();
    let next = found.next.as_ref().map(ToString::to_string);
    Ok(many(&SessionPage { sessions, next, damaged: &found.damaged }))
}

/// Reads one user.
async fn look_up(hub: &Hub, found: &mut Found<'_>, user: &UserId) -> Result<(), Problem> {
    match hub.record(user).await {
        Err(error) if error.is_damage() => found.damaged.push(user.clone()),
        record => found.look_at(user.clone(), &record?),
    }
    Ok(())
}

/// Reads users from the place on until the page is full.
async fn search(hub: &Hub, found: &mut Found<'_>, mut among: Among) -> Result<(), Problem> {
    if let Some(Place { user, .. }) = found.request.cursor.clone() {
        look_up(hub, found, &user).await?;
        among.after = Some(user);
    }
    // Where everything is wanted, a page is full with as many users as it has lines, and the next
    // begins with one more.
    let mut at_once = found.request.limit.get() + 1;
    let mut looked_at = 0;
    while looked_at < USERS_READ_MAX {
        let users = hub.store().users(&among, at_once).await?;
        let is_end = users.len() < at_once;
        looked_at += at_once;
        at_once = USERS_READ;
        for (user, record) in users {
            if found.next.is_some() {
                return Ok(());
            }
            among.after = Some(user.clone());
            match record {
                Ok(record) => found.look_at(user, &record),
                Err(Damaged) => found.damaged.push(user),
            }
        }
        if is_end || found.next.is_some() {
            return Ok(());
        }
    }
    found.next = among.after.map(Place::after);
    Ok(())
}

/// The sessions of a page.
struct Found<'a> {
    request: &'a SessionsRequest,
    sessions: Vec<(UserId, Arc<Record>, usize)>,
    next: Option<Place<SESSIONS>>,
    damaged: Vec<UserId>,
}

impl<'a> Found<'a> {
    const fn new(request: &'a SessionsRequest) -> Self {
        Self { request, sessions: Vec::new(), next: None, damaged: Vec::new() }
    }

    /// Takes what is wanted of a user's terminals, as far as the page goes.
    fn look_at(&mut self, user: UserId, record: &Arc<Record>) {
        let place = self.request.cursor.as_ref().filter(|place| place.user == user);
        let shown = place.map_or(0, |place| usize::try_from(place.read).unwrap_or(usize::MAX));
        for (index, terminal) in record.terminals.iter().enumerate().skip(shown) {
            if !self.wants(terminal) {
                continue;
            }
            if self.sessions.len() == self.request.limit.get() {
                self.next = Some(Place { user, read: index as u64 });
                return;
            }
            self.sessions.push((user.clone(), Arc::clone(record), index));
        }
    }

    fn wants(&self, terminal: &Terminal) -> bool {
        let SessionsRequest { platform, state, node, address, app, .. } = self.request;
        platform.is_none_or(|platform| platform == terminal.platform)
            && state.is_none_or(|state| state == terminal.state())
            && address.is_none_or(|address| Some(address) == terminal.address)
            && (app.is_empty() || terminal.app.as_deref().is_some_and(|it| it.starts_with(&**app)))
            && (node.is_empty() || *node == terminal.connection.node.to_string())
    }
}
