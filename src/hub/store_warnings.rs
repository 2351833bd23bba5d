//! Warnings that the store failed: at most one of a kind each minute.

use super::{Hub, Unavailable};
use crate::presence::UserId;
use crate::throttle::Throttle;

impl Hub {
    /// Logs a warning that the store failed, at most once a minute for each `what`. Otherwise a failing
    /// store would log a line for each request.
    pub fn store_failed(&self, what: &'static str, error: &Unavailable, user: Option<&UserId>) {
        let admitted = self.store_warnings.lock().entry(what).or_default().admit(self.clock.now());
        let Some(suppressed) = admitted else { return };
        let user = user.map(UserId::as_str);
        tracing::warn!(%error, user, suppressed, "{what}");
    }

    /// Resets the throttles when the store works again; returns how many warnings were suppressed.
    pub(super) fn reset_store_warnings(&self) -> u64 {
        let store_warnings = std::mem::take(&mut *self.store_warnings.lock());
        store_warnings.values().map(Throttle::suppressed).sum()
    }
}
