//! A batch: the events of one request, with the history of its attempts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::health::Pauses;
use crate::presence::{Timestamp, UserId};
use crate::store::{Cursor, Dead, LogEntry};

/// Events that are posted in one request.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, in order for each user.
    pub entries: Vec<LogEntry>,
    /// When it, or the batch it was split from, was first not accepted.
    pub(super) refused: Option<First>,
    pub(super) attempts: u32,
    pub(super) error: Arc<str>,
    /// The number of failures that one of its events may have caused.
    pub(super) suspicions: u32,
    pub(super) failed_at: Timestamp,
    pub(super) retry_at: Timestamp,
    /// The end of the pause that the receiver asked for with `Retry-After`.
    pub(super) asked_until: Timestamp,
    pub(super) pauses: Pauses,
    /// Whether it is a dead letter that was put back.
    pub(super) revived: bool,
    /// Whether it was taken out of a failing batch to find out whether the receiver works.
    pub(super) is_scout: bool,
}

/// When an event was first not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) at: Timestamp,
    /// How long the receiver had worked by then.
    pub(super) worked: Duration,
}

/// Why a batch was not accepted, and the state of the receiver at that time.
#[derive(Debug, Clone)]
pub struct Setback {
    /// The error message.
    pub error: Arc<str>,
    /// The likely cause.
    pub blame: Blame,
    /// The pause that the receiver asked for.
    pub retry_after: Option<Duration>,
    /// When another request was last accepted.
    pub last_success: Option<Timestamp>,
    /// How long the receiver has worked until now.
    pub worked: Duration,
    /// The working time after which an event is given up.
    pub give_up_after: Duration,
}

/// The likely cause of a request that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// An event in it: the receiver answered and refused it.
    Event,
    /// An event in it, or the receiver: it answered 500 or timed out.
    Unclear,
    /// The receiver: it could not be reached, or asked for a pause.
    Receiver,
}

impl Batch {
    /// Makes a batch of a part of this one's events, with the same history.
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

    /// The number of attempts.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of its events that were tried before: all or none.
    pub const fn again(&self) -> usize {
        if self.attempts > 0 { self.entries.len() } else { 0 }
    }

    /// The number of users in it.
    pub fn users(&self) -> usize {
        self.entries.iter().map(|entry| &entry.user).collect::<HashSet<&UserId>>().len()
    }

    /// The log cursor of its first event.
    pub(super) fn first(&self) -> Option<Cursor> {
        self.entries.first().map(|entry| entry.cursor)
    }

    /// Its approximate size in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(LogEntry::bytes).sum()
    }

    /// Its events as dead letters.
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

    /// Sets the time of its next attempt.
    pub(super) fn again_at(&mut self, at: Timestamp) {
        self.retry_at = at;
    }
}
