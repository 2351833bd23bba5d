//! Authenticates callers of the compatible API: an administrator of an application, by a UserSig.

use axum::extract::{Query, Request};
use axum::http::Uri;
use serde::Deserialize;

use super::fault::CallFault;
use crate::auth::UserSigVerifier;
use crate::presence::Timestamp;

/// The Tencent Cloud IM application whose back end may call `/v4`.
#[derive(Clone)]
pub struct TencentApplication {
    /// Verifies the application's signatures.
    pub verifier: UserSigVerifier,
    /// The identifiers that may call.
    pub administrators: Vec<String>,
    /// Whether a query reports unknown users as errors; otherwise they are `Offline`.
    pub unknown_account_error: bool,
}

/// The supported commands.
#[derive(Clone, Copy)]
pub(super) enum Call {
    Query,
    Kick,
}

/// The caller's parameters in the URL.
#[derive(Deserialize)]
struct CallerParameters {
    sdkappid: Option<String>,
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    usersig: String,
}

impl Call {
    pub(super) fn of(request: &Request) -> Result<Self, CallFault> {
        match (request.method().as_str(), request.uri().path()) {
            ("POST", "/v4/openim/query_online_status" | "/v4/openim/querystate") => Ok(Self::Query),
            ("POST", "/v4/im_open_login_svc/kick") => Ok(Self::Kick),
            _ => Err(CallFault::Url),
        }
    }
}

impl TencentApplication {
    /// Requires a valid UserSig of an administrator; returns the identifier.
    pub(super) fn authenticate(
        &self,
        command: Call,
        uri: &Uri,
        wall: Timestamp,
    ) -> Result<String, CallFault> {
        let caller = Query::<CallerParameters>::try_from_uri(uri);
        let Query(CallerParameters { sdkappid, identifier, usersig }) =
            caller.map_err(|_| CallFault::Url)?;
        let sdk_app_id = sdkappid.and_then(|id| id.parse().ok()).ok_or(CallFault::NoSdkAppId)?;
        self.verifier.verify(&usersig, sdk_app_id, &identifier, wall)?;
        match command {
            _ if self.administrators.contains(&identifier) => Ok(identifier),
            Call::Query => Err(CallFault::MayNotQuery),
            Call::Kick => Err(CallFault::MayNotKick),
        }
    }
}
