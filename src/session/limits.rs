//! Limits what a connection may send: the rate of messages, and the number of malformed ones.

use std::collections::VecDeque;
use std::time::Duration;

use crate::auth::{Bucket, Rate};
use crate::presence::Timestamp;

/// The number of malformed messages within [`VIOLATIONS_WITHIN`] that ends a connection
/// (`protocol_violation`).
const VIOLATIONS_MAX: usize = 10;
/// How long malformed messages are counted.
const VIOLATIONS_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection may exceed its rate before it is closed (`rate_limited`).
const EXCESS_MAX: Duration = Duration::from_secs(10);
/// A longer time between two refused messages is a pause, which is subtracted from the excess.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts the messages of a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bucket: Bucket,
    /// How long the connection has exceeded its rate, and its latest refused message.
    excess: Option<(Duration, Timestamp)>,
}

/// The bytes that cost as much as a frame, or a user in an answer.
const BYTES_PER_WORK: f64 = 256.0;

/// The work of so many frames or users, and so many bytes.
pub(super) fn work(count: usize, bytes: usize) -> f64 {
    count as f64 + bytes as f64 / BYTES_PER_WORK
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Handle it.
    Accept,
    /// Refuse it.
    Refuse,
    /// Close the connection.
    Close,
}

impl Traffic {
    /// Counts a message.
    pub(super) fn count(&mut self, rate: &Rate, now: Timestamp) -> Pass {
        if self.bucket.take(rate, now) {
            return Pass::Accept;
        }
        let excess = match self.excess {
            Some((excess, last)) if now - last < PAUSE => excess + (now - last),
            Some((excess, last)) => excess.saturating_sub(now - last),
            None => Duration::ZERO,
        };
        self.excess = Some((excess, now));
        if excess >= EXCESS_MAX { Pass::Close } else { Pass::Refuse }
    }
}

/// Counts malformed messages.
#[derive(Debug, Default)]
pub(super) struct Violations(VecDeque<Timestamp>);

impl Violations {
    /// Counts one; returns whether the limit is reached.
    pub(super) fn count(&mut self, now: Timestamp) -> bool {
        self.0.retain(|at| now - *at < VIOLATIONS_WITHIN);
        self.0.push_back(now);
        self.0.len() >= VIOLATIONS_MAX
    }
}
