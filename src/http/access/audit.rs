//! The audit log: log lines with the target `audit`; the latest are kept in memory for the dashboard.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::presence::{Timestamp, UserId};
use crate::throttle::LineLimits;

/// The log target, for filters.
pub(super) const TARGET: &str = "audit";
/// Entries kept about known callers: keys, users of a proxy, and administrators of `/v4`.
const ENTRIES_MAX: usize = 1000;
/// Entries kept about wrong keys. Separate, so that strangers cannot evict the operators' entries.
const STRANGERS_MAX: usize = 200;
/// The longest text in an entry: paths and messages may be longer.
const TEXT_BYTES_MAX: usize = 512;
/// The rate limit on audit entries about wrong keys.
pub(in crate::http) const WRONG_KEYS_LOGGED: LineLimits =
    LineLimits { of_each: 5, of_all: 100, within: Duration::from_secs(60) };

/// An action to audit, done or attempted.
#[derive(Clone, Copy)]
pub(crate) struct AuditAction<'a> {
    pub(crate) action: &'static str,
    pub(crate) whom: Option<&'a UserId>,
    /// The reason that the caller gave.
    pub(crate) why: Option<&'a str>,
}

impl AuditAction<'_> {
    /// An action that concerns no user.
    pub(crate) const fn of(action: &'static str) -> Self {
        Self { action, whom: None, why: None }
    }
}

/// The latest entries of the audit log.
pub(crate) struct AuditLog {
    clock: Clock,
    kept: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The number of the latest entry; orders the entries of both lists.
    serial: u64,
    callers: VecDeque<(u64, Entry)>,
    strangers: VecDeque<(u64, Entry)>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Entry {
    pub(super) at: Timestamp,
    /// `done`, `failed` or `refused`.
    pub(super) outcome: &'static str,
    /// `viewer`, `api`, `admin` or `tencent`; null for a wrong key.
    pub(super) role: Option<&'static str>,
    /// The mark of the key, from its digest; null for a wrong key, for `tencent`, and for a user of a proxy.
    pub(super) key: Option<String>,
    /// The user whom a proxy with single sign-on named, or the administrator named by a call of `/v4`; else
    /// null.
    pub(super) identifier: Option<String>,
    /// The client's address; null for `tencent`.
    #[schema(value_type = Option<String>)]
    pub(super) address: Option<IpAddr>,
    /// Such as `kick`; method and path if the caller may not act.
    pub(super) action: String,
    /// The user that it concerns.
    pub(super) whom: Option<UserId>,
    /// The result.
    pub(super) what: Option<String>,
    /// The reason that the caller gave.
    pub(super) why: Option<String>,
}

impl AuditLog {
    pub(crate) const fn new(clock: Clock) -> Self {
        let kept = Entries { serial: 0, callers: VecDeque::new(), strangers: VecDeque::new() };
        Self { clock, kept: Mutex::new(kept) }
    }

    pub(super) fn push(&self, entry: Entry) {
        let mut kept = self.kept.lock();
        kept.serial += 1;
        let serial = kept.serial;
        let (entries, most) = match entry.role {
            Some(_) => (&mut kept.callers, ENTRIES_MAX),
            None => (&mut kept.strangers, STRANGERS_MAX),
        };
        if entries.len() == most {
            entries.pop_front();
        }
        entries.push_back((serial, entry));
    }

    /// An entry with time, outcome and action; the rest is empty.
    pub(super) fn entry(&self, outcome: &'static str, action: &str) -> Entry {
        Entry {
            at: self.clock.wall(),
            outcome,
            role: None,
            key: None,
            identifier: None,
            address: None,
            action: cut(action),
            whom: None,
            what: None,
            why: None,
        }
    }

    /// Records a wrong key; `suppressed` wrong keys before it were not recorded.
    pub(super) fn wrong_key(&self, address: IpAddr, suppressed: u64) {
        let action = "wrong key";
        tracing::warn!(target: TARGET, %address, action, suppressed, "refused");
        self.push(Entry { address: Some(address), ..self.entry("refused", action) });
    }

    /// Records an action of an administrator of a Tencent Cloud IM application.
    pub(crate) fn audit_administrator(
        &self,
        identifier: &str,
        audited: &AuditAction<'_>,
        what: &str,
    ) {
        let AuditAction { action, whom, why } = *audited;
        let user = whom.map(UserId::as_str);
        tracing::info!(target: TARGET, role = "tencent", identifier, action, whom = user, what, "done");
        self.push(Entry {
            role: Some("tencent"),
            identifier: Some(cut(identifier)),
            whom: whom.cloned(),
            what: Some(cut(what)),
            why: why.map(cut),
            ..self.entry("done", action)
        });
    }

    /// The latest entries, newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Entry> {
        let kept = self.kept.lock();
        let mut all: Vec<_> = kept.callers.iter().chain(&kept.strangers).collect();
        all.sort_unstable_by_key(|(serial, _)| std::cmp::Reverse(*serial));
        all.into_iter().take(limit).map(|(_, entry)| entry.clone()).collect()
    }
}

/// Truncates a text to what an entry keeps.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
