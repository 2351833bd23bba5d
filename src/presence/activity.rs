//! Whether a user who is there is also at it: the activity of a terminal (A1).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// A terminal that was not touched for longer than this counts as not touched for this long (A2).
const UNTOUCHED_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether the user is at a terminal (A1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// At it since this time; `None`: since the terminal has its state.
    Active(Option<Timestamp>),
    /// It was last touched then.
    Idle(Timestamp),
}

impl Default for Activity {
    fn default() -> Self {
        Self::Active(None)
    }
}

impl Activity {
    /// That of a terminal that was not touched for so long (A2).
    pub fn untouched_for(time: Duration, wall: Timestamp) -> Self {
        Self::Idle(wall - time.min(UNTOUCHED_MAX))
    }

    /// Whether it is `idle`.
    pub const fn is_idle(self) -> bool {
        matches!(self, Self::Idle(_))
    }

    /// Whether it is what every terminal has at first, so that a record leaves it out.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The activity of a terminal, as its details show it (A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ActivityView {
    /// Whether the user is at the terminal; null unless it is `Online`.
    activity: Option<ActivityName>,
    /// `active`: since when. `idle`: when the terminal was last touched. null unless it is `Online`.
    active_at: Option<Timestamp>,
}

impl ActivityView {
    /// That of an `Online` terminal.
    pub(super) fn online(activity: Activity, online_since: Timestamp) -> Self {
        let (activity, at) = match activity {
            Activity::Active(since) => (ActivityName::Active, since.unwrap_or(online_since)),
            Activity::Idle(at) => (ActivityName::Idle, at),
        };
        Self { activity: Some(activity), active_at: Some(at) }
    }

    /// That of a terminal that is not `Online`.
    pub(super) const NONE: Self = Self { activity: None, active_at: None };
}

/// The name of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ActivityName {
    Active,
    Idle,
}
