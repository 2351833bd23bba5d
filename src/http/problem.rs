//! HTTP error responses: status, code, message and headers for each error.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::Unavailable;
use crate::presence::InvalidUser;
use crate::store::StoreError;
use crate::wire::ErrorCode;

/// An HTTP error response.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The store's error: logged, but not shown to the client.
    cause: Option<Unavailable>,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    error: ProblemError,
}

/// An error.
#[derive(Serialize, ToSchema)]
struct ProblemError {
    /// For programs.
    code: &'static str,
    /// For people.
    message: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), cause: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Adds what is expected to the message of a 400.
    pub(crate) fn explained(mut self, right: &str) -> Self {
        if self.status == StatusCode::BAD_REQUEST {
            self.message = format!("{}; {right}", self.message);
        }
        self
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.name(), message)
    }

    pub(crate) fn too_many(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::TooMany.name(), message)
    }

    pub(crate) fn invalid_user(given: &str) -> Self {
        let message = format!("{InvalidUser}; got {given}");
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidUser.name(), message)
    }

    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn missing_key() -> Self {
        Self::unauthorized(
            "missing API key: send \"Authorization: Bearer <key>\" or \"X-API-Key: <key>\", with a key \
             of auth.api_keys, auth.admin_keys or auth.viewer_keys",
        )
    }

    pub(crate) fn malformed_authorization() -> Self {
        Self::unauthorized(
            "the Authorization header cannot be read: expected \"Authorization: Bearer <key>\"",
        )
    }

    pub(crate) fn unknown_key() -> Self {
        Self::unauthorized(
            "unknown API key: it is not one of auth.api_keys, auth.admin_keys or auth.viewer_keys of \
             this hub",
        )
    }

    pub(crate) fn too_many_wrong_keys(pause: Duration) -> Self {
        let message = "too many wrong keys from this address: retry after the time in Retry-After";
        Self::rate_limited(message, pause)
    }

    pub(crate) fn rate_limited(message: &str, pause: Duration) -> Self {
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.name(), message);
        // Rounded up, so that who waits as long is not refused again.
        let secs = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        problem.headers.push((header::RETRY_AFTER, HeaderValue::from(secs.max(1))));
        problem
    }

    pub(crate) fn bad_proxy_header() -> Self {
        Self::unauthorized(
            "the proxy's headers with the user or the role cannot be read: each must be there once, in \
             UTF-8; the proxy must replace what the client sent, not add to it",
        )
    }

    pub(crate) fn no_development_key() -> Self {
        let message = "missing or unknown development key: send \"X-Dev-Key: <key>\", with the key in \
                       dev-key in the data directory";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden.name(), message)
    }

    pub(crate) fn no_role(user: &str) -> Self {
        let message = format!(
            "{user:?} is signed in, but has no role here: name one of the user's groups in \
             auth.proxy_admins or auth.proxy_viewers"
        );
        Self::new(StatusCode::FORBIDDEN, "no_role", message)
    }

    pub(crate) fn origin_not_allowed() -> Self {
        let message =
            "pages of this origin may not connect: add the origin to server.allowed_origins";
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "path not found: /openapi.json lists the calls",
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "method not allowed on this path: the Allow header lists the allowed methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(crate) fn timeout() -> Self {
        let message = "the request took too long to arrive";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    pub(crate) fn too_large() -> Self {
        let message = "the body is too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(crate) fn not_logged_in() -> Self {
        let message = "the user is not logged in";
        Self::new(StatusCode::CONFLICT, ErrorCode::NotLoggedIn.name(), message)
    }

    pub(crate) fn conflict(code: &'static str, message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn cursor_expired() -> Self {
        let message = "this cursor is older than the log, or not one of this log: start again with \
                       /v1/snapshot";
        Self::new(StatusCode::GONE, "cursor_expired", message)
    }

    pub(crate) fn damaged() -> Self {
        let message = "this user's record is damaged, so the status is unknown: the user's next login \
                       or a kick replaces the record";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Damaged.name(), message)
    }

    pub(crate) fn upgrade_required() -> Self {
        let message = "this is a WebSocket endpoint: send an upgrade request of version 13";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
            .with(header::UPGRADE, "websocket")
            .with(header::CONNECTION, "Upgrade")
            .with(header::SEC_WEBSOCKET_VERSION, "13")
    }

    pub(crate) fn too_many_from_address() -> Self {
        let message =
            "too many new connections from this address: retry after the time in Retry-After";
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.name(), message)
            .with(header::RETRY_AFTER, "1")
    }

    pub(crate) fn too_many_of_address() -> Self {
        let message = "this address has as many connections as it may have \
                       (limits.sockets_per_address): close some, or retry later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.name(), message)
            .with(header::RETRY_AFTER, "5")
    }

    pub(crate) fn full() -> Self {
        Self::unavailable("the hub has reached server.max_connections: retry later")
    }

    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable.name(), message)
            .with(header::RETRY_AFTER, "5")
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        if error.is_damage() {
            return Self::damaged();
        }
        let problem = Self::unavailable("the store is unavailable: retry later");
        Self { cause: Some(error), ..problem }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error == StoreError::CursorExpired {
            return Self::cursor_expired();
        }
        Unavailable::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = ProblemError { code: self.code, message: self.message };
        let mut response = (self.status, Json(ProblemBody { error })).into_response();
        response.headers_mut().extend(self.headers);
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
