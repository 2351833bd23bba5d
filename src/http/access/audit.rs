//! The trail of who did what to whom, and why: log lines of a target of their own, the latest of
//! which are kept in memory for the dashboard.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Door;
use crate::http::calls::users::act::many;
use super::keys::{Caller, MaySeeAll};
use crate::http::openapi::Refusals;
use crate::http::problem::Problem;
use crate::http::extract::query::{Asked, Limit};
use crate::http::net::upgrade::household;
use crate::auth::Rate;
use crate::clock::Clock;
use crate::presence::{Timestamp, UserId};

/// What the lines can be told by, and filtered.
const TARGET: &str = "audit";
/// How many entries are kept of callers who showed a key that is known.
const ENTRIES_MAX: usize = 1000;
/// How many are kept of wrong keys: apart, so that strangers cannot push out what operators did.
const STRANGERS_MAX: usize = 200;
/// The longest text that an entry keeps; a path that was refused may be longer.
const TEXT_BYTES_MAX: usize = 512;
/// How often wrong keys of one address are looked at where somebody logs in, and noted elsewhere.
pub(crate) const WRONG_KEYS: Rate = Rate { burst: 5, per: 5, interval: Duration::from_secs(60) };

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
    #[schema(value_type = u64)]
    at: Timestamp,
    /// `done`, `failed` or `refused`.
    outcome: &'static str,
    /// `viewer`, `api`, `admin` or `tencent`; null for a wrong key.
    role: Option<&'static str>,
    /// What stands for the key; null for a wrong key and for `tencent`.
    key: Option<String>,
    /// The administrator that a call of `/v4` names; else null.
    identifier: Option<String>,
    /// Where it came from; null for `tencent`.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Such as `kick`; of what may not be done, method and path.
    action: String,
    /// The user that it was done to.
    #[schema(value_type = Option<String>)]
    whom: Option<UserId>,
    /// What came of it.
    what: Option<String>,
    /// What the caller said of it.
    why: Option<String>,
}

impl Trail {
    pub(crate) const fn new(clock: Clock) -> Self {
        let kept = Kept { serial: 0, of_callers: VecDeque::new(), of_strangers: VecDeque::new() };
        Self { clock, kept: Mutex::new(kept) }
    }

    fn note(&self, entry: Entry) {
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
    fn entry(&self, outcome: &'static str, action: &str) -> Entry {
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

    /// Notes a wrong key.
    pub(crate) fn note_wrong_key(&self, address: IpAddr) {
        let action = "wrong key";
        tracing::warn!(target: TARGET, %address, action, "refused");
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
    fn latest(&self, limit: usize) -> Vec<Entry> {
        let kept = self.kept.lock();
        let mut all: Vec<_> = kept.of_callers.iter().chain(&kept.of_strangers).collect();
        all.sort_unstable_by_key(|(serial, _)| std::cmp::Reverse(*serial));
        all.into_iter().take(limit).map(|(_, entry)| entry.clone()).collect()
    }
}

/// As much of a text as an entry keeps.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

impl Caller {
    /// Notes a deed, and what came of it.
    pub(crate) fn did(&self, deed: &Deed<'_>, outcome: Result<&str, &Problem>) {
        let (role, key) = (self.bearer.role.name(), self.bearer.mark);
        let (address, Deed { action, whom, why }) = (self.address, *deed);
        let user = whom.map(UserId::as_str);
        let (outcome, what) = match outcome {
            Ok(what) => {
                tracing::info!(target: TARGET, role, %key, %address, action, whom = user, what, why, "done");
                ("done", what)
            }
            Err(problem) => {
                let what = problem.code();
                tracing::warn!(target: TARGET, role, %key, %address, action, whom = user, what, why, "failed");
                ("failed", what)
            }
        };
        self.note(Entry {
            whom: whom.cloned(),
            why: why.map(cut),
            ..self.entry(outcome, action, what)
        });
    }

    /// Notes that somebody asked for what they may not do.
    pub(crate) fn was_refused(&self, action: &str, what: &str) {
        let (role, key, address) = (self.bearer.role.name(), self.bearer.mark, self.address);
        tracing::warn!(target: TARGET, role, %key, %address, action, what, "refused");
        self.note(self.entry("refused", action, what));
    }

    fn entry(&self, outcome: &'static str, action: &str, what: &str) -> Entry {
        Entry {
            role: Some(self.bearer.role.name()),
            key: Some(self.bearer.mark.to_string()),
            address: Some(self.address),
            what: Some(cut(what)),
            ..self.trail.entry(outcome, action)
        }
    }

    fn note(&self, entry: Entry) {
        self.trail.note(entry);
    }
}

impl Door {
    /// Notes a wrong key, which itself is noted nowhere, unless there were many from that address;
    /// returns the refusal.
    pub(crate) fn wrong_key(&self, address: IpAddr) -> Problem {
        let now = self.hub.clock().now();
        if self.wrong_keys_noted.take(&household(address), &WRONG_KEYS, now) {
            self.trail.note_wrong_key(address);
        }
        Problem::unknown_key()
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditRequest {
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// The latest entries of the audit log, the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<Entry>,
}

/// `GET /v1/audit`: the latest entries of the audit log, the latest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "listAuditEntries",
    tag = "operation",
    params(AuditRequest),
    responses(
        (status = 200, description = "The latest entries.", body = AuditPage),
        Refusals,
    ),
)]
pub(crate) async fn audit(
    State(door): State<Arc<Door>>,
    _: MaySeeAll,
    Asked(AuditRequest { limit }): Asked<AuditRequest>,
) -> Response {
    many(&AuditPage { entries: door.trail.latest(limit.get()) })
}
