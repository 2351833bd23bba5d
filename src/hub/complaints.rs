//! Warnings that the store failed, at most one of a kind each minute.

use super::{Hub, Unavailable};
use crate::presence::UserId;
use crate::throttle::Throttle;

impl Hub {
    /// Warns that the store did not do something: of the same kind at most once a minute, however
    /// many requests a failing store refuses meanwhile.
    pub fn store_failed(&self, what: &'static str, error: &Unavailable, user: Option<&UserId>) {
        let admitted = self.complaints.lock().entry(what).or_default().admit(self.clock.now());
        let Some(suppressed) = admitted else { return };
        let user = user.map(UserId::as_str);
        tracing::warn!(%error, user, suppressed, "{what}");
    }

    /// Begins anew, as the store works again; returns how many warnings were suppressed since.
    pub(super) fn end_complaints(&self) -> u64 {
        let complaints = std::mem::take(&mut *self.complaints.lock());
        complaints.values().map(Throttle::suppressed).sum()
    }
}
