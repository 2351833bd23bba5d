//! Extractors for handlers: the query, the body, and the user in the path.

mod body;
mod page_token;
pub(super) mod query;
mod user_path;

pub(super) use self::body::{BODY_BYTES_MAX, JsonBody, read_body};
pub(super) use self::page_token::{
    After, DEAD, HISTORY, LogCursor, PageToken, SESSIONS, SNAPSHOT, USERS, WATCHERS,
};
pub(super) use self::query::{Limit, QueryParams, UpTo};
pub(super) use self::user_path::UserPath;
