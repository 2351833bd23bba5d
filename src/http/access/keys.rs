//! Who calls, and what they may: a key in a header, or the dashboard's cookie.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::caller::{ById, Caller};
use super::cookie::cookies;
use crate::auth::{Bearer, Role};
use crate::http::door::Door;
use crate::http::net::forwarded::Client;
use crate::http::net::household::household;
use crate::http::problem::Problem;
use crate::throttle::Lines;

/// Where the dashboard's cookie counts.
const COOKIE_PATHS: &str = "/v1/";
/// What a request that acts by the cookie must bear: a header that no page of another origin can
/// send without being asked first, which the hub never grants.
const ACT_HEADER: HeaderName = HeaderName::from_static("x-presence-hub");

/// How many wrong keys are noted.
pub(crate) const WRONG_KEYS_NOTED: Lines =
    Lines { of_each: 5, of_all: 100, within: Duration::from_secs(60) };

/// Proof that the caller may read.
pub(crate) struct MayRead(pub(crate) Caller);

/// Proof that the caller may act.
pub(crate) struct MayAct(pub(crate) Caller);

/// Proof that the caller may see how the hub is configured.
pub(crate) struct MaySeeAll;

impl FromRequestParts<Arc<Door>> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        door.caller(parts).map(Self)
    }
}

impl FromRequestParts<Arc<Door>> for MayAct {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let caller = door.caller(parts)?;
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
        caller.was_refused(&format!("{} {}", parts.method, parts.uri.path()), refused);
        Err(Problem::forbidden(refused))
    }
}

impl FromRequestParts<Arc<Door>> for MaySeeAll {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        match door.caller(parts)?.bearer.role {
            Role::Viewer | Role::Api => {
                Err(Problem::forbidden("this call needs a key of auth.admin_keys"))
            }
            Role::Admin => Ok(Self),
        }
    }
}

impl Door {
    /// The caller who sent a key.
    pub(crate) fn caller_by_key(&self, bearer: Bearer, address: IpAddr) -> Caller {
        Caller { bearer, address, login: None, trail: Arc::clone(&self.trail) }
    }

    /// Whoever calls. A key counts before the cookie, which counts under `/v1` alone.
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

    /// Whoever is logged in by an id.
    pub(crate) fn logged_in(&self, id: &str, address: IpAddr) -> Option<Caller> {
        let login = self.logins.find(id, self.hub.clock().now())?;
        let bearer = self.settings().keys.known(login.key)?;
        let login = Some(ById { id: id.to_owned(), expires: login.expires });
        Some(Caller { bearer, address, login, trail: Arc::clone(&self.trail) })
    }

    /// Whether a caller is still who it was: a key may be taken out, and a login ends.
    pub(crate) fn still_knows(&self, caller: &Caller) -> bool {
        match &caller.login {
            Some(login) => self.logged_in(&login.id, caller.address).is_some(),
            None => self.settings().keys.known(caller.bearer.mark).is_some(),
        }
    }

    /// Notes a wrong key, which itself is noted nowhere, unless there were many; returns the refusal.
    pub(crate) fn wrong_key(&self, address: IpAddr) -> Problem {
        let now = self.hub.clock().now();
        if let Some(suppressed) = self.wrong_keys_noted.admit(household(address), now) {
            self.trail.note_wrong_key(address, suppressed);
        }
        Problem::unknown_key()
    }

    /// Where a request comes from.
    pub(crate) fn address(parts: &Parts) -> Result<IpAddr, Problem> {
        let client = parts.extensions.get::<Client>().ok_or_else(Problem::missing_key)?;
        Ok(client.address)
    }
}

/// The key that a request bears.
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
