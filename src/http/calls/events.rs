//! The calls about events: the transition log in pages or as a live stream, and the snapshot.

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
use crate::http::access::budget::{CountedStream, Entries};
use crate::http::access::{Caller, MayRead};
use crate::http::extract::{After, Limit, LogCursor, PageToken, QueryParams, SNAPSHOT};
use crate::http::net::header_list::weight;
use crate::http::openapi::Refusals;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::presence::State as UserState;
use crate::store::{Among, Cursor, LogEntry, StoreError};
use crate::wire::show_given;

/// The header with which a client resumes an event stream.
const LAST_EVENT_ID: &str = "last-event-id";
/// The header that turns off buffering in nginx and similar proxies.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Entries that a stream reads at once.
const READ_MAX: usize = 256;
/// The interval of keep-alive comments on an idle stream: proxies cut idle connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(snapshot)).routes(routes!(events))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRequest {
    #[param(value_type = Option<String>)]
    page: Option<PageToken<SNAPSHOT>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/snapshot`: all users who are not Offline. The first page's cursor is taken before any
/// page is read, so every change that a page misses follows the cursor in the log.
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
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    QueryParams(SnapshotRequest { page, limit }): QueryParams<SnapshotRequest>,
) -> Result<Response, Problem> {
    app.charge(&caller, Entries::Listed(limit.get()))?;
    let cursor = page.is_none().then(|| *app.hub.log().head().borrow());
    let states = vec![UserState::PushOnline, UserState::Online];
    let after = page.map(|page| page.user);
    let among = Among { after, states, ..Among::default() };
    views::statuses::<SNAPSHOT>(&app.hub, &among, limit, cursor).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsRequest {
    /// Read after this position: the `next` of a page, the cursor of a snapshot, or `now` for future
    /// events only. Default: from the oldest event.
    #[param(inline)]
    after: Option<After>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/events`: a page of the transition log, or an endless stream of Server-Sent Events.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(
        EventsRequest,
        ("Last-Event-ID" = Option<String>, Header, description = "The last id of an interrupted stream"),
    ),
    responses(
        (status = 200, description = "A page; with `Accept: text/event-stream` an endless stream of events, each with its cursor as id.", body = EventPage<'static>),
        (status = 410, description = "The cursor is older than the log.", body = ProblemBody),
        Refusals,
    ),
)]
pub(crate) async fn events(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
    QueryParams(EventsRequest { after, limit }): QueryParams<EventsRequest>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let head = *app.hub.log().head().borrow();
    let is_from_now = after == Some(After::Now);
    let after = after.map(|after| match after {
        After::Now => head,
        After::Entry(cursor) => cursor,
    });
    if wants_stream(&headers) {
        return stream(app, caller, last_event_id(&headers)?.or(after)).await;
    }
    if is_from_now {
        return Ok(log_page(&[], Some(head)));
    }
    app.charge(&caller, Entries::Read(limit.get()))?;
    let entries = app.hub.log().entries(after, limit.get()).await?;
    app.refund(&caller, Entries::Read(limit.get() - entries.len()));
    // After an empty page, the client continues from the same position.
    let next = entries.last().map(|entry| entry.cursor).or(after).unwrap_or(head);
    Ok(log_page(&entries, Some(next)))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    weight(headers, header::ACCEPT.as_str(), "text/event-stream").is_some_and(|weight| weight > 0)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let read = id.to_str().ok().and_then(LogCursor::read);
    read.map(|LogCursor(cursor)| Some(cursor)).ok_or_else(|| {
        let given = show_given(&String::from_utf8_lossy(id.as_bytes()).into());
        let expected = "expected the last id of the interrupted stream";
        Problem::bad_request(format!("`Last-Event-ID`: {expected}, got {given}"))
    })
}

/// Streams the log after a cursor. An expired cursor is refused before the stream begins.
async fn stream(
    app: Arc<AppState>,
    caller: Caller,
    after: Option<Cursor>,
) -> Result<Response, Problem> {
    let counted = app.open_stream(&caller)?;
    let first = app.hub.log().entries(after, READ_MAX).await?;
    app.charge_stream(&caller, Entries::Read(first.len())).await;
    let at = first.last().map(|entry| entry.cursor).or(after);
    // So that a client cut off before the first event can resume from here.
    let begin = match at.filter(|_| first.is_empty()) {
        Some(at) => Bytes::from(format!("id: {at}\n\n")),
        None => frames(&first),
    };
    let begin = stream::iter([Ok(begin)]);
    let body = Body::from_stream(stream::StreamExt::chain(begin, rest(app, caller, counted, at)));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store"),
        (BUFFERING, "no"),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

/// The events after a cursor, until the store fails or the caller's key or login ends.
fn rest(
    app: Arc<AppState>,
    caller: Caller,
    counted: CountedStream,
    after: Option<Cursor>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let head = app.hub.log().head();
    // The stream is counted for as long as its state lives.
    let begin = (app, (caller, counted), head, after);
    stream::try_unfold(begin, async |(app, reader, mut head, after)| {
        let (caller, _) = &reader;
        if !app.is_still_valid(caller).await {
            return Ok(None);
        }
        head.mark_unchanged();
        let entries = app.hub.log().entries(after, READ_MAX).await?;
        if let Some(last) = entries.last() {
            let after = Some(last.cursor);
            app.charge_stream(caller, Entries::Read(entries.len())).await;
            return Ok(Some((frames(&entries), (app, reader, head, after))));
        }
        match timeout(KEEP_ALIVE, head.changed()).await {
            Ok(Err(_)) => Ok(None),
            // A comment, as keep-alive.
            Ok(Ok(())) | Err(_) => {
                Ok(Some((Bytes::from_static(b":\n\n"), (app, reader, head, after))))
            }
        }
    })
}

/// Formats entries as Server-Sent Events (HTML Living Standard, section 9.2). A damaged entry has the
/// event type `damaged`, which `onmessage` does not receive.
fn frames(entries: &[LogEntry]) -> Bytes {
    let frame = |entry: &LogEntry| {
        let kind = if entry.is_damaged() { "event: damaged\n" } else { "" };
        format!("id: {}\n{kind}data: {}\n\n", entry.cursor, entry.json())
    };
    let frames: String = entries.iter().map(frame).collect();
    if frames.is_empty() { Bytes::from_static(b":\n\n") } else { frames.into() }
}
