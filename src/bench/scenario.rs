//! The scenarios: their names, sizes and durations.

use std::fmt;

use clap::ValueEnum;

/// The number of users that every watcher of fanout watches.
pub(super) const BURST: u32 = 60;
/// The number of users in one call of status.
pub(super) const STATUS_USERS: u32 = 500;
/// The number of users of twins: 300 pairs.
const TWINS: u32 = 600;

/// A load to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Scenario {
    /// Memory of sessions that each watch one other.
    Idle,
    /// Processor time of sessions that only answer pings, at the default interval.
    Pings,
    /// Many watchers of one user, and of 60 users that change at once.
    Fanout,
    /// Users that watch each other, 200 changes a second.
    Mesh,
    /// The mesh with 2,000 changes a second.
    MeshBusy,
    /// Users that are each watched by one session, on another hub if there are several; 2,000 changes a
    /// second.
    Pairs,
    /// The mesh with custom statuses, and with users who are away and back: what each costs.
    Away,
    /// Connect, log in and subscribe, 200 at once.
    Storm,
    /// Logins that each kick a session.
    Kick,
    /// The server API: POST /v1/status with 500 users.
    Status,
    /// Log in and leave, repeated: memory over time.
    Churn,
    /// Clients that reconnect and name 200 contacts each, and the same clients with watch lists.
    Lists,
    /// Users who are invisible to a viewer, and others who are Offline: who is answered later.
    Twins,
}

impl Scenario {
    /// The default number of sessions.
    pub(super) const fn sessions(self) -> u32 {
        match self {
            Self::Idle => 15_000,
            Self::Pings | Self::Storm | Self::Churn | Self::Lists => 10_000,
            Self::Fanout | Self::Mesh | Self::MeshBusy | Self::Pairs | Self::Away | Self::Kick => {
                5_000
            }
            Self::Status => STATUS_USERS,
            Self::Twins => TWINS,
        }
    }

    /// The number of connections that are open at once.
    pub(super) const fn open(self, sessions: u32) -> u32 {
        match self {
            Self::Fanout => sessions + BURST,
            Self::Kick | Self::Lists => sessions * 2,
            Self::Twins => sessions + 1,
            Self::Idle
            | Self::Pings
            | Self::Mesh
            | Self::MeshBusy
            | Self::Pairs
            | Self::Away
            | Self::Storm
            | Self::Status
            | Self::Churn => sessions,
        }
    }

    /// The default duration in seconds.
    pub(super) const fn seconds(self) -> u64 {
        match self {
            Self::Pings => 40,
            Self::Churn => 600,
            Self::Idle
            | Self::Fanout
            | Self::Mesh
            | Self::MeshBusy
            | Self::Pairs
            | Self::Away
            | Self::Storm
            | Self::Kick
            | Self::Status
            | Self::Lists
            | Self::Twins => 15,
        }
    }

    /// Whether it is measured unless others are named.
    pub(super) const fn is_default(self) -> bool {
        !matches!(self, Self::Churn | Self::Pairs | Self::Away | Self::Lists | Self::Twins)
    }

    /// Whether the store affects the result.
    pub(super) const fn is_of_the_store(self) -> bool {
        matches!(self, Self::Idle | Self::Storm)
    }

    /// Whether the floor supports it.
    pub(super) const fn has_floor(self) -> bool {
        !matches!(
            self,
            Self::Kick | Self::Status | Self::Pings | Self::Away | Self::Lists | Self::Twins
        )
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A measured value.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) value: f64,
}

/// The median; the upper one of an even number.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
