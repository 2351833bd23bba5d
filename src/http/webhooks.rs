//! How the webhook does, and what it gave up.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Door;
use super::api::JsonBody;
use super::keys::{MayAct, MayRead};
use super::problem::Problem;
use super::query::{Asked, Limit};
use crate::presence::Timestamp;
use crate::store::{Backlog, Cursor, Dead, Which};
use crate::webhook::{Condition, Format, Outcome};

/// What the webhook has not dealt with, and how old the oldest of it is.
pub(super) async fn backlog(door: &Door) -> Result<(Backlog, Duration), Problem> {
    let shown = door.webhook.shown();
    if shown.state == Condition::Off {
        return Ok((Backlog::default(), Duration::ZERO));
    }
    let backlog = door.hub.store().backlog(shown.position).await?;
    let age = backlog.oldest.map(|oldest| door.hub.clock().now() - oldest);
    Ok((backlog, age.unwrap_or_default()))
}

/// `GET /v1/webhooks`: how the delivery goes.
pub(super) async fn state(
    State(door): State<Arc<Door>>,
    _: MayRead,
) -> Result<Json<Value>, Problem> {
    let (backlog, age) = backlog(&door).await?;
    let settings = door.webhook.settings();
    // What stands after the question mark may be a secret.
    let url = settings.as_ref().map(|settings| {
        let mut url = settings.url.clone();
        url.set_query(None);
        url.to_string()
    });
    let format = settings.map(|settings| match settings.format {
        Format::Native(_) => "native",
        Format::Tencent(_) => "tencent",
    });
    let backlog = json!({
        "events": backlog.entries,
        "bytes": backlog.bytes,
        "oldest": backlog.oldest,
        "age_ms": u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(Json(json!({
        "url": url,
        "format": format,
        "delivery": door.webhook.shown(),
        "backlog": backlog,
    })))
}

/// `POST /v1/webhooks/test`: posts a request that bears no event.
pub(super) async fn test(State(door): State<Arc<Door>>, _: MayAct) -> Result<Json<Value>, Problem> {
    let outcome = door.webhook.test().await;
    let outcome = outcome.ok_or_else(|| Problem::conflict("off", "no webhook is configured"))?;
    let error = match outcome {
        Outcome::Accepted => None,
        Outcome::Refused(error) | Outcome::Failed { error, .. } => Some(error),
    };
    Ok(Json(json!({ "accepted": error.is_none(), "error": error })))
}

#[derive(Deserialize)]
pub(super) struct DeadRequest {
    cursor: Option<Cursor>,
    #[serde(default)]
    limit: Limit,
}

#[derive(Serialize)]
struct DeadLetters {
    dead: Vec<DeadLetter>,
    next: Option<Cursor>,
}

#[derive(Serialize)]
struct DeadLetter {
    id: Cursor,
    at: Timestamp,
    attempts: u32,
    last_error: Arc<str>,
    event: Box<RawValue>,
}

/// `GET /v1/webhooks/dead`: what was given up, the oldest first.
pub(super) async fn dead(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(DeadRequest { cursor, limit }): Asked<DeadRequest>,
) -> Result<Response, Problem> {
    let dead = door.webhook.outbox().dead(cursor, false, limit.get()).await?;
    let next = dead.last().filter(|_| dead.len() == limit.get()).map(|dead| dead.entry.cursor);
    let dead = dead.into_iter().filter_map(letter).collect();
    Ok(Json(DeadLetters { dead, next }).into_response())
}

fn letter(dead: Dead) -> Option<DeadLetter> {
    let Dead { entry, at, attempts, last_error } = dead;
    let event = RawValue::from_string(entry.event.to_string()).ok()?;
    Some(DeadLetter { id: entry.cursor, at, attempts, last_error, event })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meant {
    ids: Option<Vec<Cursor>>,
    #[serde(default)]
    all: bool,
}

impl TryFrom<Meant> for Which {
    type Error = Problem;

    fn try_from(Meant { ids, all }: Meant) -> Result<Self, Problem> {
        match (ids, all) {
            (Some(ids), false) => Ok(Self::These(ids)),
            (None, true) => Ok(Self::All),
            _ => Err(Problem::bad_request("either `ids` or `all` is wanted")),
        }
    }
}

/// `POST /v1/webhooks/dead/retry`: puts dead letters back.
pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    _: MayAct,
    JsonBody(meant): JsonBody<Meant>,
) -> Result<Json<Value>, Problem> {
    let count = door.webhook.outbox().put_back(meant.try_into()?).await?;
    door.webhook.wake();
    tracing::info!(count, "dead letters were put back");
    Ok(Json(json!({ "count": count })))
}

/// `POST /v1/webhooks/dead/drop`: lets dead letters go.
pub(super) async fn drop_dead(
    State(door): State<Arc<Door>>,
    _: MayAct,
    JsonBody(meant): JsonBody<Meant>,
) -> Result<Json<Value>, Problem> {
    let count = door.webhook.outbox().drop_dead(meant.try_into()?).await?;
    tracing::info!(count, "dead letters were dropped");
    Ok(Json(json!({ "count": count })))
}
