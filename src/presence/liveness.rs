//! Decides when one connection is pinged and when it counts as silent.

use std::time::Duration;

use super::{Patience, Platform, Timestamp, Windows};

/// Pings are sent up to this much earlier, at times that all connections share: one wakeup for many
/// pings costs a fraction of one wakeup each.
const PING_GRAIN: Duration = Duration::from_millis(250);
/// A ping is at most this fraction of its interval early, however short the interval is.
const PING_GRAINS: u32 = 64;

/// Decides when one connection is pinged and when it counts as silent.
///
/// Owned by the connection's actor and never stored. All times are running time, without the hub's
/// stalls. Call [`heard`](Self::heard) for every complete message and control frame, sleep until
/// [`next`](Self::next), then call [`poll`](Self::poll).
#[derive(Debug)]
pub struct Liveness {
    silence: Patience,
    ping_every: Duration,
    ping_at: Timestamp,
}

/// An action that is due for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivenessDue {
    /// Send a ping.
    Ping,
    /// End the connection: it is silent.
    Silent {
        /// How long ago its window ended.
        late: Duration,
    },
}

impl Liveness {
    /// Starts with a connection that was heard just now.
    pub fn new(platform: Platform, windows: &Windows, now: Timestamp) -> Self {
        let ping_every = windows.ping(platform);
        let silence = Patience::new(windows.silence(platform), now);
        Self { silence, ping_every, ping_at: ping_at(ping_every, now) }
    }

    /// Notes a complete message or control frame.
    pub fn heard(&mut self, now: Timestamp) {
        self.silence.renew(now);
    }

    /// Makes a ping due now, because a stall of the hub may have delayed it (T12).
    pub fn ask_now(&mut self, now: Timestamp) {
        self.ping_at = self.ping_at.min(now);
    }

    /// When to [`poll`](Self::poll) next.
    pub fn next(&self) -> Timestamp {
        self.ping_at.min(self.silence.next())
    }

    /// When it counts as silent if nothing is heard; after its window, when the last look at the socket is over.
    pub fn silent_at(&self) -> Timestamp {
        self.silence.next()
    }

    /// Returns the action that is due. A connection counts as silent only after one more look at the
    /// socket.
    pub fn poll(&mut self, now: Timestamp) -> Option<LivenessDue> {
        if let Some(late) = self.silence.over(now) {
            return Some(LivenessDue::Silent { late });
        }
        if now >= self.ping_at {
            self.ping_at = ping_at(self.ping_every, now);
            return Some(LivenessDue::Ping);
        }
        None
    }
}

/// When to ping next: one interval from now, rounded down to a time that all connections share.
fn ping_at(every: Duration, now: Timestamp) -> Timestamp {
    (now + every).round_down(PING_GRAIN.min(every / PING_GRAINS))
}
