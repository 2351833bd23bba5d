//! The calls about events: everybody's, in pages or live, and the state to begin a copy with.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{EventPage, log_page};
use super::views::{self, StatusPage};
use crate::http::access::{Caller, MayRead};
use crate::http::door::Door;
use crate::http::extract::{After, Asked, Limit, LogPlace, Place, SNAPSHOT};
use crate::http::net::header_list::weight;
use crate::http::openapi::Refusals;
use crate::http::problem::{Problem, ProblemBody};
use crate::presence::State as UserState;
use crate::store::{Among, Cursor, LogEntry, StoreError};
use crate::wire::show_given;

/// The header by which an event stream goes on where it broke off.
const LAST_EVENT_ID: &str = "last-event-id";
/// The header by which nginx, and proxies like it, pass a stream on as it comes.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How many entries a stream reads at once.
const READ_MAX: usize = 256;
/// How often a stream that has nothing to say shows that it is there, so that nobody between cuts it.
const QUIET_MAX: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(snapshot)).routes(routes!(events))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRequest {
    #[param(value_type = Option<String>)]
    page: Option<Place<SNAPSHOT>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
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
    views::statuses::<SNAPSHOT>(&door.hub, &among, limit, cursor).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsRequest {
    /// From where on: the `next` of a page, the cursor of a snapshot, or `now` for what is still to
    /// come; else from the oldest.
    #[param(inline)]
    after: Option<After>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/events`: the log from a cursor on, a page of it, or as Server-Sent Events without end.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(
        EventsRequest,
        ("Last-Event-ID" = Option<String>, Header, description = "Of a stream that broke off: its last id"),
    ),
    responses(
        (status = 200, description = "A page; with `Accept: text/event-stream` the events one by one and without end, each with its cursor as id.", body = EventPage<'static>),
        (status = 410, description = "The log does not reach back that far.", body = ProblemBody),
        Refusals,
    ),
)]
pub(crate) async fn events(
    State(door): State<Arc<Door>>,
    MayRead(caller): MayRead,
    Asked(EventsRequest { after, limit }): Asked<EventsRequest>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let head = *door.hub.store().head().borrow();
    let is_from_now = after == Some(After::Now);
    let after = after.map(|after| match after {
        After::Now => head,
        After::Entry(cursor) => cursor,
    });
    if wants_stream(&headers) {
        return stream(door, caller, last_event_id(&headers)?.or(after)).await;
    }
    if is_from_now {
        return Ok(log_page(&[], Some(head)));
    }
    let entries = door.hub.store().log(after, limit.get()).await?;
    // Where there is nothing, one may go on from where one was.
    let next = entries.last().map(|entry| entry.cursor).or(after).unwrap_or(head);
    Ok(log_page(&entries, Some(next)))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    weight(headers, header::ACCEPT.as_str(), "text/event-stream").is_some_and(|weight| weight > 0)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let read = id.to_str().ok().and_then(LogPlace::read);
    read.map(|LogPlace(cursor)| Some(cursor)).ok_or_else(|| {
        let given = show_given(&String::from_utf8_lossy(id.as_bytes()).into());
        let expected = "expected the last id of the stream that broke off";
        Problem::bad_request(format!("`Last-Event-ID`: {expected}, got {given}"))
    })
}

/// Streams the log from a cursor on; a cursor that is too old is refused before the stream begins.
async fn stream(
    door: Arc<Door>,
    caller: Caller,
    after: Option<Cursor>,
) -> Result<Response, Problem> {
    let first = door.hub.store().log(after, READ_MAX).await?;
    let at = first.last().map(|entry| entry.cursor).or(after);
    // A client that is cut off before the first event resumes from here, too.
    let begin = match at.filter(|_| first.is_empty()) {
        Some(at) => Bytes::from(format!("id: {at}\n\n")),
        None => frames(&first),
    };
    let begin = stream::iter([Ok(begin)]);
    let body = Body::from_stream(stream::StreamExt::chain(begin, rest(door, caller, at)));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store"),
        (BUFFERING, "no"),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

/// What comes after a cursor, for as long as the store answers and the caller may read.
fn rest(
    door: Arc<Door>,
    caller: Caller,
    after: Option<Cursor>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let head = door.hub.store().head();
    let begin = (door, caller, head, after);
    stream::try_unfold(begin, async |(door, caller, mut head, after)| {
        if !door.still_knows(&caller) {
            return Ok(None);
        }
        head.mark_unchanged();
        let entries = door.hub.store().log(after, READ_MAX).await?;
        if let Some(last) = entries.last() {
            let after = Some(last.cursor);
            return Ok(Some((frames(&entries), (door, caller, head, after))));
        }
        match timeout(QUIET_MAX, head.changed()).await {
            Ok(Err(_)) => Ok(None),
            // A comment, which means nothing.
            Ok(Ok(())) | Err(_) => {
                Ok(Some((Bytes::from_static(b":\n\n"), (door, caller, head, after))))
            }
        }
    })
}

/// Entries as Server-Sent Events (HTML Living Standard, section 9.2). A damaged one is an event of a
/// type of its own, which `onmessage` does not get.
fn frames(entries: &[LogEntry]) -> Bytes {
    let frame = |entry: &LogEntry| {
        let kind = if entry.is_damaged() { "event: damaged\n" } else { "" };
        format!("id: {}\n{kind}data: {}\n\n", entry.cursor, entry.json())
    };
    let frames: String = entries.iter().map(frame).collect();
    if frames.is_empty() { Bytes::from_static(b":\n\n") } else { frames.into() }
}
