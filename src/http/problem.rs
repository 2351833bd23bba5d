//! Refusals by HTTP: which status, code and headers fit which error.

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

/// A refusal by HTTP.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the store said, where it failed: for the log, not for the client.
    cause: Option<Unavailable>,
}

/// A refusal.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    error: ProblemError,
}

/// What is wrong.
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

    /// Adds what would have been right, where the request was wrong.
    pub(crate) fn explained(mut self, right: &str) -> Self {
        if self.status == StatusCode::BAD_REQUEST {
            self.message = format!("{}; {right}", self.message);
        }
        self
    }

    /// The error's code.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.name(), message)
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
        let message = "too many wrong keys from this address: wait a little";
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.name(), message);
        let pause = HeaderValue::from(pause.as_secs().max(1));
        problem.headers.push((header::RETRY_AFTER, pause));
        problem
    }

    pub(crate) fn no_development_key() -> Self {
        let message = "missing or unknown development key: send \"X-Dev-Key: <key>\", with the key in \
                       dev-key in the data directory";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden.name(), message)
    }

    pub(crate) fn origin_not_allowed() -> Self {
        let message = "pages of this origin may not connect";
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "no such path: /openapi.json lists the calls")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this path does not take this method: the Allow header lists those it takes";
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
        let message = "the log does not reach back that far, or this is no cursor of it: begin anew \
                       with /v1/snapshot";
        Self::new(StatusCode::GONE, "cursor_expired", message)
    }

    pub(crate) fn damaged() -> Self {
        let message = "this user's record is damaged, so its status is unknown: it begins anew with the \
                       user's next login, or with a kick";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Damaged.name(), message)
    }

    pub(crate) fn upgrade_required() -> Self {
        let message = "this is a WebSocket endpoint, of version 13";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
            .with(header::UPGRADE, "websocket")
            .with(header::CONNECTION, "Upgrade")
            .with(header::SEC_WEBSOCKET_VERSION, "13")
    }

    pub(crate) fn too_many_from_address() -> Self {
        let message = "too many connections from this address";
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited.name(), message)
            .with(header::RETRY_AFTER, "1")
    }

    pub(crate) fn full() -> Self {
        Self::unavailable("there are as many connections as there may be")
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
        let problem = Self::unavailable("the store cannot be reached now: try again");
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
