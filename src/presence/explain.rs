//! Explains which devices a login would kick, for support, tests and the dashboard.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::login::{Seat, judge};
use super::{LoginPolicy, Platform, Preset, SESSIONS_MAX, UnknownPlatform};

/// The devices that are logged in, in the order of their logins, written as `web,android:2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub struct Devices(Vec<(Platform, usize)>);

/// Why a text is not a list of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDevices {
    /// An unknown platform.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// A count that is not a number from 1 to [`SESSIONS_MAX`].
    #[error("expected platforms with counts such as \"web,android:2\"")]
    Count,
    /// More devices in all than a user may have.
    #[error("expected at most {SESSIONS_MAX} devices")]
    TooMany,
}

impl FromStr for Devices {
    type Err = InvalidDevices;

    fn from_str(text: &str) -> Result<Self, InvalidDevices> {
        let mut devices = Vec::new();
        let mut all = 0;
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (platform, count) = entry.split_once(':').unwrap_or((entry, "1"));
            let platform = platform.parse()?;
            let count = count.parse().ok().filter(|count| (1..=SESSIONS_MAX).contains(count));
            let count = count.ok_or(InvalidDevices::Count)?;
            devices.push((platform, count));
            all += count;
            if all > SESSIONS_MAX {
                return Err(InvalidDevices::TooMany);
            }
        }
        Ok(Self(devices))
    }
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The devices that a login would kick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Explanation {
    /// The terminals that the login would kick under the current policy.
    pub kicked: Vec<KickedCount>,
    /// The name of the current policy.
    pub policy: &'static str,
    /// The terminals that it would kick under each preset.
    pub presets: BTreeMap<&'static str, Vec<KickedCount>>,
    /// Whether the current policy refuses the login.
    pub rejected: bool,
}

/// The number of terminals on one platform that a login would kick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct KickedCount {
    /// The number of terminals.
    pub count: usize,
    /// Their platform.
    pub platform: Platform,
}

/// Explains a login on `platform` by a new device, if `existing` devices are `Online` already.
pub fn explain(existing: &Devices, platform: Platform, policy: &LoginPolicy) -> Explanation {
    let mut seats = Vec::new();
    for &(platform, count) in &existing.0 {
        for _ in 0..count {
            seats.push(Imagined { platform, device: format!("d{}", seats.len()) });
        }
    }
    let newcomer = "newcomer".parse().unwrap_or_else(|_| unreachable!("a device id"));
    let kicked_by = |policy: &LoginPolicy| {
        let verdict = judge(&seats, platform, &newcomer, policy);
        let mut counts: BTreeMap<Platform, usize> = BTreeMap::new();
        for index in verdict.kicked {
            *counts.entry(seats[index].platform).or_default() += 1;
        }
        let count = |(platform, count)| KickedCount { count, platform };
        (counts.into_iter().map(count).collect(), !verdict.in_the_way.is_empty())
    };
    let (kicked, rejected) = kicked_by(policy);
    let by = |preset: Preset| (preset.name(), kicked_by(&policy.regrouped(preset)).0);
    let presets = Preset::ALL.map(by).into();
    Explanation { kicked, policy: policy.name(), presets, rejected }
}

struct Imagined {
    platform: Platform,
    device: String,
}

impl Seat for Imagined {
    fn platform(&self) -> Platform {
        self.platform
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn is_online(&self) -> bool {
        true
    }
}
