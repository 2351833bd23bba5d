use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::health::Pauses;
use crate::presence::{Timestamp, UserId};
use crate::store::{Cursor, Dead, LogEntry};

/// Events that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events; each user's in order.
    pub entries: Vec<LogEntry>,
    /// When it was first not accepted, or what it is a part of.
    pub(super) refused: Option<First>,
    pub(super) attempts: u32,
    pub(super) error: Arc<str>,
    /// How often it failed in a way that one of its events may be the cause of.
    pub(super) suspicions: u32,
    /// When it last failed.
    pub(super) failed_at: Timestamp,
    pub(super) retry_at: Timestamp,
    /// Until then the receiver has asked to be left alone with it.
    pub(super) asked_until: Timestamp,
    pub(super) pauses: Pauses,
    /// Whether it is a dead letter that was put back.
    pub(super) revived: bool,
    /// Whether it was taken out of a batch to see if that batch's other users are the cause.
    pub(super) is_scout: bool,
}

/// When something was first not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) at: Timestamp,
    /// For how long the receiver had worked then.
    pub(super) worked: Duration,
}

/// Why a batch was not accepted, and what is known of the receiver.
#[derive(Debug, Clone)]
pub struct Setback {
    /// What happened.
    pub error: Arc<str>,
    /// Who is to blame.
    pub blame: Blame,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// When something else was accepted last.
    pub last_success: Option<Timestamp>,
    /// For how long the receiver has worked until now.
    pub worked: Duration,
    /// After how long of that an event is given up.
    pub give_up_after: Duration,
}

/// Who is to blame for a request that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// An event in it: the receiver answers and refuses it.
    Event,
    /// An event in it may be the cause, as of an answer 500 or a time-out; or the receiver is.
    Unclear,
    /// The receiver: it could not be reached, or asks to be left alone.
    Receiver,
}

impl Batch {
    /// A part of this one, to be tried again then.
    pub(super) fn part(&self, entries: Vec<LogEntry>, retry_at: Timestamp) -> Self {
        Self {
            entries,
            refused: self.refused,
            attempts: self.attempts,
            error: Arc::clone(&self.error),
            suspicions: self.suspicions,
            failed_at: self.failed_at,
            retry_at,
            asked_until: self.asked_until,
            ..Self::default()
        }
    }

    /// How often it was tried.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How many of its events were tried before.
    pub const fn again(&self) -> usize {
        if self.attempts > 0 { self.entries.len() } else { 0 }
    }

    /// How many users it is about.
    pub fn users(&self) -> usize {
        self.entries.iter().map(|entry| &entry.user).collect::<HashSet<&UserId>>().len()
    }

    /// The place of its first event.
    pub(super) fn first(&self) -> Option<Cursor> {
        self.entries.first().map(|entry| entry.cursor)
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(LogEntry::bytes).sum()
    }

    /// Its events, given up.
    pub fn dead(&self, at: Timestamp) -> Vec<Dead> {
        let dead = |entry: &LogEntry| Dead {
            entry: entry.clone(),
            at,
            attempts: self.attempts,
            last_error: Arc::clone(&self.error),
        };
        self.entries.iter().map(dead).collect()
    }

    /// Whether it is a dead letter that was put back.
    pub const fn is_revived(&self) -> bool {
        self.revived
    }

    /// Has it wait that long.
    pub(super) fn again_at(&mut self, at: Timestamp) {
        self.retry_at = at;
    }
}
