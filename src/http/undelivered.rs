//! Computes the backlog of webhooks for `/v1/webhooks`, `/v1/stats` and the metrics.

use std::time::Duration;

use super::problem::Problem;
use super::state::AppState;
use crate::store::Backlog;
use crate::webhook::{ReceiverState, Webhook};

/// The backlog and the dead letters of a webhook.
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
    pub(crate) async fn of(app: &AppState, webhook: &Webhook) -> Result<Self, Problem> {
        let dead_waiting = webhook.dead_waiting().await;
        let shown = webhook.shown();
        if matches!(shown.state, ReceiverState::Off | ReceiverState::Elsewhere) {
            return Ok(Self { backlog: Backlog::default(), age: Duration::ZERO, dead_waiting });
        }
        let mut backlog = app.hub.log().backlog(shown.kept_after).await?;
        let unscanned = app.hub.log().backlog(shown.scanned).await?;
        backlog.entries = unscanned.entries + shown.pending as u64;
        let age = backlog.oldest.map(|oldest| app.hub.clock().wall() - oldest);
        Ok(Self { backlog, age: age.unwrap_or_default(), dead_waiting })
    }

    /// The sum over all webhooks; of the bytes and the age, the greatest, because they read the same log.
    pub(crate) async fn all(app: &AppState) -> Result<Self, Problem> {
        let mut all = Self { backlog: Backlog::default(), age: Duration::ZERO, dead_waiting: 0 };
        for webhook in app.webhooks.all() {
            let Self { backlog, age, dead_waiting } = Self::of(app, &webhook).await?;
            all.backlog.entries += backlog.entries;
            all.backlog.bytes = all.backlog.bytes.max(backlog.bytes);
            all.backlog.oldest = [all.backlog.oldest, backlog.oldest].into_iter().flatten().min();
            all.age = all.age.max(age);
            all.dead_waiting += dead_waiting;
        }
        Ok(all)
    }

    pub(crate) fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }
}
