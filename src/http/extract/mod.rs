//! What handlers take from a request: its query, its body, and the user that its path names.

pub(super) mod place;
pub(super) mod query;
