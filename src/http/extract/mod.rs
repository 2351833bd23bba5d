//! Extractors for handlers: the query, the body, and the user in the path.

mod body;
mod named;
mod place;
pub(super) mod query;

pub(super) use self::body::{BODY_BYTES_MAX, JsonBody, read_body};
pub(super) use self::named::Named;
pub(super) use self::place::{
    After, DEAD, HISTORY, LogPlace, Place, SESSIONS, SNAPSHOT, USERS, WATCHERS,
};
pub(super) use self::query::{Limit, QueryParams, UpTo};
