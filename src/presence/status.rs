//! The status of a user: what watchers, queries and webhooks see.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Platform, Timestamp};

/// A user's state as others see it; a later variant outranks an earlier one (S3).
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
pub enum State {
    /// No terminal.
    #[default]
    Offline,
    /// No connection, but a phone still wants push.
    PushOnline,
    /// Connected, or not yet known to be lost.
    Online,
}

impl State {
    /// The name as clients read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "Offline",
            Self::PushOnline => "PushOnline",
            Self::Online => "Online",
        }
    }
}

/// A text that is not the name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected Online, PushOnline or Offline")]
pub struct UnknownState;

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let states = [Self::Offline, Self::PushOnline, Self::Online];
        states.into_iter().find(|state| state.name() == text).ok_or(UnknownState)
    }
}

/// What watchers, queries and webhooks see of a user (V1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The best state of any terminal (S3).
    pub state: State,
    /// The platforms now `Online`, sorted, each once.
    pub platforms: Vec<Platform>,
    /// The custom status; cleared when the user becomes `Offline`.
    pub custom: Option<Arc<str>>,
    /// When `state` last changed; null for a user who was never seen or is forgotten (S4).
    pub since: Option<Timestamp>,
    /// When any terminal was last heard before the user left `Online`; null while `Online`.
    pub last_seen: Option<Timestamp>,
    /// Grows with every change (V2); 0 for a user who was never seen or is forgotten.
    pub version: u64,
    /// Whether the user is `Online`, but at none of the devices (A1).
    #[serde(default)]
    pub away: bool,
    /// Whether everybody else sees the user as `Offline` (P2). Only the user and the back end see it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Status {
    /// Whether the two are equal except for their versions (V6).
    pub fn looks_like(&self, other: &Self) -> bool {
        let Self { state, platforms, custom, since, last_seen, version: _, away, hidden } = self;
        *state == other.state
            && *platforms == other.platforms
            && *custom == other.custom
            && *since == other.since
            && *last_seen == other.last_seen
            && *away == other.away
            && *hidden == other.hidden
    }
}
