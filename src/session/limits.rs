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
/// A pause of this length ends the excess.
const EXCESS_PAUSE: Duration = Duration::from_secs(1);

/// Counts the messages of a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bucket: Bucket,
    /// The first and the latest message of the present excess.
    excess: Option<(Timestamp, Timestamp)>,
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
        let began = match self.excess {
            Some((began, last)) if now - last < EXCESS_PAUSE => began,
            Some(_) | None => now,
        };
        self.excess = Some((began, now));
        if now - began >= EXCESS_MAX { Pass::Close } else { Pass::Refuse }
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
