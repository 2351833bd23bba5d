//! The rules that every adapter follows: what the log lets go, whom a list has, who is due first.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use super::{Among, Cursor, Retention};
use crate::presence::{Timestamp, UserId};

/// The oldest entry of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Oldest {
    pub(super) cursor: Cursor,
    /// When it happened; `None` where that is damaged.
    pub(super) at: Option<Timestamp>,
    /// How many bytes the log has from this entry to its end.
    pub(super) bytes_from_it: u64,
}

/// What to do with the oldest entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// It goes; the webhook has dealt with it.
    Expire,
    /// It goes, though the webhook has not dealt with it.
    Lose,
}

impl Retention {
    /// Decides about the oldest entry, where the webhook has dealt with everything before `unread`.
    pub(super) fn fate(&self, oldest: &Oldest, unread: Option<Cursor>, now: Timestamp) -> Fate {
        let is_unread = unread.is_some_and(|unread| oldest.cursor >= unread);
        if oldest.at.is_some_and(|at| at >= now - self.log_ttl) {
            Fate::Keep
        } else if !is_unread {
            Fate::Expire
        } else if oldest.bytes_from_it <= self.backlog_bytes_max {
            Fate::Keep
        } else {
            Fate::Lose
        }
    }
}

/// The oldest entry that the webhook has not dealt with: the first that it holds, or the next after its
/// position.
pub(super) fn first_unread(
    held: impl Iterator<Item = Cursor>,
    next: Option<Cursor>,
) -> Option<Cursor> {
    held.chain(next).min()
}

impl Among {
    /// Where a list begins, and whether it begins after that id.
    pub(super) fn begin(&self) -> (&str, bool) {
        match &self.after {
            Some(after) if *after.as_str() >= *self.prefix => (after.as_str(), true),
            Some(_) | None => (&self.prefix, false),
        }
    }

    /// Whether a user is among those whose id begins so; the first who is not ends the list.
    pub(super) fn has_prefix(&self, user: &UserId) -> bool {
        user.as_str().starts_with(&self.prefix)
    }
}

/// Merges the users who are due on each of two clocks, each with for how long: the most overdue first,
/// each user once.
pub(super) fn most_overdue(mut due: Vec<(Duration, UserId)>, limit: usize) -> Vec<UserId> {
    due.sort_by_key(|(by, _)| Reverse(*by));
    let mut seen = HashSet::new();
    let users = due.into_iter().map(|(_, user)| user);
    users.filter(|user| seen.insert(user.clone())).take(limit).collect()
}
