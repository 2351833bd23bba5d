//! The JSON of users and sessions in the server API.

use std::net::IpAddr;

use axum::response::Response;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::answer::many;
use crate::clock::Clock;
use crate::http::extract::{Limit, PageToken};
use crate::http::problem::Problem;
use crate::hub::Hub;
use crate::presence::{
    ActivityView, Background, DeviceId, NodeId, Platform, Record, SessionId, State, Status,
    Terminal, Timestamp, UserId,
};
use crate::store::{Among, Cursor, Damaged, Listed};

/// A user's status, with the terminals if requested.
#[derive(Serialize, ToSchema)]
pub(crate) struct Detail<'a> {
    #[serde(flatten)]
    status: OwnedStatus<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminals: Option<Vec<TerminalDetail<'a>>>,
}

#[derive(Serialize, ToSchema)]
struct OwnedStatus<'a> {
    user: &'a UserId,
    #[serde(flatten)]
    status: Status,
}

/// One terminal of a user.
#[derive(Serialize, ToSchema)]
pub(crate) struct TerminalDetail<'a> {
    platform: Platform,
    device: &'a DeviceId,
    state: State,
    /// When the current state began.
    since: Timestamp,
    session: SessionId,
    last_heard: Timestamp,
    background: Option<Background>,
    #[serde(flatten)]
    activity: ActivityView,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    app: Option<&'a str>,
    /// The node that holds the session.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    node: NodeId,
}

/// A session with its user.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionDetail<'a> {
    user: &'a UserId,
    #[serde(flatten)]
    terminal: TerminalDetail<'a>,
}

/// Statuses, in the order of their users' ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusPage<'a> {
    statuses: Vec<Detail<'a>>,
    next: Option<String>,
    /// The cursor to read the log from; only on the first page of a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    /// Users with damaged records, who are left out above; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<&'a UserId>,
}

impl<'a> Detail<'a> {
    pub(crate) fn brief(user: &'a UserId, record: &Record) -> Self {
        Self { status: OwnedStatus { user, status: record.status() }, terminals: None }
    }

    pub(super) fn whole(hub: &Hub, user: &'a UserId, record: &'a Record) -> Self {
        let terminals = record.terminals.iter().map(|terminal| TerminalDetail::of(hub, terminal));
        Self { terminals: Some(terminals.collect()), ..Self::brief(user, record) }
    }
}

impl<'a> TerminalDetail<'a> {
    pub(crate) fn of(hub: &Hub, terminal: &'a Terminal) -> Self {
        Self {
            platform: terminal.platform,
            device: &terminal.device,
            state: terminal.state(),
            since: terminal.since,
            session: terminal.session,
            last_heard: hub.heard(terminal.connection).unwrap_or(terminal.heard),
            background: terminal.background.map(|background| shown(hub.clock(), background)),
            activity: terminal.activity_view(),
            address: terminal.address,
            app: terminal.app.as_deref(),
            node: terminal.connection.node,
        }
    }
}

impl<'a> SessionDetail<'a> {
    pub(crate) fn of(hub: &Hub, user: &'a UserId, terminal: &'a Terminal) -> Self {
        Self { user, terminal: TerminalDetail::of(hub, terminal) }
    }
}

fn shown(clock: &Clock, background: Background) -> Background {
    let Background { reason, since, deadline } = background;
    let deadline = deadline.map(|at| clock.to_wall(at));
    Background { reason, since: clock.to_wall(since), deadline }
}

/// A page of users, with the damaged ones listed separately.
pub(super) fn page(users: &[Listed], next: Option<String>, cursor: Option<Cursor>) -> Response {
    let (mut statuses, mut damaged) = (Vec::with_capacity(users.len()), Vec::new());
    for (user, record) in users {
        match record {
            Ok(record) => statuses.push(Detail::brief(user, record)),
            Err(Damaged) => damaged.push(user),
        }
    }
    many(&StatusPage { statuses, next, cursor, damaged })
}

/// Reads a page of statuses.
pub(super) async fn statuses<const LIST: u8>(
    hub: &Hub,
    among: &Among,
    limit: Limit,
    cursor: Option<Cursor>,
) -> Result<Response, Problem> {
    let users = hub.users(among, limit.get()).await?;
    let next = users.last().filter(|_| users.len() == limit.get()).map(|(user, _)| user);
    let next = next.map(|user| PageToken::<LIST>::after(user.clone()).to_string());
    Ok(page(&users, next, cursor))
}

fn as_text<S: Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(node)
}
