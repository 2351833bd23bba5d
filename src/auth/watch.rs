//! The list of users that a token may watch.

use crate::presence::UserId;

/// The users that a token may subscribe to or query: ids, or prefixes that end in `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList(Vec<String>);

impl WatchList {
    /// Makes a list of ids and prefixes.
    pub const fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether the list covers a user.
    pub fn covers(&self, user: &UserId) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => user.as_str().starts_with(prefix),
            None => user.as_str() == pattern,
        })
    }
}
