//! The trail of who did what to whom, and why: lines of a target of their own.

use std::net::IpAddr;
use std::time::Duration;

use super::Door;
use super::keys::Caller;
use super::problem::Problem;
use super::upgrade::household;
use crate::auth::Rate;
use crate::presence::UserId;

/// What the lines can be told by, and filtered.
const TARGET: &str = "audit";
/// How often wrong keys of one address are looked at where somebody logs in, and noted elsewhere.
pub(super) const WRONG_KEYS: Rate = Rate { burst: 5, per: 5, interval: Duration::from_secs(60) };

/// Something that a caller did, or meant to do.
pub(super) struct Deed<'a> {
    pub(super) action: &'static str,
    pub(super) whom: Option<&'a UserId>,
    /// What the caller said of it.
    pub(super) why: Option<&'a str>,
}

impl Deed<'_> {
    /// Something that is done to nobody in particular.
    pub(super) const fn of(action: &'static str) -> Self {
        Self { action, whom: None, why: None }
    }
}

impl Caller {
    /// Notes a deed, and what came of it.
    pub(super) fn did(&self, deed: &Deed<'_>, outcome: Result<&str, &Problem>) {
        let (role, key) = (self.bearer.role.name(), self.bearer.mark);
        let (address, Deed { action, whom, why }) = (self.address, deed);
        let whom = whom.map(UserId::as_str);
        match outcome {
            Ok(what) => {
                tracing::info!(target: TARGET, role, %key, %address, action, whom, what, why, "done");
            }
            Err(problem) => {
                let what = problem.code();
                tracing::warn!(target: TARGET, role, %key, %address, action, whom, what, why, "failed");
            }
        }
    }

    /// Notes that somebody asked for what they may not do.
    pub(super) fn was_refused(&self, action: &str, what: &str) {
        let (role, key, address) = (self.bearer.role.name(), self.bearer.mark, self.address);
        tracing::warn!(target: TARGET, role, %key, %address, action, what, "refused");
    }
}

/// Notes a deed of an administrator of a Tencent Cloud IM application.
pub(super) fn administrator_did(identifier: &str, deed: &Deed<'_>, what: &str) {
    let whom = deed.whom.map(UserId::as_str);
    let action = deed.action;
    tracing::info!(target: TARGET, role = "tencent", identifier, action, whom, what, "done");
}

impl Door {
    /// Notes a wrong key, which itself is noted nowhere, unless there were many from that address;
    /// returns the refusal.
    pub(super) fn wrong_key(&self, address: IpAddr) -> Problem {
        let now = self.hub.clock().now();
        if self.wrong_keys_noted.take(&household(address), &WRONG_KEYS, now) {
            note_wrong_key(address);
        }
        Problem::unknown_key()
    }
}

/// Notes a wrong key.
pub(super) fn note_wrong_key(address: IpAddr) {
    tracing::warn!(target: TARGET, %address, action = "wrong key", "refused");
}
