//! What handlers take from a request: its query, its body, and the user that its path names.

mod body;
mod named;
mod place;
pub(super) mod query;

pub(super) use self::body::{BODY_BYTES_MAX, JsonBody, read_body};
pub(super) use self::named::Named;
pub(super) use self::place::{
    After, DEAD, HISTORY, LogPlace, Place, SESSIONS, SNAPSHOT, USERS, WATCHERS,
};
pub(super) use self::query::{Asked, Limit, UpTo};
