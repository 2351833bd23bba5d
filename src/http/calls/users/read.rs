//! Who watches somebody.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Door;
use super::act::Named;
use crate::http::access::keys::MayRead;
use crate::http::calls::sessions::SessionDetail;
use crate::http::openapi::Refusals;
use crate::http::extract::place::{Place, WATCHERS};
use crate::http::problem::Problem;
use crate::http::extract::query::{Asked, Limit};
use crate::presence::UserId;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchersRequest {
    /// Where the page before ended: its `next`.
    #[param(value_type = Option<String>)]
    cursor: Option<Place<WATCHERS>>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// The sessions that watch a user, the earliest connected first.
#[derive(Serialize, ToSchema)]
pub(crate) struct WatcherPage<'a> {
    /// How many there are in all.
    count: usize,
    watchers: Vec<SessionDetail<'a>>,
    next: Option<String>,
    /// Users who were left out because their records are damaged; absent where there are none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Option<Vec<String>>)]
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
    State(door): State<Arc<Door>>,
    _: MayRead,
    Named(user): Named,
    Asked(WatchersRequest { cursor, limit }): Asked<WatchersRequest>,
) -> Result<Response, Problem> {
    if cursor.as_ref().is_some_and(|place| place.user != user) {
        return Err(Problem::bad_request(
            "`cursor`: expected one of this user's watchers, got another's",
        ));
    }
    let all = door.hub.watchers(&user);
    let read = cursor.map(|place| place.read);
    let rest = all.iter().filter(|(connection, _)| read.is_none_or(|at| connection.serial > at));
    let shown: Vec<_> = rest.take(limit.get()).collect();
    let last = shown.last().filter(|_| shown.len() == limit.get());
    let place = |read| Place::<WATCHERS> { user: user.clone(), read };
    let next = last.map(|(connection, _)| place(connection.serial).to_string());
    let users: Vec<_> = shown.iter().map(|(_, user)| user.clone()).collect();
    let records = door.hub.records(&users).await?;
    let (mut watchers, mut damaged) = (Vec::with_capacity(shown.len()), BTreeSet::new());
    for ((connection, user), record) in shown.iter().zip(&records) {
        let Ok(record) = record else {
            damaged.insert(user);
            continue;
        };
        // One whose session has just ended is left out.
        let terminal = record.terminals.iter().find(|terminal| terminal.is_on(*connection));
        watchers.extend(terminal.map(|terminal| SessionDetail::of(&door.hub, user, terminal)));
    }
    Ok(Json(WatcherPage { count: all.len(), watchers, next, damaged }).into_response())
}
