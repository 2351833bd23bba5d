//! The platforms that a client can run on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The platform of a client. Statuses list platforms in this order, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// An Android phone or tablet.
    Android,
    /// An iPhone; `iphone` is an alias.
    Ios,
    /// An iPad.
    Ipad,
    /// A Linux desktop.
    Linux,
    /// A Mac.
    Mac,
    /// A mini-program of WeChat or a similar host.
    MiniProgram,
    /// A browser page.
    Web,
    /// A Windows desktop.
    Windows,
}

/// A text that is not the name of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of android, ios, ipad, linux, mac, miniprogram, web, windows")]
pub struct UnknownPlatform;

impl Platform {
    /// Every platform, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::Android,
        Self::Ios,
        Self::Ipad,
        Self::Linux,
        Self::Mac,
        Self::MiniProgram,
        Self::Web,
        Self::Windows,
    ];

    /// The name in requests and statuses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
            Self::Ipad => "ipad",
            Self::Linux => "linux",
            Self::Mac => "mac",
            Self::MiniProgram => "miniprogram",
            Self::Web => "web",
            Self::Windows => "windows",
        }
    }

    /// Whether its terminals can be `PushOnline` (S2).
    pub const fn is_mobile(self) -> bool {
        match self {
            Self::Android | Self::Ios | Self::Ipad => true,
            Self::Linux | Self::Mac | Self::MiniProgram | Self::Web | Self::Windows => false,
        }
    }

    /// Whether it is native, with the long windows of T4 and T13.
    pub const fn is_native(self) -> bool {
        match self {
            Self::Android | Self::Ios | Self::Ipad | Self::Linux | Self::Mac | Self::Windows => {
                true
            }
            Self::MiniProgram | Self::Web => false,
        }
    }
}

// A platform that `ALL` lacks would have no place in arrays with one entry for each platform.
const _: () = {
    let mut n = 0;
    while n < Platform::ALL.len() {
        assert!(Platform::ALL[n] as usize == n, "`ALL` must be in the order of the variants");
        n += 1;
    }
    assert!(Platform::Windows as usize + 1 == n, "`ALL` must list every platform");
};

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, UnknownPlatform> {
        let name = if text == "iphone" { "ios" } else { text };
        Self::ALL.into_iter().find(|platform| platform.name() == name).ok_or(UnknownPlatform)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
