//! The protocol as clients see it: requests, replies, pushes and close codes.
//!
//! A client message is one JSON object in a text frame. A hub message is encoded and framed once, and
//! the same bytes go to every socket.

pub mod close;
mod error;
mod explain;
mod frame;
mod push;
mod request;

pub use self::close::Close;
pub use self::error::{ErrorBody, ErrorCode};
pub use self::explain::{explain, no_object, read_json, show_given};
pub use self::frame::{close_frame, ping_frame, text_frame};
pub use self::push::{KickNotice, KickReason, KickedBy, Push, Reply, ReplyBody, UserStatus};
pub use self::request::{
    LoginRequest, Malformed, PartialLogin, Request, TEXT_BYTES_MAX, USERS_MAX, parse,
};

/// The subprotocol; echoed if a client offers it.
pub const SUBPROTOCOL: &str = "presence-hub.v1";
