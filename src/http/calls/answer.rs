//! Builds large JSON responses: lists, and pages of the transition log.

use std::fmt;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{DamagedEvent, Event, LogEntry};

/// A response with many values. serde_json writes to a vector faster than to the writer of
/// [`Json`](axum::Json).
pub(crate) fn many(values: &impl Serialize) -> Response {
    let json = serde_json::to_vec(values)
        .unwrap_or_else(|error| unreachable!("plain values make JSON: {error}"));
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A page of the transition log.
#[derive(ToSchema)]
#[expect(dead_code, reason = "`log_page` writes it, from events that are JSON already")]
pub(super) struct EventPage<'a> {
    events: Vec<Event<'a>>,
    /// The cursor for the next page.
    next: Option<String>,
    /// Damaged events, which are left out above; absent if there are none.
    #[schema(required = false)]
    damaged: Vec<DamagedEvent<'a>>,
}

/// Writes an [`EventPage`].
pub(super) fn log_page(entries: &[LogEntry], next: Option<impl fmt::Display>) -> Response {
    let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
    let events = LogEntry::array(entries);
    let damaged = LogEntry::damaged_array(entries).map(|damaged| format!(",\"damaged\":{damaged}"));
    let damaged = damaged.unwrap_or_default();
    let body = format!("{{\"events\":{events},\"next\":{next}{damaged}}}");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
