//! The trail of who did what to whom, and why: log lines of a target of their own, the latest of
//! which are kept in memory for the dashboard.

use std::collections::VecDeque;
use std::net::IpAddr;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::presence::{Timestamp, UserId};

/// What the lines can be told by, and filtered.
pub(super) const TARGET: &str = "audit";
/// How many entries are kept of callers who showed a key that is known.
const ENTRIES_MAX: usize = 1000;
/// How many are kept of wrong keys: apart, so that strangers cannot push out what operators did.
const STRANGERS_MAX: usize = 200;
/// The longest text that an entry keeps; a path that was refused may be longer.
const TEXT_BYTES_MAX: usize = 512;

/// Something that a caller did, or meant to do.
#[derive(Clone, Copy)]
pub(crate) struct Deed<'a> {
    pub(crate) action: &'static str,
    pub(crate) whom: Option<&'a UserId>,
    /// What the caller said of it.
    pub(crate) why: Option<&'a str>,
}

impl Deed<'_> {
    /// Something that is done to nobody in particular.
    pub(crate) const fn of(action: &'static str) -> Self {
        Self { action, whom: None, why: None }
    }
}

/// The latest entries of the audit log.
pub(crate) struct Trail {
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// How many entries there were, which puts them in order.
    serial: u64,
    of_callers: VecDeque<(u64, Entry)>,
    of_strangers: VecDeque<(u64, Entry)>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Entry {
    pub(super) at: Timestamp,
    /// `done`, `failed` or `refused`.
    pub(super) outcome: &'static str,
    /// `viewer`, `api`, `admin` or `tencent`; null for a wrong key.
    pub(super) role: Option<&'static str>,
    /// What stands for the key; null for a wrong key and for `tencent`.
    pub(super) key: Option<String>,
    /// The administrator that a call of `/v4` names; else null.
    pub(super) identifier: Option<String>,
    /// Where it came from; null for `tencent`.
    #[schema(value_type = Option<String>)]
    pub(super) address: Option<IpAddr>,
    /// Such as `kick`; of what may not be done, method and path.
    pub(super) action: String,
    /// The user that it was done to.
    pub(super) whom: Option<UserId>,
    /// What came of it.
    pub(super) what: Option<String>,
    /// What the caller said of it.
    pub(super) why: Option<String>,
}

impl Trail {
    pub(crate) const fn new(clock: Clock) -> Self {
        let kept = Kept { serial: 0, of_callers: VecDeque::new(), of_strangers: VecDeque::new() };
        Self { clock, kept: Mutex::new(kept) }
    }

    pub(super) fn note(&self, entry: Entry) {
        let mut kept = self.kept.lock();
        kept.serial += 1;
        let serial = kept.serial;
        let (entries, most) = match entry.role {
            Some(_) => (&mut kept.of_callers, ENTRIES_MAX),
            None => (&mut kept.of_strangers, STRANGERS_MAX),
        };
        if entries.len() == most {
            entries.pop_front();
        }
        entries.push_back((serial, entry));
    }

    /// An entry in which nothing stands yet but what it is about.
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

    /// Notes a wrong key; some were not noted before.
    pub(super) fn note_wrong_key(&self, address: IpAddr, suppressed: u64) {
        let action = "wrong key";
        tracing::warn!(target: TARGET, %address, action, suppressed, "refused");
        self.note(Entry { address: Some(address), ..self.entry("refused", action) });
    }

    /// Notes a deed of an administrator of a Tencent Cloud IM application.
    pub(crate) fn administrator_did(&self, identifier: &str, deed: &Deed<'_>, what: &str) {
        let Deed { action, whom, why } = *deed;
        let user = whom.map(UserId::as_str);
        tracing::info!(target: TARGET, role = "tencent", identifier, action, whom = user, what, "done");
        self.note(Entry {
            role: Some("tencent"),
            identifier: Some(cut(identifier)),
            whom: whom.cloned(),
            what: Some(cut(what)),
            why: why.map(cut),
            ..self.entry("done", action)
        });
    }

    /// The latest, the latest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Entry> {
        let kept = self.kept.lock();
        let mut all: Vec<_> = kept.of_callers.iter().chain(&kept.of_strangers).collect();
        all.sort_unstable_by_key(|(serial, _)| std::cmp::Reverse(*serial));
        all.into_iter().take(limit).map(|(_, entry)| entry.clone()).collect()
    }
}

/// As much of a text as an entry keeps.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
