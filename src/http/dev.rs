//! The calls of development mode: mint a token, simulate a cut network, and move the clock.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::JsonBody;
use super::problem::Problem;
use super::settings::Development;
use super::state::AppState;
use crate::auth::mint;
use crate::duration;
use crate::hub::AdvanceFault;
use crate::presence::{Platform, SessionId, UserId};

/// The default lifetime of a development token.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// The furthest that one call moves the clock.
const ADVANCE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// How long the receivers of webhooks may take.
const POSTING_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
pub(super) struct TokenRequest {
    user: String,
    platform: Option<Platform>,
    #[serde(default = "token_ttl", deserialize_with = "duration::deserialize")]
    ttl: Duration,
}

const fn token_ttl() -> Duration {
    TOKEN_TTL
}

#[derive(Deserialize)]
pub(super) struct IgnoreRequest {
    user: String,
    session: SessionId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockRequest {
    #[serde(deserialize_with = "duration::deserialize")]
    advance: Duration,
}

/// `POST /dev/token`: mints a token for any user.
pub(super) async fn token(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<Value>, Problem> {
    let settings = app.settings();
    let Development { secret, rules, .. } = allowed(&headers, settings.development.as_ref())?;
    if request.ttl > rules.max_ttl {
        let max = duration::format(rules.max_ttl);
        let message = format!("`ttl` must not exceed auth.max_token_ttl, which is {max}");
        return Err(Problem::bad_request(message));
    }
    let user: UserId = request.user.parse().map_err(|_| Problem::invalid_user(&request.user))?;
    let wall = app.hub.clock().wall();
    let token = mint(secret, rules, &user, request.platform, &[], wall, request.ttl)
        .map_err(|error| Problem::unavailable(&error.to_string()))?;
    Ok(Json(json!({ "token": token })))
}

/// `POST /dev/ignore`: the hub ignores a session's connection from now on, as if its network were
/// cut.
pub(super) async fn ignore(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<IgnoreRequest>,
) -> Result<Json<Value>, Problem> {
    allowed(&headers, app.settings().development.as_ref())?;
    let user: UserId = request.user.parse().map_err(|_| Problem::invalid_user(&request.user))?;
    if !app.hub.cut(&user, request.session).await? {
        return Err(Problem::not_found());
    }
    let record = app.hub.record(&user).await?;
    let terminal = record.terminals.iter().find(|terminal| terminal.session == request.session);
    let ends_in = terminal.map(|terminal| {
        let heard = app.hub.heard(terminal.connection).unwrap_or(terminal.heard);
        heard + app.hub.policy().windows.silence(terminal.platform) - app.hub.clock().wall()
    });
    Ok(Json(json!({ "ends_in_ms": ends_in.unwrap_or_default().as_millis() })))
}

/// `POST /dev/clock`: moves the hub's clock, and answers when everything that follows has been delivered.
pub(super) async fn clock(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    JsonBody(ClockRequest { advance }): JsonBody<ClockRequest>,
) -> Result<Json<Value>, Problem> {
    allowed(&headers, app.settings().development.as_ref())?;
    if advance > ADVANCE_MAX {
        let max = duration::format(ADVANCE_MAX);
        let message = format!("`advance` must not exceed {max} in one call");
        return Err(Problem::bad_request(message));
    }
    if !app.hub.clock().is_movable() {
        let message = "the clock cannot be moved with store.kind = \"redis\": other hubs share that \
                       store, and their clocks do not move";
        return Err(Problem::conflict("shared_store", message));
    }
    // A task of its own: the move must not stop halfway when the client hangs up.
    let moved = tokio::spawn(async move {
        let changes = app.hub.advance(advance).await.map_err(|fault| {
            tracing::error!(%fault, "cannot move the clock");
            match fault {
                AdvanceFault::Store(error) => error.into(),
                AdvanceFault::Clock(_) | AdvanceFault::Unsettled => {
                    Problem::unavailable(&fault.to_string())
                }
            }
        })?;
        let pending = app.webhooks.until_tried(POSTING_MAX).await;
        let now = app.hub.clock().wall();
        tracing::info!(by = %duration::format(advance), changes, "clock moved");
        Ok::<_, Problem>(Json(json!({
            "now": now,
            "advanced_ms": advance.as_millis(),
            "changes": changes,
            "webhook_events_pending": pending,
        })))
    });
    moved.await.map_err(|error| Problem::unavailable(&error.to_string()))?
}

/// Requires the development key and a loopback `Host`: a proxy on this machine must not let the whole
/// internet mint tokens.
fn allowed<'a>(
    headers: &HeaderMap,
    development: Option<&'a Development>,
) -> Result<&'a Development, Problem> {
    let development = development.ok_or_else(Problem::not_found)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    if !["localhost", "127.0.0.1", "[::1]"].contains(&name) {
        return Err(Problem::forbidden(
            "development calls are allowed only with the Host localhost, 127.0.0.1 or [::1]",
        ));
    }
    let key = headers.get("x-dev-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let known = development.keys.bearer(key).is_some();
    known.then_some(development).ok_or_else(Problem::no_development_key)
}
