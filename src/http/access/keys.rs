//! Authenticates callers by a key in a header, the dashboard's cookie, or a trusted proxy, and checks
//! their roles.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::caller::{Caller, LoginCookie, Means};
use super::cookie::{COOKIES_MAX, cookies};
use crate::auth::{Bearer, KeyMark, LOGIN_TTL, Role, limit_key};
use crate::http::net::forwarded::Client;
use crate::http::net::peer::Peer;
use crate::http::problem::Problem;
use crate::http::state::AppState;

/// The paths on which the dashboard's cookie and the users of a trusted proxy are accepted.
const DASHBOARD_PATHS: &str = "/v1/";
/// Required on requests that act by the cookie or by a proxy's user (CSRF protection): a page of another
/// origin can send this header only after a CORS preflight, which the hub never grants.
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
        app.caller(parts).await.map(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for MayAct {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<AppState>) -> Result<Self, Problem> {
        let caller = app.caller(parts).await?;
        let refused = match caller.bearer.role {
            Role::Viewer => "this key may only read: use one of auth.api_keys or auth.admin_keys",
            Role::Api | Role::Admin
                if caller.is_by_browser() && !parts.headers.contains_key(ACT_HEADER) =>
            {
                "the header X-Presence-Hub is missing: a request that acts by the dashboard's cookie or \
                 by a proxy's login must have it"
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
        match app.caller(parts).await?.bearer.role {
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
        self.caller_by(Means::Key, bearer, address)
    }

    fn caller_by(&self, means: Means, bearer: Bearer, address: IpAddr) -> Caller {
        Caller { bearer, address, means, audit_log: Arc::clone(&self.audit_log) }
    }

    /// Authenticates a request, and charges its caller for it.
    async fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        let caller = self.authenticate(parts).await?;
        self.charge_request(&caller)?;
        Ok(caller)
    }

    /// Authenticates a request: by a key, otherwise by the cookie, otherwise by a trusted proxy. The last
    /// two count only under `/v1`.
    async fn authenticate(&self, parts: &Parts) -> Result<Caller, Problem> {
        let address = Self::address(parts)?;
        if let Some(key) = offered_key(&parts.headers) {
            let bearer = self.settings().keys.bearer(key);
            let bearer = bearer.ok_or_else(|| self.wrong_key(address))?;
            return Ok(self.caller_by_key(bearer, address));
        }
        if parts.uri.path().starts_with(DASHBOARD_PATHS) {
            for id in cookies(&parts.headers, &self.cookie).take(COOKIES_MAX) {
                if let Some(caller) = self.logged_in(id, address).await {
                    return Ok(caller);
                }
            }
            if let Some(caller) = self.by_proxy(parts, address)? {
                return Ok(caller);
            }
        }
        Err(match parts.headers.contains_key(header::AUTHORIZATION) {
            true => Problem::malformed_authorization(),
            false => Problem::missing_key(),
        })
    }

    /// The user whom a trusted proxy names. From any other peer the headers are ignored.
    fn by_proxy(&self, parts: &Parts, address: IpAddr) -> Result<Option<Caller>, Problem> {
        let settings = self.settings();
        let Some(login) = &settings.proxy_login else { return Ok(None) };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip().to_canonical());
        if !peer.is_some_and(|peer| settings.trusted_proxies.trusts(peer)) {
            return Ok(None);
        }
        let Some(user) = login.read(&parts.headers)? else { return Ok(None) };
        let role = login.role_of(&user).ok_or_else(|| Problem::no_role(&user.name))?;
        // No key has a control character, so no user has the mark of a key.
        let mark = KeyMark::of(&format!("\0{}", user.name));
        let until = self.hub.clock().now() + LOGIN_TTL;
        let means = Means::Proxy { user, until };
        Ok(Some(self.caller_by(means, Bearer { role, mark }, address)))
    }

    /// The caller of a login, unless it has ended or its key was removed.
    pub(crate) async fn logged_in(&self, id: &str, address: IpAddr) -> Option<Caller> {
        let login = self.logins.find(id, self.hub.clock().now()).await?;
        let bearer = self.settings().keys.known(login.key)?;
        let cookie = LoginCookie { id: id.to_owned(), expires: login.expires };
        Some(self.caller_by(Means::Cookie(cookie), bearer, address))
    }

    /// Whether a caller is still authenticated: a reload can remove its key or role, and its login can end.
    pub(crate) async fn is_still_valid(&self, caller: &Caller) -> bool {
        let settings = self.settings();
        match &caller.means {
            Means::Key => settings.keys.known(caller.bearer.mark).is_some(),
            Means::Cookie(login) => self.logged_in(&login.id, caller.address).await.is_some(),
            Means::Proxy { user, until } => {
                let role = settings.proxy_login.as_ref().and_then(|login| login.role_of(user));
                role == Some(caller.bearer.role) && self.hub.clock().now() < *until
            }
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
