use std::time::Duration;

use super::{Patience, Platform, Timestamp, Windows};

/// Decides when one connection has fallen silent, and when it is to be pinged.
///
/// Owned by the connection's actor, never stored; the time it is given is that in which the hub
/// was running. Feed every complete message and control frame to [`heard`](Self::heard), sleep
/// until [`next`](Self::next), then ask [`poll`](Self::poll).
#[derive(Debug)]
pub struct Liveness {
    silence: Patience,
    ping_every: Duration,
    ping_at: Timestamp,
}

/// What must be done for a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Ask whether it is there.
    Ping,
    /// It is lost.
    Silent {
        /// For how long past its window this was not known.
        late: Duration,
    },
}

impl Liveness {
    /// Starts watching a connection that was heard just now.
    pub fn new(platform: Platform, windows: &Windows, now: Timestamp) -> Self {
        let ping_every = windows.ping(platform);
        let silence = Patience::new(windows.silence(platform), now);
        Self { silence, ping_every, ping_at: now + ping_every }
    }

    /// Notes a complete message or control frame.
    pub fn heard(&mut self, now: Timestamp) {
        self.silence.renew(now);
    }

    /// Makes a ping due now: the hub stood still, and did not ask when it should have (T12).
    pub fn ask_now(&mut self, now: Timestamp) {
        self.ping_at = self.ping_at.min(now);
    }

    /// When to [`poll`](Self::poll) next.
    pub fn next(&self) -> Timestamp {
        self.ping_at.min(self.silence.next())
    }

    /// Says what is due; asks for one more look at the socket before it calls a connection silent.
    pub fn poll(&mut self, now: Timestamp) -> Option<Due> {
        if let Some(late) = self.silence.over(now) {
            return Some(Due::Silent { late });
        }
        if now >= self.ping_at {
            self.ping_at = now + self.ping_every;
            return Some(Due::Ping);
        }
        None
    }
}
