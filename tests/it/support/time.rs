//! What the clock says, and waiting for what takes a moment.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// How long a busy machine may take for what happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Seconds since the Unix epoch.
pub(crate) fn now_secs() -> u64 {
    now_millis() / 1000
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "a client has a clock of its own")]
pub(crate) fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as u64
}

/// Whether a time that the hub tells lies between then and `later_ms` from now, but for what the
/// clocks may be apart.
pub(crate) fn lies_between(at: &Value, since: u64, later_ms: u64) -> bool {
    const APART_MS: u64 = 100;
    let range = since - APART_MS..=now_millis() + later_ms + APART_MS;
    at.as_u64().is_some_and(|at| range.contains(&at))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(3 * SOON, wait).await.unwrap_or_else(|_| panic!("{what} took too long"));
}
