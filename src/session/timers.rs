//! The timers of one connection: login, token expiry, liveness, slow consumer, pauses.

use std::time::Duration;

use crate::clock::Clock;
use crate::presence::{Liveness, LivenessDue, Patience, Platform, Timestamp, Windows};

/// The timers of one connection. Each is `None` until it is set.
#[derive(Debug)]
pub(super) struct Timers {
    /// Set while the socket is full (V4).
    slow_consumer: Option<SlowConsumer>,
    /// Set while the connection owes work.
    pause: Option<Pause>,
    /// Set until the login.
    login: Option<LoginTimeout>,
    /// Set at the login, as is `liveness`.
    token: Option<TokenNotice>,
    liveness: Option<Liveness>,
    /// The total stall time at the last call of [`allow_for_stalls`](Self::allow_for_stalls).
    stalled_for: Duration,
}

/// A timer that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// The connection owes no more work.
    Pause,
    /// The client read nothing for the window.
    SlowConsumer,
    /// There was no login in time.
    Login,
    /// The client must be told that its token expires soon.
    TokenNotice {
        /// The expiry, on the wall clock.
        expires_at: Timestamp,
    },
    /// A ping must be sent.
    Ping,
    /// Nothing was heard from the client for the window.
    Silence {
        /// How long after the end of the window this was detected.
        late: Duration,
    },
}

/// The present time on both clocks that timers use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// The hub's clock.
    pub(super) now: Timestamp,
    stalled_for: Duration,
    /// The hub's clock without the time of stalls.
    running: Timestamp,
}

impl Present {
    pub(super) fn of(clock: &Clock) -> Self {
        let (now, stalled_for) = clock.now_and_stalled();
        Self { now, stalled_for, running: now - stalled_for }
    }
}

/// One timer.
trait Timer {
    /// The time until [`expire`](Self::expire) must be called; `None` for never.
    fn wait(&self, present: Present) -> Option<Duration>;

    /// Returns what is due, if it is.
    fn expire(&mut self, present: Present) -> Option<Expired>;
}

impl Timers {
    /// Makes the timers of a new connection.
    pub(super) fn new(login_timeout: Duration, present: Present) -> Self {
        Self {
            slow_consumer: None,
            pause: None,
            login: Some(LoginTimeout(Patience::new(login_timeout, present.running))),
            token: None,
            liveness: None,
            stalled_for: present.stalled_for,
        }
    }

    /// All timers that are set. If several are due, they expire in this order.
    fn set(&mut self) -> impl Iterator<Item = &mut dyn Timer> {
        fn row<T: Timer>(timer: &mut Option<T>) -> Option<&mut dyn Timer> {
            timer.as_mut().map(|timer| timer as &mut dyn Timer)
        }
        let Self { slow_consumer, pause, login, token, liveness, stalled_for: _ } = self;
        // The end of a pause comes last: while it lasts, silence proves nothing.
        let rows = [row(slow_consumer), row(login), row(token), row(liveness), row(pause)];
        rows.into_iter().flatten()
    }

    /// The time until the next timer may be due.
    pub(super) fn next(&mut self, present: Present) -> Duration {
        self.set().filter_map(|timer| timer.wait(present)).min().unwrap_or(Duration::MAX)
    }

    /// The time until the next timer for which a clock that is moved must stop: not for pings, nor for the silence
    /// of a client that answers them.
    pub(super) fn next_stop(&mut self, is_heard: bool, present: Present) -> Option<Duration> {
        let liveness = self.liveness.take();
        let others = self.set().filter_map(|timer| timer.wait(present)).min();
        let silent = liveness.as_ref().filter(|_| !is_heard);
        let silent = silent.map(|liveness| liveness.silent_at() - present.running);
        self.liveness = liveness;
        others.into_iter().chain(silent).min()
    }

    /// Whether the client was told that its token expires, and has not shown another.
    pub(super) fn awaits_token(&self) -> bool {
        self.token.as_ref().is_some_and(|notice| notice.at.is_none())
    }

    /// Returns a timer that is due; the caller repeats until `None`.
    pub(super) fn due(&mut self, present: Present) -> Option<Expired> {
        let due = self.set().find_map(|timer| timer.expire(present));
        if due == Some(Expired::Pause) {
            self.pause = None;
        }
        due
    }

    /// Starts or extends the pause of a connection that owes work.
    pub(super) fn set_pause(&mut self, pause: Duration, present: Present) {
        self.pause = Some(Pause(present.now + pause));
    }

    /// Whether the connection owes work.
    pub(super) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Starts liveness detection after the login, and stops the login timeout.
    pub(super) fn set_liveness(&mut self, platform: Platform, windows: &Windows, present: Present) {
        self.login = None;
        self.liveness = Some(Liveness::new(platform, windows, present.running));
    }

    /// Sets the token notice: sent at `notice_at` on the hub's clock, for a token that expires at
    /// `expires_at` on the wall clock.
    pub(super) fn set_token_notice(&mut self, notice_at: Timestamp, expires_at: Timestamp) {
        self.token = Some(TokenNotice { at: Some(notice_at), expires_at });
    }

    /// Starts or restarts the slow-consumer window: the socket is full, or the client read some bytes.
    pub(super) fn set_slow_consumer(&mut self, window: Duration, present: Present) {
        self.slow_consumer = Some(SlowConsumer(Patience::new(window, present.running)));
    }

    /// Stops the slow-consumer window: everything was sent.
    pub(super) fn stop_slow_consumer(&mut self) {
        self.slow_consumer = None;
    }

    /// Whether the socket is full.
    pub(super) const fn is_blocked(&self) -> bool {
        self.slow_consumer.is_some()
    }

    /// Restarts the silence window.
    pub(super) fn heard(&mut self, present: Present) {
        if let Some(liveness) = &mut self.liveness {
            liveness.heard(present.running);
        }
    }

    /// Makes a ping due now if the hub stalled since the last call, because a ping may have been missed
    /// (T12).
    pub(super) fn allow_for_stalls(&mut self, present: Present) {
        let before = std::mem::replace(&mut self.stalled_for, present.stalled_for);
        if let Some(liveness) = &mut self.liveness
            && present.stalled_for > before
        {
            liveness.ask_now(present.running);
        }
    }
}

#[derive(Debug)]
struct SlowConsumer(Patience);

impl Timer for SlowConsumer {
    fn wait(&self, present: Present) -> Option<Duration> {
        Some(self.0.next() - present.running)
    }

    fn expire(&mut self, present: Present) -> Option<Expired> {
        self.0.over(present.running).map(|_| Expired::SlowConsumer)
    }
}

/// Until when the connection is not read, on the hub's clock.
#[derive(Debug)]
struct Pause(Timestamp);

impl Timer for Pause {
    fn wait(&self, present: Present) -> Option<Duration> {
        Some(self.0 - present.now)
    }

    fn expire(&mut self, present: Present) -> Option<Expired> {
        (self.0 <= present.now).then_some(Expired::Pause)
    }
}

#[derive(Debug)]
struct LoginTimeout(Patience);

impl Timer for LoginTimeout {
    fn wait(&self, present: Present) -> Option<Duration> {
        Some(self.0.next() - present.running)
    }

    fn expire(&mut self, present: Present) -> Option<Expired> {
        self.0.over(present.running).map(|_| Expired::Login)
    }
}

#[derive(Debug)]
struct TokenNotice {
    /// On the hub's clock, without allowance for stalls; `None` once the client was told.
    at: Option<Timestamp>,
    expires_at: Timestamp,
}

impl Timer for TokenNotice {
    fn wait(&self, present: Present) -> Option<Duration> {
        self.at.map(|at| at - present.now)
    }

    fn expire(&mut self, present: Present) -> Option<Expired> {
        self.at.take_if(|at| *at <= present.now)?;
        Some(Expired::TokenNotice { expires_at: self.expires_at })
    }
}

impl Timer for Liveness {
    fn wait(&self, present: Present) -> Option<Duration> {
        Some(self.next() - present.running)
    }

    fn expire(&mut self, present: Present) -> Option<Expired> {
        self.poll(present.running).map(|due| match due {
            LivenessDue::Ping => Expired::Ping,
            LivenessDue::Silent { late } => Expired::Silence { late },
        })
    }
}
