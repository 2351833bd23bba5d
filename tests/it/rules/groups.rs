//! The login policy of the model: slots and groups (L1).

use presence_hub::presence::{Platform, Preset};

use super::{MOBILE, NATIVE};

/// A login policy with the same room in every slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) preset: Preset,
    pub(super) room: u8,
    pub(super) as_web: bool,
    pub(super) reject: bool,
    pub(super) share_tabs: bool,
}

impl Rules {
    /// L1: mini-programs may share the web's slot.
    pub(super) fn slot(self, platform: Platform) -> Platform {
        let shares = platform == Platform::MiniProgram && self.as_web;
        if shares { Platform::Web } else { platform }
    }

    pub(super) fn group(self, platform: Platform) -> &'static str {
        let native = NATIVE.contains(&platform);
        match self.preset {
            Preset::Single => "everything",
            Preset::Dual if native => "native",
            Preset::Triple if MOBILE.contains(&platform) => "mobile",
            Preset::Triple if native => "desktop",
            Preset::Dual | Preset::Triple => "web",
            Preset::Multi => self.slot(platform).name(),
        }
    }
}
