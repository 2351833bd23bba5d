//! An authenticated caller, whose actions go into the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use super::audit::{AuditAction, AuditLog, Entry, TARGET, cut};
use crate::auth::Bearer;
use crate::http::problem::Problem;
use crate::presence::{Timestamp, UserId};

/// An authenticated caller, by a key or by a login at the dashboard.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) bearer: Bearer,
    pub(crate) address: IpAddr,
    /// The login at the dashboard; `None` for a key in a header.
    pub(super) login: Option<LoginCookie>,
    pub(crate) audit_log: Arc<AuditLog>,
}

#[derive(Clone)]
pub(super) struct LoginCookie {
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

impl Caller {
    /// When the login ends; `None` for a key in a header.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.login.as_ref().map(|login| login.expires)
    }

    /// Records an action and its outcome.
    pub(crate) fn audit(&self, audited: &AuditAction<'_>, outcome: Result<&str, &Problem>) {
        let (role, key) = (self.bearer.role.name(), self.bearer.mark);
        let (address, AuditAction { action, whom, why }) = (self.address, *audited);
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
        self.audit_log.push(Entry {
            whom: whom.cloned(),
            why: why.map(cut),
            ..self.entry(outcome, action, what)
        });
    }

    /// Records that the caller may not do this.
    pub(crate) fn audit_refusal(&self, action: &str, what: &str) {
        let (role, key, address) = (self.bearer.role.name(), self.bearer.mark, self.address);
        tracing::warn!(target: TARGET, role, %key, %address, action, what, "refused");
        self.audit_log.push(self.entry("refused", action, what));
    }

    fn entry(&self, outcome: &'static str, action: &str, what: &str) -> Entry {
        Entry {
            role: Some(self.bearer.role.name()),
            key: Some(self.bearer.mark.to_string()),
            address: Some(self.address),
            what: Some(cut(what)),
            ..self.audit_log.entry(outcome, action)
        }
    }
}
