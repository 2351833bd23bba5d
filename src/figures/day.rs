//! The figures of one day, and how events and samples add to them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sketch::Sketch;
use crate::presence::{Cause, Platform, State, Timestamp, UserId};
use crate::store::{Cursor, LogEntry, Totals};

/// The length of a day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// A user who was `Offline` for no longer than this has blinked.
const BLINK_MAX: Duration = Duration::from_secs(10);

/// The figures of one day, from 00:00 to 24:00 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DayFigures {
    /// When the day began.
    pub day: Timestamp,
    /// The greatest number of users who were `Online` at the same time.
    pub peak_users: u64,
    /// The greatest number of sessions at the same time, `Online` or `PushOnline`.
    pub peak_sessions: u64,
    /// The greatest number of sessions at the same time, by platform.
    pub peak_sessions_by_platform: BTreeMap<String, u64>,
    /// The number of different users with an event, with a standard error of 1.6 %.
    pub users: u64,
    /// Logins that were accepted.
    pub logins: u64,
    /// Sessions that were kicked.
    pub kicks: u64,
    /// The time that all sessions were `Online`, together.
    pub online_ms: u64,
    /// The mean length of a session: `online_ms`, divided by `logins`. Null without a login.
    pub session_ms: Option<u64>,
    /// How often a user went `Offline` and was back within 10 s.
    pub blinks: u64,
}

/// What is counted at present: the figures of a day, and what is needed to continue after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The figures so far.
    pub figures: DayFigures,
    /// The users of the day; `None` once it is over.
    sketch: Option<Sketch>,
    /// All entries of the log up to here are counted.
    pub cursor: Option<Cursor>,
    /// The users who went `Offline` a moment ago, and when.
    #[serde(skip)]
    gone: HashMap<UserId, Timestamp>,
}

impl Count {
    /// Begins the day of a time.
    pub fn of_day(at: Timestamp, cursor: Option<Cursor>) -> Self {
        let figures = DayFigures { day: at.round_down(DAY), ..DayFigures::default() };
        Self { figures, sketch: Some(Sketch::default()), cursor, gone: HashMap::new() }
    }

    /// Whether a time is after the end of this day. A time before its begin is not: the clock was set back a little.
    pub fn is_over_at(&self, at: Timestamp) -> bool {
        at >= self.figures.day + DAY
    }

    /// Ends the day, and begins that of a later time.
    pub fn next_day(&mut self, at: Timestamp) -> Self {
        let mut next = Self::of_day(at, self.cursor);
        next.gone = std::mem::take(&mut self.gone);
        self.sketch = None;
        next
    }

    /// Counts an entry of the log, which is of this day.
    pub fn add(&mut self, entry: &LogEntry) {
        self.cursor = Some(entry.cursor);
        let Ok(transition) = entry.transition() else { return };
        if let Some(sketch) = &mut self.sketch {
            sketch.add(&entry.user);
            self.figures.users = sketch.count();
        }
        match transition.cause {
            Cause::Login => self.figures.logins += 1,
            Cause::Kicked => self.figures.kicks += 1,
            Cause::Resume
            | Cause::Logout
            | Cause::Close
            | Cause::Silence
            | Cause::Background
            | Cause::Exit
            | Cause::Expired
            | Cause::TokenExpired
            | Cause::NodeLost
            | Cause::Custom
            | Cause::Recovered
            | Cause::Visibility
            | Cause::Idle
            | Cause::Active => (),
        }
        let at = transition.at;
        if transition.to == State::Offline && transition.from != State::Offline {
            self.gone.insert(entry.user.clone(), at);
        } else if let Some(gone) = self.gone.remove(&entry.user) {
            let is_back = transition.to == State::Online && at - gone <= BLINK_MAX;
            self.figures.blinks += u64::from(is_back);
        }
        self.update_mean();
    }

    /// Forgets who went `Offline` too long ago to blink.
    pub fn forget_gone(&mut self, now: Timestamp) {
        self.gone.retain(|_, gone| now - *gone <= BLINK_MAX);
    }

    /// Adds a sample of the present sessions; the one before was taken `since` ago.
    pub fn sample(&mut self, totals: &Totals, since: Duration) {
        let figures = &mut self.figures;
        figures.peak_users = figures.peak_users.max(totals.users[State::Online as usize]);
        let mut all = 0;
        for platform in Platform::ALL {
            let (online, push) = (&totals.online, &totals.push_online);
            let sessions = online[platform as usize] + push[platform as usize];
            all += sessions;
            if sessions > 0 {
                let name = platform.name().to_owned();
                let peak = figures.peak_sessions_by_platform.entry(name).or_default();
                *peak = sessions.max(*peak);
            }
        }
        figures.peak_sessions = figures.peak_sessions.max(all);
        let online: u64 = totals.online.iter().sum();
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        figures.online_ms += online * millis;
        self.update_mean();
    }

    fn update_mean(&mut self) {
        let DayFigures { online_ms, logins, .. } = self.figures;
        self.figures.session_ms = online_ms.checked_div(logins);
    }
}
