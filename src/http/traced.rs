//! Middleware for the calls of the server API: a span for each.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

use crate::traces::{Span, names, within};

/// Runs a call within a span. It has the path's pattern, because the path itself may have a user id.
pub(super) async fn pass(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let method = request.method().clone();
    let span = Span::begin_call(|| format!("{method} {route}"), request.headers());
    if let Some(span) = &span {
        span.set(names::HTTP_METHOD, method.as_str().to_owned());
        span.set(names::HTTP_ROUTE, route.to_owned());
    }
    let response = within(span.clone(), next.run(request)).await;
    if let Some(span) = &span {
        span.set_status(response.status(), 500);
    }
    response
}
