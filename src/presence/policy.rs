//! The settings of the rules: login policy, silence windows, and how long things are remembered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Platform, Watchable};

/// The maximum number of sessions of one user (L2).
pub const SESSIONS_MAX: usize = 100;
/// The maximum number of tabs of one browser (L5).
pub const TABS_MAX: usize = 20;
/// The maximum number of devices in one slot (L2).
pub const INSTANCES_MAX: u8 = 100;

/// All settings that affect the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which devices may be logged in together.
    pub login: LoginPolicy,
    /// Silence windows, graces and ping intervals.
    pub windows: Windows,
    /// How long an `Offline` user is remembered (S4).
    pub record_ttl: Duration,
    /// The maximum lifetime of a token, and so of a revocation (L9).
    pub max_token_ttl: Duration,
    /// How much one user may write into the transition log (V7).
    pub log_quota: LogQuota,
    /// The users that a token without a `watch` claim may watch (P1).
    pub default_watch: Watchable,
}

/// How much one user may write into the transition log: `bytes` at once, then as much again within each
/// `within`. Beyond it the user's `set` and `background` are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQuota {
    /// The bytes.
    pub bytes: u64,
    /// How long the log keeps an entry.
    pub within: Duration,
}

/// Silence windows, graces and ping intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// The ping interval of web pages and mini-programs (T13).
    pub web_ping: Duration,
    /// The silence after which a web page or mini-program is lost (T5).
    pub web_silence: Duration,
    /// The ping interval of native apps (T13).
    pub native_ping: Duration,
    /// The silence after which a native app is lost (T4).
    pub native_silence: Duration,
    /// How long a mini-program may stay in the background (T6).
    pub background: Duration,
    /// How long a mini-program that was left by its close button may take to come back (T7).
    pub exit: Duration,
    /// How long a phone stays `PushOnline` (T8).
    pub push_online_ttl: Duration,
    /// How long a web page whose connection closed may take to resume before it ends (T3).
    pub web_close_grace: Duration,
}

impl Windows {
    /// The silence after which a connection on this platform is lost.
    pub const fn silence(&self, platform: Platform) -> Duration {
        if platform.is_native() { self.native_silence } else { self.web_silence }
    }

    /// The ping interval of connections on this platform.
    pub const fn ping(&self, platform: Platform) -> Duration {
        if platform.is_native() { self.native_ping } else { self.web_ping }
    }

    /// The longest time for which a session is held after its hub died (T11).
    pub fn longest_silence(&self) -> Duration {
        self.web_silence.max(self.native_silence)
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            web_ping: Duration::from_secs(20),
            web_silence: Duration::from_secs(60),
            native_ping: Duration::from_secs(120),
            native_silence: Duration::from_secs(400),
            background: Duration::from_secs(30),
            exit: Duration::from_secs(4),
            push_online_ttl: Duration::from_secs(7 * 24 * 3600),
            web_close_grace: Duration::from_secs(1),
        }
    }
}

/// Which devices of one user may be logged in together (L1 to L5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginPolicy {
    groups: Groups,
    /// Indexed by slot.
    max_instances: [u8; Platform::ALL.len()],
    miniprogram_as_web: bool,
    /// What happens on a conflict (L3).
    pub on_conflict: OnConflict,
    /// Whether the tabs of one browser coexist (L5).
    pub web_tabs: WebTabs,
}

/// What happens if a login conflicts with other devices (L3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The new login kicks the other devices.
    #[default]
    KickOld,
    /// The new login is refused if one of the others is `Online`.
    RejectNew,
}

/// What happens when a browser opens a second tab (L5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebTabs {
    /// The tabs coexist.
    #[default]
    Share,
    /// The second tab ends the first.
    Replace,
}

/// A policy with predefined groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// One group for all platforms.
    Single,
    /// Two groups: native and web.
    Dual,
    /// Three groups: mobile, desktop and web.
    Triple,
    /// One group for each slot.
    Multi,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] = [Self::Single, Self::Dual, Self::Triple, Self::Multi];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Dual => "dual",
            Self::Triple => "triple",
            Self::Multi => "multi",
        }
    }
}

/// The partition of the platforms into groups (L1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// The groups of a preset.
    Preset(Preset),
    /// Groups from the configuration; each list is one group.
    Custom(Vec<Vec<Platform>>),
}

/// Why a login policy is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// A platform is listed twice (L1).
    #[error("{0} is listed twice: each platform must be in exactly one group, once")]
    Twice(Platform),
    /// A platform is in no group (L1).
    #[error("{0} is in no group: each platform must be in exactly one group, once")]
    Missing(Platform),
    /// Web and mini-program share a slot but are in different groups (L1).
    #[error("web and miniprogram share a slot, so they must be in the same group")]
    PartedSlot,
    /// The number of devices is out of range (L2).
    #[error("expected 1 to 100 instances of {0}")]
    Instances(Platform),
    /// Mini-programs share the slot named web, so they have no number of their own (L2).
    #[error("miniprogram shares the slot of web: set max_instances.web instead")]
    SharedInstances,
}

impl LoginPolicy {
    /// Checks and makes a policy; `instances` sets the number of devices of a slot, which is 1
    /// otherwise.
    ///
    /// # Errors
    ///
    /// All faults, so that an operator can correct them together.
    pub fn new(
        groups: Groups,
        instances: &[(Platform, u8)],
        miniprogram_as_web: bool,
    ) -> Result<Self, Vec<PolicyFault>> {
        let mut policy = Self {
            groups,
            max_instances: [1; Platform::ALL.len()],
            miniprogram_as_web,
            on_conflict: OnConflict::default(),
            web_tabs: WebTabs::default(),
        };
        let mut faults = policy.partition_faults();
        for &(platform, count) in instances {
            if policy.slot(platform) != platform {
                faults.push(PolicyFault::SharedInstances);
            } else if (1..=INSTANCES_MAX).contains(&count) {
                policy.max_instances[platform as usize] = count;
            } else {
                faults.push(PolicyFault::Instances(platform));
            }
        }
        if faults.is_empty() { Ok(policy) } else { Err(faults) }
    }

    /// A preset with one device in each slot.
    pub const fn preset(preset: Preset) -> Self {
        Self {
            groups: Groups::Preset(preset),
            max_instances: [1; Platform::ALL.len()],
            miniprogram_as_web: true,
            on_conflict: OnConflict::KickOld,
            web_tabs: WebTabs::Share,
        }
    }

    /// This policy with the groups of a preset and `kick_old`, for `explain`.
    #[must_use]
    pub fn regrouped(&self, preset: Preset) -> Self {
        Self { groups: Groups::Preset(preset), on_conflict: OnConflict::KickOld, ..self.clone() }
    }

    /// The name in the configuration.
    pub const fn name(&self) -> &'static str {
        match &self.groups {
            Groups::Preset(preset) => preset.name(),
            Groups::Custom(_) => "custom",
        }
    }

    /// The slot of a platform: its own, except that a mini-program may share the web's.
    pub fn slot(&self, platform: Platform) -> Platform {
        if platform == Platform::MiniProgram && self.miniprogram_as_web {
            Platform::Web
        } else {
            platform
        }
    }

    /// The number of devices that a slot holds.
    pub fn max_instances(&self, slot: Platform) -> usize {
        usize::from(self.max_instances[slot as usize])
    }

    /// Whether two platforms are in the same group.
    pub fn share_group(&self, one: Platform, other: Platform) -> bool {
        match &self.groups {
            Groups::Preset(Preset::Single) => true,
            Groups::Preset(Preset::Dual) => one.is_native() == other.is_native(),
            Groups::Preset(Preset::Triple) => {
                one.is_native() == other.is_native() && one.is_mobile() == other.is_mobile()
            }
            Groups::Preset(Preset::Multi) => self.slot(one) == self.slot(other),
            Groups::Custom(groups) => {
                groups.iter().any(|group| group.contains(&one) && group.contains(&other))
            }
        }
    }

    fn partition_faults(&self) -> Vec<PolicyFault> {
        let Groups::Custom(groups) = &self.groups else { return Vec::new() };
        let mut faults = Vec::new();
        for platform in Platform::ALL {
            match groups.iter().flatten().filter(|named| **named == platform).count() {
                0 => faults.push(PolicyFault::Missing(platform)),
                1 => (),
                _ => faults.push(PolicyFault::Twice(platform)),
            }
        }
        let parted = !self.share_group(Platform::Web, Platform::MiniProgram);
        if faults.is_empty() && self.miniprogram_as_web && parted {
            faults.push(PolicyFault::PartedSlot);
        }
        faults
    }
}
