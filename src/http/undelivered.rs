//! Computes the webhook's backlog for `/v1/webhooks`, `/v1/stats` and the metrics.

use std::time::Duration;

use super::problem::Problem;
use super::state::AppState;
use crate::store::Backlog;
use crate::webhook::ReceiverState;

/// The webhook's backlog and dead letters.
pub(crate) struct Undelivered {
    /// The pending events, including those waiting for a retry; the bytes that the log keeps for the
    /// webhook, from the oldest pending event on; and the time of that event.
    pub(crate) backlog: Backlog,
    /// The age of the oldest pending event.
    pub(crate) age: Duration,
    /// Dead letters that were neither retried nor dropped, even if the webhook is off now.
    pub(crate) dead_waiting: u64,
}

impl Undelivered {
    pub(crate) async fn now(app: &AppState) -> Result<Self, Problem> {
        let dead_waiting = app.webhook.dead_waiting().await;
        let shown = app.webhook.shown();
        if matches!(shown.state, ReceiverState::Off | ReceiverState::Elsewhere) {
            return Ok(Self { backlog: Backlog::default(), age: Duration::ZERO, dead_waiting });
        }
        let mut backlog = app.hub.log().backlog(shown.kept_after).await?;
        let unscanned = app.hub.log().backlog(shown.scanned).await?;
        backlog.entries = unscanned.entries + shown.pending as u64;
        let age = backlog.oldest.map(|oldest| app.hub.clock().wall() - oldest);
        Ok(Self { backlog, age: age.unwrap_or_default(), dead_waiting })
    }

    pub(crate) fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }
}
