//! Whom a viewer may watch (P1).

use super::UserId;

/// The users that a token may watch: ids, or prefixes that end in `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watchable(Vec<String>);

impl Watchable {
    /// Makes it of ids and prefixes.
    pub const fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether a user is among them.
    pub fn covers(&self, user: &UserId) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => user.as_str().starts_with(prefix),
            None => user.as_str() == pattern,
        })
    }
}
