use std::time::Duration;

use super::{Patience, Platform, Timestamp, Windows};

/// How much earlier a ping may go out, that it goes together with others: a wakeup for all of them
/// costs a fraction of one for each.
const PING_GRAIN: Duration = Duration::from_millis(250);
/// The part of its interval that this may be.
const PING_GRAINS: u32 = 64;

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
        Self { silence, ping_every, ping_at: ping_at(ping_every, now) }
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
            self.ping_at = ping_at(self.ping_every, now);
            return Some(Due::Ping);
        }
        None
    }
}

/// When to ping next: a ping interval from now, or just before, at a time that all connections share.
fn ping_at(every: Duration, now: Timestamp) -> Timestamp {
    (now + every).round_down(PING_GRAIN.min(every / PING_GRAINS))
}
