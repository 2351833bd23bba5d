use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Platform;

/// The most sessions that one user may have (L2).
pub const SESSIONS_MAX: usize = 100;
/// The most tabs of one browser that stand side by side (L5).
pub const TABS_MAX: usize = 20;
/// The most devices that may be logged in together in one slot (L2).
pub const INSTANCES_MAX: u8 = 100;

/// Everything that an operator may decide about presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which devices may be logged in together.
    pub login: LoginPolicy,
    /// How long each kind of absence is forgiven.
    pub windows: Windows,
    /// How long a user who is `Offline` is remembered.
    pub record_ttl: Duration,
    /// How long a token may live, and so how long a revocation is remembered (L9).
    pub max_token_ttl: Duration,
}

/// How long each kind of absence is forgiven, and how often the hub asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// How often web pages and mini-programs are pinged (T13).
    pub web_ping: Duration,
    /// The silence after which one of them is lost (T5).
    pub web_silence: Duration,
    /// How often native apps are pinged (T13).
    pub native_ping: Duration,
    /// The silence after which one of them is lost (T4).
    pub native_silence: Duration,
    /// How long a mini-program may stay in the background (T6).
    pub background: Duration,
    /// How long a mini-program that was left by its close button may take to come back (T7).
    pub exit: Duration,
    /// How long a phone whose app is gone still wants push (T8).
    pub push_online_ttl: Duration,
    /// How long a web page whose connection closed may take to come back, unseen (T3).
    pub web_close_grace: Duration,
}

impl Windows {
    /// The silence after which a connection on this platform is lost.
    pub const fn silence(&self, platform: Platform) -> Duration {
        if platform.is_native() { self.native_silence } else { self.web_silence }
    }

    /// How often a connection on this platform is pinged.
    pub const fn ping(&self, platform: Platform) -> Duration {
        if platform.is_native() { self.native_ping } else { self.web_ping }
    }

    /// The longest time for which a session whose connection is gone may be held.
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
    /// By slot.
    max_instances: [u8; Platform::ALL.len()],
    miniprogram_as_web: bool,
    /// What happens to a login that conflicts (L3).
    pub on_conflict: OnConflict,
    /// Whether the tabs of one browser stand side by side (L5).
    pub web_tabs: WebTabs,
}

/// What happens to a login that conflicts with another (L3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The newest login wins.
    #[default]
    KickOld,
    /// It is refused while one that is `Online` stands in its way.
    RejectNew,
}

/// What becomes of a second tab of one browser (L5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebTabs {
    /// The tabs stand side by side.
    #[default]
    Share,
    /// The second tab ends the first.
    Replace,
}

/// A policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Every platform in one group.
    Single,
    /// The native platforms, and the web beside them.
    Dual,
    /// Mobile, desktop, web.
    Triple,
    /// Every slot alone.
    Multi,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] = [Self::Single, Self::Dual, Self::Triple, Self::Multi];

    /// The name as the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Dual => "dual",
            Self::Triple => "triple",
            Self::Multi => "multi",
        }
    }
}

/// The partition of the platforms into groups: a preset's, or the operator's own (L1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// One of the four that have a name.
    Preset(Preset),
    /// Platforms in the same list are in the same group.
    Custom(Vec<Vec<Platform>>),
}

/// Why a login policy cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// L1 wants a partition.
    #[error("{0} is listed twice: each platform must stand in exactly one group, once")]
    Twice(Platform),
    /// L1 wants a partition.
    #[error("{0} stands in no group: each platform must stand in exactly one group, once")]
    Missing(Platform),
    /// They cannot share a slot and be in different groups.
    #[error("web and miniprogram share a slot, so they must stand in one group")]
    PartedSlot,
    /// L2.
    #[error("expected 1 to 100 instances of {0}")]
    Instances(Platform),
    /// The number is that of the slot, which bears the web's name.
    #[error("miniprogram shares the web's slot: set max_instances of web")]
    SharedInstances,
}

impl LoginPolicy {
    /// Checks and makes a policy; `instances` names the slots that may hold more than one device.
    ///
    /// # Errors
    ///
    /// Every fault found, so that an operator can mend them in one go.
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

    /// The same policy with the groups of a preset, kicking: what `explain` compares with.
    #[must_use]
    pub fn regrouped(&self, preset: Preset) -> Self {
        Self { groups: Groups::Preset(preset), on_conflict: OnConflict::KickOld, ..self.clone() }
    }

    /// The name as the configuration writes it.
    pub const fn name(&self) -> &'static str {
        match &self.groups {
            Groups::Preset(preset) => preset.name(),
            Groups::Custom(_) => "custom",
        }
    }

    /// The slot a platform takes: its own, save that a mini-program may share the web's.
    pub fn slot(&self, platform: Platform) -> Platform {
        if platform == Platform::MiniProgram && self.miniprogram_as_web {
            Platform::Web
        } else {
            platform
        }
    }

    /// How many devices one slot holds.
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
