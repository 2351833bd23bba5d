//! Whose logins were refused lately, and why.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Door;
use crate::http::calls::users::act::many;
use crate::http::access::keys::MayRead;
use crate::http::openapi::{self, Refusals};
use crate::http::problem::Problem;
use crate::http::extract::query::{Asked, Limit};
use crate::presence::{DeviceId, Platform, Timestamp, UserId};
use crate::session::RefusedLogin;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RefusalsRequest {
    /// Whose logins; everybody's where it is left out.
    #[param(value_type = Option<String>)]
    user: Option<UserId>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// The latest refused logins of this hub, the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusalList<'a> {
    refusals: Vec<RefusalEntry<'a>>,
}

/// A login that was refused.
#[derive(Serialize, ToSchema)]
struct RefusalEntry<'a> {
    #[schema(value_type = u64)]
    at: Timestamp,
    /// An error code, `try_again_later` or `login_timeout`.
    reason: &'static str,
    /// For people.
    message: &'a str,
    /// Whose token it was, or null where it does not say.
    #[schema(value_type = Option<String>)]
    user: Option<&'a UserId>,
    /// Whether the token proved the user; otherwise anybody may have written the name.
    verified: bool,
    #[schema(value_type = Option<openapi::Platform>)]
    platform: Option<Platform>,
    #[schema(value_type = Option<String>)]
    device: Option<&'a DeviceId>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
}

/// `GET /v1/refusals`: the latest refused logins of this hub, kept in memory.
#[utoipa::path(
    get,
    path = "/v1/refusals",
    operation_id = "listRefusals",
    tag = "sessions",
    params(RefusalsRequest),
    responses(
        (status = 200, description = "The refused logins, the latest first.", body = RefusalList<'static>),
        Refusals,
    ),
)]
pub(crate) async fn refusals(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(RefusalsRequest { user, limit }): Asked<RefusalsRequest>,
) -> Result<Response, Problem> {
    let latest = door.sessions.refusals().latest(user.as_ref(), limit.get());
    let refusals = latest.iter().map(|refusal| RefusalEntry::of(refusal)).collect();
    Ok(many(&RefusalList { refusals }))
}

impl<'a> RefusalEntry<'a> {
    fn of(refusal: &'a RefusedLogin) -> Self {
        Self {
            at: refusal.at,
            reason: refusal.reason,
            message: &refusal.message,
            user: refusal.user.as_ref(),
            verified: refusal.is_verified,
            platform: refusal.platform,
            device: refusal.device.as_ref(),
            address: refusal.address,
        }
    }
}
