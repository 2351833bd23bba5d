use std::time::Duration;

use super::Timestamp;

/// How long one more look at the socket may take before a window counts as over (T12): what the
/// kernel already holds came in time.
const LAST_CALL: Duration = Duration::from_millis(100);

/// A window in which something must come from a connection, in the time that the hub was running.
///
/// ```text
///            renew                  window over            nothing came
///   Waiting ───────▶ Waiting ─────────────────▶ LastCall ──────────────▶ over
///      ▲                                           │ renew
///      └───────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub struct Patience {
    window: Duration,
    since: Timestamp,
    last_call: Option<Timestamp>,
}

impl Patience {
    /// Starts waiting.
    pub const fn new(window: Duration, now: Timestamp) -> Self {
        Self { window, since: now, last_call: None }
    }

    /// It came; starts anew.
    pub fn renew(&mut self, now: Timestamp) {
        self.since = self.since.max(now);
        self.last_call = None;
    }

    /// When to ask [`over`](Self::over) next.
    pub fn next(&self) -> Timestamp {
        self.last_call.unwrap_or(self.since + self.window)
    }

    /// For how long past its end the window has been over; asks for one more look first.
    pub fn over(&mut self, now: Timestamp) -> Option<Duration> {
        let end = self.since + self.window;
        if now < end {
            return None;
        }
        let until = *self.last_call.get_or_insert(now + LAST_CALL);
        (now >= until).then(|| now - end)
    }
}
