//! Keeps the latest refused logins for the dashboard, and logs them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::auth::claimed_user;
use crate::presence::{DeviceId, Platform, Timestamp, UserId};
use crate::throttle::{KeyedThrottle, LineLimits};
use crate::wire::PartialLogin;

/// The maximum number of refusals that are kept; the oldest are evicted.
const KEPT_MAX: usize = 1000;
/// The maximum size of a stored and logged message: a message may quote the client's input.
const MESSAGE_BYTES_MAX: usize = 256;
/// The limits for log lines: for each address, and for all.
const LINES: LineLimits = LineLimits { of_each: 20, of_all: 200, within: Duration::from_secs(60) };

/// A login that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLogin {
    /// The time, on the wall clock.
    pub at: Timestamp,
    /// The reason: an error code, `try_again_later` or `login_timeout`.
    pub reason: &'static str,
    /// The message that the client got.
    pub message: String,
    /// The user that the token names.
    pub user: Option<UserId>,
    /// Whether the token's signature is valid; otherwise anybody may have written the name.
    pub is_verified: bool,
    /// The platform that the client named.
    pub platform: Option<Platform>,
    /// The device that the client named.
    pub device: Option<DeviceId>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

/// What is known about the sender of a login.
#[derive(Debug, Default)]
pub(super) struct Applicant {
    pub(super) user: Option<UserId>,
    pub(super) is_verified: bool,
    pub(super) platform: Option<Platform>,
    pub(super) device: Option<DeviceId>,
}

impl Applicant {
    /// Takes the readable fields of a malformed login.
    pub(super) fn from_malformed(login: PartialLogin) -> Self {
        Self {
            user: login.token.as_deref().and_then(claimed_user),
            is_verified: false,
            platform: login.platform,
            device: login.device.and_then(|device| device.parse().ok()),
        }
    }
}

/// The latest refused logins, in memory. Each is logged, up to a rate limit.
pub struct RefusedLogins {
    kept: Mutex<VecDeque<Arc<RefusedLogin>>>,
    lines: KeyedThrottle<Option<IpAddr>>,
}

impl Default for RefusedLogins {
    fn default() -> Self {
        Self { kept: Mutex::default(), lines: KeyedThrottle::new(LINES) }
    }
}

impl RefusedLogins {
    /// The latest refusals of one user or of all users, the newest first.
    pub fn latest(&self, user: Option<&UserId>, limit: usize) -> Vec<Arc<RefusedLogin>> {
        let kept = self.kept.lock();
        let asked =
            |refusal: &&Arc<RefusedLogin>| user.is_none_or(|u| refusal.user.as_ref() == Some(u));
        kept.iter().rev().filter(asked).take(limit).cloned().collect()
    }

    /// Stores a refusal and logs it; `now` is on the hub's clock.
    pub(super) fn note(&self, refusal: RefusedLogin, now: Timestamp) {
        if let Some(suppressed) = self.lines.admit(refusal.address, now) {
            tracing::info!(
                reason = refusal.reason,
                detail = refusal.message,
                user = refusal.user.as_ref().map(UserId::as_str),
                verified = refusal.is_verified,
                platform = refusal.platform.map(Platform::name),
                device = refusal.device.as_ref().map(DeviceId::as_str),
                suppressed = (suppressed > 0).then_some(suppressed),
                "login refused"
            );
        }
        let mut kept = self.kept.lock();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Arc::new(refusal));
    }
}

impl RefusedLogin {
    pub(super) fn new(
        at: Timestamp,
        reason: &'static str,
        message: &str,
        applicant: Applicant,
        address: Option<IpAddr>,
    ) -> Self {
        let Applicant { user, is_verified, platform, device } = applicant;
        let message = message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned();
        Self { at, reason, message, user, is_verified, platform, device, address }
    }
}
