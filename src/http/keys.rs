use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::Door;
use super::problem::Problem;
use crate::auth::{ApiKeys, Role};

/// Proof that the caller may read.
pub(super) struct MayRead;

/// Proof that the caller may act.
pub(super) struct MayAct;

impl FromRequestParts<Arc<Door>> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        role(&parts.headers, &door.settings().keys).map(|_| Self)
    }
}

impl FromRequestParts<Arc<Door>> for MayAct {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        match role(&parts.headers, &door.settings().keys)? {
            Role::Viewer => Err(Problem::forbidden("a viewer's key may only read")),
            Role::Api | Role::Admin => Ok(Self),
        }
    }
}

fn role(headers: &HeaderMap, keys: &ApiKeys) -> Result<Role, Problem> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let own = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let key = bearer.or_else(own).ok_or_else(Problem::unauthorized)?;
    keys.role(key).ok_or_else(Problem::unauthorized)
}
