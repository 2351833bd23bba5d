//! The calls about webhooks: the state of delivery, a test, and dead letters.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::access::audit::AuditAction;
use crate::http::access::{MayAct, MayRead};
use crate::http::extract::{DEAD, JsonBody, Limit, LogCursor, PageToken, QueryParams};
use crate::http::openapi::{BodyRefusals, Refusals};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::state::AppState;
use crate::http::undelivered::Undelivered;
use crate::presence::Timestamp;
use crate::store::{Cursor, Dead, DeadSelection, Event, WebhookName};
use crate::webhook::{DeliveryState, Format, PostResult, Webhook};

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(state))
        .routes(routes!(test))
        .routes(routes!(dead))
        .routes(routes!(retry))
        .routes(routes!(drop_dead))
}

/// Which webhook: its name, or nothing for the one of `[webhook]`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    #[serde(default)]
    #[param(value_type = Option<String>)]
    name: WebhookName,
}

fn webhook_named(app: &AppState, name: &WebhookName) -> Result<Arc<Webhook>, Problem> {
    app.webhooks.get(name).ok_or_else(|| {
        let message =
            format!("no webhook is named {:?}: expected a name of [[webhooks]]", name.as_str());
        Problem::bad_request(message)
    })
}

/// `GET /v1/webhooks`: the state of delivery, of the webhook without a name and of the others.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "getWebhookState",
    tag = "webhooks",
    responses(
        (status = 200, description = "The state of delivery.", body = WebhookStates),
        Refusals,
    ),
)]
pub(crate) async fn state(
    State(app): State<Arc<AppState>>,
    _: MayRead,
) -> Result<Json<WebhookStates>, Problem> {
    let unnamed = state_of(&app, app.webhooks.unnamed()).await?;
    let mut named = Vec::new();
    for webhook in app.webhooks.named() {
        named.push(state_of(&app, &webhook).await?);
    }
    Ok(Json(WebhookStates { unnamed, named }))
}

/// The state of the webhook without a name, and of the others.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookStates {
    #[serde(flatten)]
    unnamed: WebhookState,
    /// The webhooks of `[[webhooks]]`, and those that were removed and have dead letters.
    named: Vec<WebhookState>,
}

async fn state_of(app: &AppState, webhook: &Webhook) -> Result<WebhookState, Problem> {
    let undelivered = Undelivered::of(app, webhook).await?;
    let settings = webhook.settings();
    // The query may contain a secret.
    let url = settings.as_ref().map(|settings| {
        let mut url = settings.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    });
    let format = settings.map(|settings| match settings.format {
        Format::Native(_) => "native",
        Format::Tencent(_) => "tencent",
    });
    let backlog = BacklogState {
        events: undelivered.backlog.entries,
        bytes: undelivered.backlog.bytes,
        oldest: undelivered.backlog.oldest,
        age_ms: undelivered.age_ms(),
    };
    let (delivery, dead_waiting) = (webhook.shown(), undelivered.dead_waiting);
    let name = webhook.name().to_string();
    Ok(WebhookState { name, url, format, delivery, backlog, dead_waiting })
}

/// The state of delivery.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookState {
    /// Its name; empty for the one of `[webhook]`.
    name: String,
    /// The receiver's URL; null if there is none.
    url: Option<String>,
    /// `native` or `tencent`.
    format: Option<&'static str>,
    /// `state` (`off`, `up`, `failing`, `down`), requests `under_way`, events `waiting` for a retry,
    /// users `held`, `last_success`, and the last `failures`.
    delivery: DeliveryState,
    backlog: BacklogState,
    /// Dead letters that were neither retried nor dropped.
    dead_waiting: u64,
}

/// The pending events.
#[derive(Serialize, ToSchema)]
struct BacklogState {
    /// Pending events, including those waiting for a retry.
    events: u64,
    /// Bytes of events that the log keeps for the webhook, from the oldest pending event on, up to
    /// `webhook.max_backlog`.
    bytes: u64,
    /// When the oldest pending event happened.
    oldest: Option<Timestamp>,
    age_ms: u64,
}

/// The receiver's answer to a test.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tested {
    accepted: bool,
    error: Option<Arc<str>>,
}

/// The number of dead letters.
#[derive(Serialize, ToSchema)]
pub(crate) struct Count {
    count: u64,
}

/// `POST /v1/webhooks/test`: posts a request without an event.
#[utoipa::path(
    post,
    path = "/v1/webhooks/test",
    operation_id = "testWebhook",
    tag = "webhooks",
    params(WebhookRequest),
    responses(
        (status = 200, description = "The receiver's answer.", body = Tested),
        (status = 409, description = "No webhook is configured.", body = ProblemBody),
        Refusals,
    ),
)]
pub(crate) async fn test(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    QueryParams(WebhookRequest { name }): QueryParams<WebhookRequest>,
) -> Result<Json<Tested>, Problem> {
    let outcome = webhook_named(&app, &name)?.test().await;
    let outcome = outcome
        .ok_or_else(|| Problem::conflict("off", "no webhook is configured: set webhook.url"));
    let what = outcome.as_ref().map(|outcome| match outcome {
        PostResult::Accepted => "accepted",
        PostResult::Refused { .. } | PostResult::Failed { .. } => "not accepted",
    });
    caller.audit(&AuditAction::of("test the webhook"), what);
    let outcome = outcome?;
    let error = match outcome {
        PostResult::Accepted => None,
        PostResult::Refused { error, .. } | PostResult::Failed { error, .. } => Some(error),
    };
    Ok(Json(Tested { accepted: error.is_none(), error }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadRequest {
    /// The webhook's name, or nothing for the one of `[webhook]`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    name: WebhookName,
    #[param(value_type = Option<String>)]
    cursor: Option<PageToken<DEAD>>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// Dead letters, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    dead: Vec<DeadLetter>,
    #[schema(value_type = Option<String>)]
    next: Option<PageToken<DEAD>>,
}

/// An event that was given up.
#[derive(Serialize, ToSchema)]
struct DeadLetter {
    id: Cursor,
    /// When the event was given up.
    at: Timestamp,
    attempts: u32,
    last_error: Arc<str>,
    #[schema(value_type = Event<'static>)]
    event: Box<RawValue>,
}

/// `GET /v1/webhooks/dead`: dead letters, oldest first.
#[utoipa::path(
    get,
    path = "/v1/webhooks/dead",
    operation_id = "listDeadLetters",
    tag = "webhooks",
    params(DeadRequest),
    responses(
        (status = 200, description = "A page of dead letters.", body = DeadLetters),
        Refusals,
    ),
)]
pub(crate) async fn dead(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(DeadRequest { name, cursor, limit }): QueryParams<DeadRequest>,
) -> Result<Response, Problem> {
    let cursor = cursor.map(|token| Cursor(token.read));
    let webhook = webhook_named(&app, &name)?;
    let dead = webhook.outbox().dead(&name, cursor, false, limit.get()).await?;
    let next = dead
        .last()
        .filter(|_| dead.len() == limit.get())
        .map(|Dead { entry, .. }| PageToken { user: entry.user.clone(), read: entry.cursor.0 });
    let dead = dead.into_iter().filter_map(letter).collect();
    Ok(Json(DeadLetters { dead, next }).into_response())
}

fn letter(dead: Dead) -> Option<DeadLetter> {
    let Dead { entry, at, attempts, last_error } = dead;
    let event = RawValue::from_string(entry.json().to_string()).ok()?;
    Some(DeadLetter { id: entry.cursor, at, attempts, last_error, event })
}

/// Which dead letters: those with these ids, or all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterSelection {
    ids: Option<Vec<LogCursor>>,
    #[serde(default)]
    all: bool,
}

impl TryFrom<DeadLetterSelection> for DeadSelection {
    type Error = Problem;

    fn try_from(DeadLetterSelection { ids, all }: DeadLetterSelection) -> Result<Self, Problem> {
        match (ids, all) {
            (Some(ids), false) => {
                Ok(Self::These(ids.into_iter().map(|LogCursor(id)| id).collect()))
            }
            (None, true) => Ok(Self::All),
            (Some(_), true) => {
                Err(Problem::bad_request("expected either `ids` or `all`, got both"))
            }
            (None, false) => Err(Problem::bad_request(
                "`ids` is missing: expected a list of the ids of dead letters, or `all: true`",
            )),
        }
    }
}

/// `POST /v1/webhooks/dead/retry`: returns dead letters to the queue.
#[utoipa::path(
    post,
    path = "/v1/webhooks/dead/retry",
    operation_id = "retryDeadLetters",
    tag = "webhooks",
    params(WebhookRequest),
    request_body = DeadLetterSelection,
    responses(
        (status = 200, description = "The number of dead letters.", body = Count),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn retry(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    QueryParams(WebhookRequest { name }): QueryParams<WebhookRequest>,
    JsonBody(selection): JsonBody<DeadLetterSelection>,
) -> Result<Json<Count>, Problem> {
    let webhook = webhook_named(&app, &name)?;
    let count = webhook.outbox().put_back(&name, selection.try_into()?).await;
    let count = count.map_err(Problem::from);
    caller
        .audit(&AuditAction::of("retry dead letters"), letters(&count).as_deref().map_err(|p| *p));
    webhook.wake();
    Ok(Json(Count { count: count? }))
}

/// `POST /v1/webhooks/dead/drop`: drops dead letters.
#[utoipa::path(
    post,
    path = "/v1/webhooks/dead/drop",
    operation_id = "dropDeadLetters",
    tag = "webhooks",
    params(WebhookRequest),
    request_body = DeadLetterSelection,
    responses(
        (status = 200, description = "The number of dead letters.", body = Count),
        Refusals,
        BodyRefusals,
    ),
)]
pub(crate) async fn drop_dead(
    State(app): State<Arc<AppState>>,
    MayAct(caller): MayAct,
    QueryParams(WebhookRequest { name }): QueryParams<WebhookRequest>,
    JsonBody(selection): JsonBody<DeadLetterSelection>,
) -> Result<Json<Count>, Problem> {
    let webhook = webhook_named(&app, &name)?;
    let count = webhook.outbox().drop_dead(&name, selection.try_into()?).await;
    let count = count.map_err(Problem::from);
    caller.audit(&AuditAction::of("drop dead letters"), letters(&count).as_deref().map_err(|p| *p));
    Ok(Json(Count { count: count? }))
}

/// The number as text, for the audit log.
fn letters(count: &Result<u64, Problem>) -> Result<String, &Problem> {
    count.as_ref().map(|count| format!("{count} dead letters"))
}
