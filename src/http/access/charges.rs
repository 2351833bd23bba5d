//! Charges callers for what they ask for.
//!
//! The logins of a key at the dashboard count as the key itself: otherwise each further login would give
//! it another budget.

use std::time::Duration;

use super::budget::{CountedStream, Entries};
use super::caller::Caller;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::hub::KeyLimit;

/// The price of a request, whatever it reads.
const REQUEST: f64 = 1.0;
/// When to try again to open an event stream: one ends when its reader leaves.
const STREAM_PAUSE: Duration = Duration::from_secs(15);

impl AppState {
    /// Charges a caller for a request.
    pub(crate) fn charge_request(&self, caller: &Caller) -> Result<(), Problem> {
        self.charge_price(caller, REQUEST)
    }

    /// Charges for the entries that a call is about to read, in addition to the request. A request that is
    /// refused here costs nothing.
    pub(crate) fn charge(&self, caller: &Caller, entries: Entries) -> Result<(), Problem> {
        let charged = self.charge_price(caller, entries.price());
        // Otherwise a caller that only tries again would never save up for a large call.
        charged.inspect_err(|_| self.key_budgets.refund(caller.bearer.mark, REQUEST))
    }

    /// Gives back what a caller was charged for entries that the call did not read.
    pub(crate) fn refund(&self, caller: &Caller, entries: Entries) {
        self.key_budgets.refund(caller.bearer.mark, entries.price());
    }

    /// Charges a caller for entries that an event stream has read; waits until they are paid.
    pub(crate) async fn charge_stream(&self, caller: &Caller, entries: Entries) {
        while let Err(pause) = self.pay(caller, entries.price()) {
            tokio::time::sleep(pause).await;
        }
    }

    fn charge_price(&self, caller: &Caller, price: f64) -> Result<(), Problem> {
        self.pay(caller, price).map_err(|pause| {
            self.note_refusal(caller, KeyLimit::Requests);
            let message = "too many requests with this key, or too many entries read by them \
                           (limits.requests_per_key_per_second): retry after the time in Retry-After";
            Problem::rate_limited(message, pause)
        })
    }

    fn pay(&self, caller: &Caller, price: f64) -> Result<(), Duration> {
        let (rate, now) = (self.settings().requests_per_key, self.hub.clock().now());
        self.key_budgets.pay(caller.bearer.mark, price, &rate, now)
    }

    /// Counts an event stream of a caller, if it may open one more.
    pub(crate) fn open_stream(&self, caller: &Caller) -> Result<CountedStream, Problem> {
        let (key, most) = (caller.bearer.mark, self.settings().streams_per_key);
        self.key_budgets.open_stream(key, most).ok_or_else(|| {
            self.note_refusal(caller, KeyLimit::Streams);
            let message = "too many open event streams with this key (limits.streams_per_key): close one \
                           first";
            Problem::rate_limited(message, STREAM_PAUSE)
        })
    }

    /// Counts and logs a refusal.
    fn note_refusal(&self, caller: &Caller, limit: KeyLimit) {
        self.hub.metrics().key_refused(limit);
        let key = caller.bearer.mark;
        let Some(suppressed) = self.key_budgets.refusals_logged.admit(key, self.hub.clock().now())
        else {
            return;
        };
        let (role, address) = (caller.bearer.role.name(), caller.address);
        let (limit, user) = (limit.setting(), caller.user());
        tracing::warn!(role, %key, user, %address, limit, suppressed, "requests refused: the key is over its limit");
    }
}
