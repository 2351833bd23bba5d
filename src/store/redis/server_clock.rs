//! The clock of one Redis server, as this node estimates it.

use std::time::Instant;

use parking_lot::Mutex;

/// When the server said what time it is.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<(Instant, u64)>>);

impl ServerClock {
    /// Notes the server's time in milliseconds, as an answer bore it.
    pub(super) fn note(&self, sent: Instant, answered: Instant, server_ms: u64) {
        *self.0.lock() = Some((sent + (answered - sent) / 2, server_ms));
    }

    /// The server's time in milliseconds.
    pub(super) fn now(&self, now: Instant) -> u64 {
        self.0.lock().map_or(0, |(at, server_ms)| {
            let since = now.saturating_duration_since(at).as_millis();
            server_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
        })
    }
}
