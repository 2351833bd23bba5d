//! Reads the wall clock, and waits for conditions.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// The timeout for something immediate on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Seconds since the Unix epoch.
pub(crate) fn now_secs() -> u64 {
    now_millis() / 1000
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "clients have their own clock")]
pub(crate) fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as u64
}

/// Whether a time from the hub lies between `since` and `later_ms` from now, with 100 ms tolerance.
pub(crate) fn lies_between(at: &Value, since: u64, later_ms: u64) -> bool {
    const APART_MS: u64 = 100;
    let range = since - APART_MS..=now_millis() + later_ms + APART_MS;
    at.as_u64().is_some_and(|at| range.contains(&at))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(3 * SOON, wait).await.unwrap_or_else(|_| panic!("{what} took too long"));
}
