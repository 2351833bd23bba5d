//! The errors that several requests are answered with.

use crate::hub::{Hub, Unavailable};
use crate::presence::Refusal;
use crate::wire::{ErrorBody, ErrorCode};

/// The error for a refusal by the rules.
pub(super) fn refused(refusal: Refusal) -> ErrorBody {
    let (code, message) = match refusal {
        Refusal::Kicked => (ErrorCode::Kicked, "the session was kicked"),
        Refusal::Superseded => (
            ErrorCode::Superseded,
            "resuming would kick or replace a session that is logged in now, or is blocked by one: log in \
             without `resume` to take over",
        ),
        Refusal::LoginConflict(devices) => return ErrorBody::conflict(devices),
        Refusal::TokenRevoked => {
            let message = "the token was issued before its user was kicked with revocation: sign a new \
                           token. If the signer's clock is behind the hub's, wait for the difference";
            (ErrorCode::TokenRevoked, message)
        }
        Refusal::LogQuota => (
            ErrorCode::RateLimited,
            "this user has written too much into the transition log (store.log_bytes_per_user): try again \
             later",
        ),
        Refusal::NotLoggedIn => (ErrorCode::NotLoggedIn, "the user is not logged in"),
        Refusal::TooManyBlocked => (ErrorCode::TooMany, "a user may block at most 200 viewers"),
    };
    ErrorBody::new(code, message)
}

/// The error for a request that failed because of the store.
pub(super) fn unavailable(hub: &Hub, error: &Unavailable) -> ErrorBody {
    hub.store_failed("client request refused: store unavailable", error, None);
    ErrorBody::new(ErrorCode::Unavailable, "the store is unavailable: try again later")
}

/// The error for a second login on one connection.
pub(super) fn already_logged_in() -> ErrorBody {
    ErrorBody::new(ErrorCode::AlreadyLoggedIn, "this connection is already logged in")
}
