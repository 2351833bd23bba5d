//! How much a connection may send: messages in a time, and messages that mean nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::auth::{Bucket, Rate};
use crate::presence::Timestamp;

/// How many messages that mean nothing, within how long, end a connection (`protocol_violation`).
const VIOLATIONS_MAX: usize = 10;
/// See [`VIOLATIONS_MAX`].
const VIOLATIONS_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection may send too much on end before it is closed (`rate_limited`).
const EXCESS_MAX: Duration = Duration::from_secs(10);
/// A time without excess after which it begins anew.
const EXCESS_PAUSE: Duration = Duration::from_secs(1);

/// Counts what a connection sends.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bucket: Bucket,
    /// When the present excess began, and when it was last seen.
    excess: Option<(Timestamp, Timestamp)>,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Take it.
    Take,
    /// Refuse it.
    Refuse,
    /// Close the connection.
    Close,
}

impl Traffic {
    /// Counts a message.
    pub(super) fn count(&mut self, rate: &Rate, now: Timestamp) -> Pass {
        if self.bucket.take(rate, now) {
            return Pass::Take;
        }
        let began = match self.excess {
            Some((began, last)) if now - last < EXCESS_PAUSE => began,
            Some(_) | None => now,
        };
        self.excess = Some((began, now));
        if now - began >= EXCESS_MAX { Pass::Close } else { Pass::Refuse }
    }
}

/// Counts messages that mean nothing.
#[derive(Debug, Default)]
pub(super) struct Violations(VecDeque<Timestamp>);

impl Violations {
    /// Counts one; returns whether it was one too many.
    pub(super) fn count(&mut self, now: Timestamp) -> bool {
        self.0.retain(|at| now - *at < VIOLATIONS_WITHIN);
        self.0.push_back(now);
        self.0.len() >= VIOLATIONS_MAX
    }
}
