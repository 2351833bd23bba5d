//! A window that is over when nothing came from a connection, with a last look at the socket.

use std::time::Duration;

use super::Timestamp;

/// How long the socket is still read after the end of a window (T12): data that the kernel already
/// holds came in time.
const LAST_CALL: Duration = Duration::from_millis(100);

/// A window in which something must come from a connection, in the time in which the hub was
/// running.
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
    /// Starts a window now.
    pub const fn new(window: Duration, now: Timestamp) -> Self {
        Self { window, since: now, last_call: None }
    }

    /// Restarts the window, because something came.
    pub fn renew(&mut self, now: Timestamp) {
        self.since = self.since.max(now);
        self.last_call = None;
    }

    /// When to ask [`over`](Self::over) next.
    pub fn next(&self) -> Timestamp {
        self.last_call.unwrap_or(self.since + self.window)
    }

    /// Returns how long ago the window ended, once its last call is over too; the first call after
    /// the end only starts the last call.
    pub fn over(&mut self, now: Timestamp) -> Option<Duration> {
        let end = self.since + self.window;
        if now < end {
            return None;
        }
        let until = *self.last_call.get_or_insert(now + LAST_CALL);
        (now >= until).then(|| now - end)
    }
}
