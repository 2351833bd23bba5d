//! The calls of the dashboard's login.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::limit_key;
use crate::auth::{LOGIN_TTL, Rate, Role};
use crate::http::access::audit::AuditAction;
use crate::http::access::cookie::{COOKIES_MAX, cookies, set_cookie};
use crate::http::access::{Caller, MayRead};
use crate::http::extract::JsonBody;
use crate::http::net::forwarded::Client;
use crate::http::openapi::{BodyRefusals, Refusals};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::presence::Timestamp;

/// The size limit of a login's body, which strangers can send.
const LOGIN_BYTES_MAX: usize = 4 * 1024;
/// The rate limit on wrong keys from one address.
const WRONG_KEYS: Rate = Rate { burst: 5, per: 5, interval: Duration::from_secs(60) };

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(log_in, who, log_out))
}

/// A key to log in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DashboardLoginRequest {
    /// One of `auth.admin_keys` or `auth.viewer_keys`.
    key: String,
}

/// The caller's role, and the key or the user.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallerIdentity {
    /// `viewer`, `api` or `admin`.
    role: &'static str,
    /// When the login ends; null for a key in a header and for a user of a proxy.
    expires: Option<Timestamp>,
    /// The mark of the key in the audit log; null for a user of a proxy.
    key: Option<String>,
    /// The user whom a trusted proxy named (single sign-on); otherwise null.
    user: Option<String>,
}

impl CallerIdentity {
    fn of(caller: &Caller, expires: Option<Timestamp>) -> Self {
        let key = caller.key().map(|key| key.to_string());
        let user = caller.user().map(str::to_owned);
        Self { role: caller.bearer.role.name(), expires, key, user }
    }
}

/// The client of a request, and the login ids in its cookies.
pub(crate) struct ClientInfo {
    address: IpAddr,
    is_secure: bool,
    ids: Vec<String>,
}

impl FromRequestParts<Arc<AppState>> for ClientInfo {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<AppState>) -> Result<Self, Problem> {
        let address = AppState::address(parts)?;
        let is_secure = parts.extensions.get::<Client>().is_some_and(|client| client.is_secure);
        let ids = cookies(&parts.headers, &app.cookie).take(COOKIES_MAX);
        let ids = ids.map(str::to_owned).collect();
        Ok(Self { address, is_secure, ids })
    }
}

/// `POST /v1/admin/session`: logs in at the dashboard.
#[utoipa::path(
    post,
    path = "/v1/admin/session",
    operation_id = "logIn",
    tag = "dashboard",
    security(()),
    request_body = DashboardLoginRequest,
    responses(
        (status = 200, description = "The caller; sets the cookie for further requests.", body = CallerIdentity),
        (status = 429, description = "Too many wrong keys from this address, or too many requests with this key.", body = ProblemBody),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn log_in(
    State(app): State<Arc<AppState>>,
    client: ClientInfo,
    JsonBody(DashboardLoginRequest { key }): JsonBody<DashboardLoginRequest, LOGIN_BYTES_MAX>,
) -> Result<Response, Problem> {
    let (address, now) = (client.address, app.hub.clock().now());
    let limit_key = limit_key(address);
    // A correct key gets its attempt back below.
    if !app.wrong_keys.take(&limit_key, &WRONG_KEYS, now) {
        return Err(Problem::too_many_wrong_keys(WRONG_KEYS.pause()));
    }
    let Some(bearer) = app.settings().keys.bearer(&key) else {
        return Err(app.wrong_key(address));
    };
    app.wrong_keys.put_back(&limit_key);
    let caller = app.caller_by_key(bearer, address);
    app.charge_request(&caller)?;
    if bearer.role == Role::Api {
        let refused = "a key of auth.api_keys does not open the dashboard: log in with one of auth.admin_keys or \
                       auth.viewer_keys";
        caller.audit_refusal("log in", refused);
        return Err(Problem::forbidden(refused));
    }
    let id = app.logins.begin(bearer.mark, now).await;
    caller.audit(&AuditAction::of("log in"), Ok("for 8 hours"));
    let expires = Some(app.hub.clock().wall() + LOGIN_TTL);
    let identity = CallerIdentity::of(&caller, expires);
    Ok((set_cookie(&app.cookie, &id, LOGIN_TTL.as_secs(), client.is_secure), Json(identity))
        .into_response())
}

/// `GET /v1/admin/session`: the caller's role and key.
#[utoipa::path(
    get,
    path = "/v1/admin/session",
    operation_id = "getLogin",
    tag = "dashboard",
    responses(
        (status = 200, description = "The caller.", body = CallerIdentity),
        Refusals,
    ),
)]
pub(crate) async fn who(
    State(app): State<Arc<AppState>>,
    MayRead(caller): MayRead,
) -> Json<CallerIdentity> {
    let clock = app.hub.clock();
    // The login has its end on the steady clock.
    let expires = caller.expires().map(|at| clock.wall() + (at - clock.now()));
    Json(CallerIdentity::of(&caller, expires))
}

/// `DELETE /v1/admin/session`: logs out. It needs no `X-Presence-Hub` header: forms cannot send
/// `DELETE`, and pages of other origins would need a CORS preflight.
#[utoipa::path(
    delete,
    path = "/v1/admin/session",
    operation_id = "logOut",
    tag = "dashboard",
    security(()),
    responses(
        (status = 200, description = "Logged out.", body = Object),
        Refusals,
    ),
)]
pub(crate) async fn log_out(
    State(app): State<Arc<AppState>>,
    client: ClientInfo,
) -> Result<Response, Problem> {
    for id in &client.ids {
        if let Some(caller) = app.logged_in(id, client.address).await {
            app.logins.end(id).await?;
            caller.audit(&AuditAction::of("log out"), Ok("at once"));
        }
    }
    Ok((set_cookie(&app.cookie, "", 0, client.is_secure), Json(json!({}))).into_response())
}
