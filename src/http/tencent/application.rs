//! Who may call the compatible API: an administrator of an application, by a UserSig.

use axum::extract::{Query, Request};
use axum::http::Uri;
use serde::Deserialize;

use super::fault::Fault;
use crate::auth::UserSigVerifier;
use crate::presence::Timestamp;

/// The Tencent Cloud IM application whose back end may call.
#[derive(Clone)]
pub struct Tencent {
    /// Verifies its signatures.
    pub verifier: UserSigVerifier,
    /// Who may call.
    pub administrators: Vec<String>,
    /// Whether a query says which users are not remembered, who else are `Offline`.
    pub unknown_account_error: bool,
}

/// What a back end asks for.
#[derive(Clone, Copy)]
pub(super) enum Command {
    Query,
    Kick,
}

/// Who calls, as each URL says it.
#[derive(Deserialize)]
struct Caller {
    sdkappid: Option<String>,
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    usersig: String,
}

impl Command {
    pub(super) fn of(request: &Request) -> Result<Self, Fault> {
        match (request.method().as_str(), request.uri().path()) {
            ("POST", "/v4/openim/query_online_status" | "/v4/openim/querystate") => Ok(Self::Query),
            ("POST", "/v4/im_open_login_svc/kick") => Ok(Self::Kick),
            _ => Err(Fault::Url),
        }
    }
}

impl Tencent {
    /// Lets in whoever is an administrator of the application, and shows it; returns who it is.
    pub(super) fn admit(
        &self,
        command: Command,
        uri: &Uri,
        wall: Timestamp,
    ) -> Result<String, Fault> {
        let caller = Query::<Caller>::try_from_uri(uri);
        let Query(Caller { sdkappid, identifier, usersig }) = caller.map_err(|_| Fault::Url)?;
        let sdk_app_id = sdkappid.and_then(|id| id.parse().ok()).ok_or(Fault::NoSdkAppId)?;
        self.verifier.verify(&usersig, sdk_app_id, &identifier, wall)?;
        match command {
            _ if self.administrators.contains(&identifier) => Ok(identifier),
            Command::Query => Err(Fault::MayNotQuery),
            Command::Kick => Err(Fault::MayNotKick),
        }
    }
}
