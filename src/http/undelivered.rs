//! What the webhook has still to deliver, as its call, the counts and the metrics show it.

use std::time::Duration;

use super::door::Door;
use super::problem::Problem;
use crate::store::Backlog;
use crate::webhook::Condition;

/// What the webhook has still to deliver, and what it gave up.
pub(crate) struct Undelivered {
    /// The events that are pending, those that wait for another attempt included; the bytes that the
    /// log keeps for the webhook, from the first pending event on; and when that event happened.
    pub(crate) backlog: Backlog,
    /// How long ago that was.
    pub(crate) age: Duration,
    /// Dead letters that wait for a decision, whether there is a webhook now or not.
    pub(crate) dead_waiting: u64,
}

impl Undelivered {
    pub(crate) async fn now(door: &Door) -> Result<Self, Problem> {
        let dead_waiting = door.webhook.dead_waiting().await;
        let shown = door.webhook.shown();
        if shown.state == Condition::Off {
            return Ok(Self { backlog: Backlog::default(), age: Duration::ZERO, dead_waiting });
        }
        let mut backlog = door.hub.store().backlog(shown.kept_after).await?;
        let unscanned = door.hub.store().backlog(shown.scanned).await?;
        backlog.entries = unscanned.entries + shown.pending as u64;
        let age = backlog.oldest.map(|oldest| door.hub.clock().wall() - oldest);
        Ok(Self { backlog, age: age.unwrap_or_default(), dead_waiting })
    }

    pub(crate) fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }
}
