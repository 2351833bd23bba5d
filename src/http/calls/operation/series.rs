//! `GET /v1/stats/series`: the counts over the last minutes, up to an hour.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::nodes::Node;
use super::stats::HubCounts;
use crate::http::access::MayRead;
use crate::http::extract::{QueryParams, UpTo};
use crate::http::openapi::Refusals;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::http::stats_series::MINUTES_MAX;
use crate::presence::Timestamp;

/// The interval between points.
const EVERY: Duration = Duration::from_secs(5);
/// The default number of minutes.
const MINUTES: u32 = 15;

/// Records a point every five seconds, and tells the other hubs how this one is; runs for ever.
pub async fn record_stats(app: Arc<AppState>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        show_to_other_hubs(&app).await;
        if let Err(problem) = take(&app).await {
            tracing::debug!(?problem, "stats point skipped");
        }
    }
}

/// Puts how this hub is on its card, which the other hubs read.
pub async fn show_to_other_hubs(app: &AppState) {
    app.hub.set_card(Node::card(app).await);
}

async fn take(app: &AppState) -> Result<(), Problem> {
    let totals = app.hub.totals().await?;
    let counted = HubCounts::now(app, &totals).await?;
    let json = serde_json::to_string(&counted);
    let json = json.unwrap_or_else(|error| unreachable!("counts make JSON: {error}"));
    app.stats_series.push(counted.at, app.hub.clock().now(), &json);
    Ok(())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesRequest {
    /// The number of minutes to show.
    #[serde(default)]
    #[param(inline)]
    minutes: Minutes,
    /// Only points after this one: its `at`.
    after: Option<Timestamp>,
}

struct Minutes(u32);

impl Default for Minutes {
    fn default() -> Self {
        Self(MINUTES)
    }
}

impl PartialSchema for Minutes {
    fn schema() -> RefOr<Schema> {
        UpTo(u64::from(MINUTES_MAX)).schema()
    }
}

impl ToSchema for Minutes {}

impl<'de> Deserialize<'de> for Minutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minutes = deserializer.deserialize_u64(UpTo(u64::from(MINUTES_MAX)))?;
        Ok(Self(u32::try_from(minutes).unwrap_or(MINUTES)))
    }
}

/// The counts over time.
#[derive(Serialize, ToSchema)]
pub(crate) struct SeriesPage {
    every_ms: u64,
    /// In ascending order of time.
    #[schema(value_type = Vec<HubCounts>)]
    points: Box<RawValue>,
}

/// `GET /v1/stats/series`: the counts of `/v1/stats` over the last minutes, without the nodes.
#[utoipa::path(
    get,
    path = "/v1/stats/series",
    operation_id = "getStatsSeries",
    tag = "operation",
    params(SeriesRequest),
    responses(
        (status = 200, description = "The counts over time.", body = SeriesPage),
        Refusals,
    ),
)]
pub(crate) async fn series(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(SeriesRequest { minutes, after }): QueryParams<SeriesRequest>,
) -> Response {
    let since = app.hub.clock().now() - Duration::from_secs(60) * minutes.0;
    let every_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
    let points = RawValue::from_string(app.stats_series.since(since, after));
    let points = points.unwrap_or_else(|error| unreachable!("points make JSON: {error}"));
    Json(SeriesPage { every_ms, points }).into_response()
}
