//! Authenticates callers by a key in a header or the dashboard's cookie, and checks their roles.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::caller::{Caller, LoginCookie};
use super::cookie::cookies;
use crate::auth::limit_key;
use crate::auth::{Bearer, Role};
use crate::http::net::forwarded::Client;
use crate::http::problem::Problem;
use crate::http::state::AppState;

/// The paths on which the dashboard's cookie is accepted.
const COOKIE_PATHS: &str = "/v1/";
/// Required on requests that act by the cookie (CSRF protection): a page of another origin can send
/// this header only after a CORS preflight, which the hub never grants.
const ACT_HEADER: HeaderName = HeaderName::from_static("x-presence-hub");

/// Proof that the caller may read.
pub(crate) struct MayRead(pub(crate) Caller);

/// Proof that the caller may act.
pub(crate) struct MayAct(pub(crate) Caller);

/// Proof that the caller is an admin, who may see the configuration and the audit log.
pub(crate) struct MaySeeAll;

impl FromRequestParts<Arc<AppState>> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<AppState>) -> Result<Self, Problem> {
        app.caller(parts).map(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for MayAct {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<AppState>) -> Result<Self, Problem> {
        let caller = app.caller(parts)?;
        let refused = match caller.bearer.role {
            Role::Viewer => "this key may only read: use one of auth.api_keys or auth.admin_keys",
            Role::Api | Role::Admin
                if caller.login.is_some() && !parts.headers.contains_key(ACT_HEADER) =>
            {
                "the header X-Presence-Hub is missing: a request that acts by the dashboard's cookie \
                 must have it"
            }
            Role::Api | Role::Admin => return Ok(Self(caller)),
        };
        caller.audit_refusal(&format!("{} {}", parts.method, parts.uri.path()), refused);
        Err(Problem::forbidden(refused))
    }
}

impl FromRequestParts<Arc<AppState>> for MaySeeAll {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<AppState>) -> Result<Self, Problem> {
        match app.caller(parts)?.bearer.role {
            Role::Viewer | Role::Api => {
                Err(Problem::forbidden("this call needs a key of auth.admin_keys"))
            }
            Role::Admin => Ok(Self),
        }
    }
}

impl AppState {
    /// The caller who sent a key.
    pub(crate) fn caller_by_key(&self, bearer: Bearer, address: IpAddr) -> Caller {
        Caller { bearer, address, login: None, audit_log: Arc::clone(&self.audit_log) }
    }

    /// Authenticates a request. A key takes precedence over the cookie, which counts only under `/v1`.
    fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        let address = Self::address(parts)?;
        if let Some(key) = offered_key(&parts.headers) {
            let bearer = self.settings().keys.bearer(key);
            let bearer = bearer.ok_or_else(|| self.wrong_key(address))?;
            return Ok(self.caller_by_key(bearer, address));
        }
        let no_key = || match parts.headers.contains_key(header::AUTHORIZATION) {
            true => Problem::malformed_authorization(),
            false => Problem::missing_key(),
        };
        if !parts.uri.path().starts_with(COOKIE_PATHS) {
            return Err(no_key());
        }
        let mut logins =
            cookies(&parts.headers, &self.cookie).filter_map(|id| self.logged_in(id, address));
        logins.next().ok_or_else(no_key)
    }

    /// The caller of a login, unless it has ended or its key was removed.
    pub(crate) fn logged_in(&self, id: &str, address: IpAddr) -> Option<Caller> {
        let login = self.logins.find(id, self.hub.clock().now())?;
        let bearer = self.settings().keys.known(login.key)?;
        let login = Some(LoginCookie { id: id.to_owned(), expires: login.expires });
        Some(Caller { bearer, address, login, audit_log: Arc::clone(&self.audit_log) })
    }

    /// Whether a caller is still authenticated: a reload can remove its key, and its login can end.
    pub(crate) fn is_still_valid(&self, caller: &Caller) -> bool {
        match &caller.login {
            Some(login) => self.logged_in(&login.id, caller.address).is_some(),
            None => self.settings().keys.known(caller.bearer.mark).is_some(),
        }
    }

    /// Records a wrong key in the audit log, without the key and rate limited; returns the error.
    pub(crate) fn wrong_key(&self, address: IpAddr) -> Problem {
        let now = self.hub.clock().now();
        if let Some(suppressed) = self.wrong_keys_logged.admit(limit_key(address), now) {
            self.audit_log.wrong_key(address, suppressed);
        }
        Problem::unknown_key()
    }

    /// The client's address.
    pub(crate) fn address(parts: &Parts) -> Result<IpAddr, Problem> {
        let client = parts.extensions.get::<Client>().ok_or_else(Problem::missing_key)?;
        Ok(client.address)
    }
}

/// The key in the headers of a request.
fn offered_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        let key = key.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
    });
    let own = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.or_else(own)
}
