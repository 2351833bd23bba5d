//! The counts over the last hour.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{MissedTickBehavior, interval};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::keys::MayRead;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Asked;
use super::stats::Counted;
use crate::presence::Timestamp;

/// How often there is a point.
const EVERY: Duration = Duration::from_secs(5);
/// How many minutes are kept, and shown where it is not said.
const MINUTES_MAX: u32 = 60;
/// See [`MINUTES_MAX`].
const MINUTES: u32 = 15;

/// The points that are kept, the oldest first.
#[derive(Default)]
pub(super) struct Series(Mutex<VecDeque<Point>>);

/// The counts at a time, encoded once.
struct Point {
    at: Timestamp,
    /// On the process's own time, which does not jump.
    taken: Timestamp,
    json: Arc<RawValue>,
}

impl Series {
    fn push(&self, point: Point) {
        let mut points = self.0.lock();
        let oldest = point.taken - Duration::from_secs(60) * MINUTES_MAX;
        points.push_back(point);
        while points.front().is_some_and(|first| first.taken <= oldest) {
            points.pop_front();
        }
    }

    fn since(&self, taken: Timestamp, after: Option<Timestamp>) -> Vec<Arc<RawValue>> {
        let points = self.0.lock();
        let wanted = points.iter().filter(|point| point.taken >= taken);
        let wanted = wanted.filter(|point| after.is_none_or(|after| point.at > after));
        wanted.map(|point| Arc::clone(&point.json)).collect()
    }
}

/// Takes a point each five seconds, whether anybody looks or not, for as long as the process lives.
pub async fn keep_series(door: Arc<Door>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match take(&door).await {
            Ok(point) => door.series.push(point),
            Err(problem) => tracing::debug!(?problem, "a point of the series is left out"),
        }
    }
}

async fn take(door: &Door) -> Result<Point, Problem> {
    let totals = door.hub.totals().await?;
    let counted = Counted::now(door, &totals).await?;
    let json = to_raw_value(&counted);
    let json = json.unwrap_or_else(|error| unreachable!("counts make JSON: {error}"));
    Ok(Point { at: counted.at, taken: door.hub.clock().now(), json: json.into() })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesRequest {
    /// How far back.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 60)]
    minutes: Minutes,
    /// Only what came after a point: its `at`.
    #[param(value_type = Option<u64>)]
    after: Option<Timestamp>,
}

struct Minutes(u32);

impl Default for Minutes {
    fn default() -> Self {
        Self(MINUTES)
    }
}

impl<'de> Deserialize<'de> for Minutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minutes = u32::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`minutes` must be 1 to {MINUTES_MAX}"));
        (1..=MINUTES_MAX).contains(&minutes).then_some(Self(minutes)).ok_or_else(wrong)
    }
}

/// The counts over time.
#[derive(Serialize, ToSchema)]
pub(super) struct SeriesPage {
    every_ms: u64,
    /// The oldest first.
    #[schema(value_type = Vec<Counted>)]
    points: Vec<Arc<RawValue>>,
}

/// `GET /v1/stats/series`: what `/v1/stats` said over the last minutes, but for the hubs.
#[utoipa::path(
    get,
    path = "/v1/stats/series",
    params(SeriesRequest),
    responses(
        (status = 200, description = "The counts over time.", body = SeriesPage),
        Refusals,
    ),
)]
pub(super) async fn series(
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(SeriesRequest { minutes, after }): Asked<SeriesRequest>,
) -> Response {
    let since = door.hub.clock().now() - Duration::from_secs(60) * minutes.0;
    let every_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
    Json(SeriesPage { every_ms, points: door.series.since(since, after) }).into_response()
}
