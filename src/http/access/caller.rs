//! Somebody who showed a key that is known: what they do goes into the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use super::audit::{Deed, Entry, TARGET, Trail, cut};
use crate::auth::Bearer;
use crate::http::problem::Problem;
use crate::presence::{Timestamp, UserId};

/// Whoever calls, by a key or as somebody who logged in with one.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) bearer: Bearer,
    pub(crate) address: IpAddr,
    /// Of somebody who is logged in.
    pub(super) login: Option<ById>,
    /// Where deeds are noted.
    pub(crate) trail: Arc<Trail>,
}

#[derive(Clone)]
pub(super) struct ById {
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

impl Caller {
    /// Until when somebody is logged in; a key by itself has no end.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.login.as_ref().map(|login| login.expires)
    }

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
