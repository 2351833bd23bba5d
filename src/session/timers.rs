//! The timers of one connection in one table: what is next, and what is due.

use std::time::Duration;

use crate::clock::Clock;
use crate::presence::{Liveness, LivenessDue, Patience, Platform, Timestamp, Windows};

/// What a connection waits for. Each timer is `None` until it is set.
#[derive(Debug)]
pub(super) struct Timers {
    /// Set while something waits for the client: how long it may take none of it (V4).
    slow_consumer: Option<SlowConsumer>,
    /// Set until the login.
    login: Option<LoginTimeout>,
    /// Set by the login, like the last.
    token: Option<TokenNotice>,
    liveness: Option<Liveness>,
    /// For how long the hub had stood still when the timers last allowed for it.
    stood_still: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// The client took nothing of what waits for it.
    SlowConsumer,
    /// No login came.
    Login,
    /// The client is to be told that its token expires then.
    TokenNotice {
        /// When, on the wall clock.
        expires_at: Timestamp,
    },
    /// The client is to be pinged.
    Ping,
    /// Nothing was heard from the client.
    Silence {
        /// For how long past the window that was not known.
        late: Duration,
    },
}

/// The present, on both of the clocks that timers run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// The process's own time.
    pub(super) now: Timestamp,
    stood_still: Duration,
    /// The process's own time, less the time in which the hub stood still.
    running: Timestamp,
}

impl Present {
    pub(super) fn of(clock: &Clock) -> Self {
        let (now, stood_still) = clock.look();
        Self { now, stood_still, running: now - stood_still }
    }
}

/// One row of the table.
trait Timer {
    /// How long until it must be asked whether it is due; `None` if it never will be.
    fn wait(&self, present: Present) -> Option<Duration>;

    /// Says what is due, if it is.
    fn expire(&mut self, present: Present) -> Option<Expired>;
}

impl Timers {
    /// The timers of a connection that has just begun.
    pub(super) fn new(login_timeout: Duration, present: Present) -> Self {
        Self {
            slow_consumer: None,
            login: Some(LoginTimeout(Patience::new(login_timeout, present.running))),
            token: None,
            liveness: None,
            stood_still: present.stood_still,
        }
    }

    /// Every timer that is set, in the order in which they expire when several are due.
    fn set(&mut self) -> impl Iterator<Item = &mut dyn Timer> {
        fn row<T: Timer>(timer: &mut Option<T>) -> Option<&mut dyn Timer> {
            timer.as_mut().map(|timer| timer as &mut dyn Timer)
        }
        let Self { slow_consumer, login, token, liveness, stood_still: _ } = self;
        [row(slow_consumer), row(login), row(token), row(liveness)].into_iter().flatten()
    }

    /// How long until something may be due.
    pub(super) fn next(&mut self, present: Present) -> Duration {
        self.set().filter_map(|timer| timer.wait(present)).min().unwrap_or(Duration::MAX)
    }

    /// What is due now; to be asked until there is nothing more.
    pub(super) fn due(&mut self, present: Present) -> Option<Expired> {
        self.set().find_map(|timer| timer.expire(present))
    }

    /// The client has logged in: its silence counts from now on.
    pub(super) fn set_liveness(&mut self, platform: Platform, windows: &Windows, present: Present) {
        self.login = None;
        self.liveness = Some(Liveness::new(platform, windows, present.running));
    }

    /// The client has a token that expires at `expires_at` on the wall clock; it is told so at
    /// `notice_at`, on the process's own time.
    pub(super) fn set_token_notice(&mut self, notice_at: Timestamp, expires_at: Timestamp) {
        self.token = Some(TokenNotice { at: Some(notice_at), expires_at });
    }

    /// Something waits for the client, or the client has just taken some of it.
    pub(super) fn set_slow_consumer(&mut self, window: Duration, present: Present) {
        self.slow_consumer = Some(SlowConsumer(Patience::new(window, present.running)));
    }

    /// The client has taken all that waited for it.
    pub(super) fn stop_slow_consumer(&mut self) {
        self.slow_consumer = None;
    }

    /// Whether something waits for the client.
    pub(super) const fn is_blocked(&self) -> bool {
        self.slow_consumer.is_some()
    }

    /// The client was heard.
    pub(super) fn heard(&mut self, present: Present) {
        if let Some(liveness) = &mut self.liveness {
            liveness.heard(present.running);
        }
    }

    /// Makes a ping due now if the hub stood still since the last call: it did not ping when it
    /// should have (T12).
    pub(super) fn allow_for_stalls(&mut self, present: Present) {
        let before = std::mem::replace(&mut self.stood_still, present.stood_still);
        if let Some(liveness) = &mut self.liveness
            && present.stood_still > before
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
    /// On the process's own time, which no stall moves; `None` once the client was told.
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
