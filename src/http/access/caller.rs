//! An authenticated caller, whose actions go into the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::field::{DisplayValue, display};

use super::audit::{AuditAction, AuditLog, Entry, TARGET, cut};
use super::proxy_login::ProxyUser;
use crate::auth::{Bearer, KeyMark};
use crate::http::problem::Problem;
use crate::presence::{Timestamp, UserId};

/// An authenticated caller: by a key, by a login at the dashboard, or by a proxy with single sign-on.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) bearer: Bearer,
    pub(crate) address: IpAddr,
    pub(super) means: Means,
    pub(crate) audit_log: Arc<AuditLog>,
}

/// How a caller was authenticated.
#[derive(Clone)]
pub(super) enum Means {
    /// By a key in a header.
    Key,
    /// By the cookie of a login at the dashboard.
    Cookie(LoginCookie),
    /// By a trusted proxy, for this request. An event stream that it opens ends at `until`.
    Proxy { user: ProxyUser, until: Timestamp },
}

#[derive(Clone)]
pub(super) struct LoginCookie {
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

impl Caller {
    /// When the cookie expires; `None` for a caller without one.
    pub(crate) const fn expires(&self) -> Option<Timestamp> {
        match &self.means {
            Means::Cookie(login) => Some(login.expires),
            Means::Key | Means::Proxy { .. } => None,
        }
    }

    /// The user whom the proxy named.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.means {
            Means::Proxy { user, .. } => Some(&user.name),
            Means::Key | Means::Cookie(_) => None,
        }
    }

    /// The mark of the caller's key; `None` for a user whom the proxy named.
    pub(crate) fn key(&self) -> Option<KeyMark> {
        self.user().is_none().then_some(self.bearer.mark)
    }

    /// Whether a browser sends what authenticates the caller by itself, so that a page of another site
    /// could make it call (CSRF).
    pub(super) const fn is_by_browser(&self) -> bool {
        matches!(self.means, Means::Cookie(_) | Means::Proxy { .. })
    }

    /// Records an action and its outcome.
    pub(crate) fn audit(&self, audited: &AuditAction<'_>, outcome: Result<&str, &Problem>) {
        let (role, key, identifier) = self.shown();
        let (address, AuditAction { action, whom, why }) = (self.address, *audited);
        let user = whom.map(UserId::as_str);
        let (outcome, what) = match outcome {
            Ok(what) => {
                tracing::info!(target: TARGET, role, key, identifier, %address, action, whom = user, what, why, "done");
                ("done", what)
            }
            Err(problem) => {
                let what = problem.code();
                tracing::warn!(target: TARGET, role, key, identifier, %address, action, whom = user, what, why, "failed");
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
        let ((role, key, identifier), address) = (self.shown(), self.address);
        tracing::warn!(target: TARGET, role, key, identifier, %address, action, what, "refused");
        self.audit_log.push(self.entry("refused", action, what));
    }

    /// The role, and the key or the user, for the log.
    fn shown(&self) -> (&'static str, Option<DisplayValue<KeyMark>>, Option<&str>) {
        (self.bearer.role.name(), self.key().map(display), self.user())
    }

    fn entry(&self, outcome: &'static str, action: &str, what: &str) -> Entry {
        Entry {
            role: Some(self.bearer.role.name()),
            key: self.key().map(|key| key.to_string()),
            identifier: self.user().map(cut),
            address: Some(self.address),
            what: Some(cut(what)),
            ..self.audit_log.entry(outcome, action)
        }
    }
}
