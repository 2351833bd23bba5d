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
use serde_json::value::RawValue;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::{IntoParams, ToSchema};

use crate::http::Door;
use crate::http::access::keys::MayRead;
use crate::http::openapi::Refusals;
use crate::http::problem::Problem;
use crate::http::extract::query::{Asked, UpTo};
use super::stats::Counted;
use crate::presence::Timestamp;

/// How often there is a point.
const EVERY: Duration = Duration::from_secs(5);
/// How many minutes are kept, and shown where it is not said.
const MINUTES_MAX: u32 = 60;
/// See [`MINUTES_MAX`].
const MINUTES: u32 = 15;

/// The points that are kept.
///
/// In one text, for a point lives an hour among what lives for seconds: by itself it would keep the
/// page of memory that it shares with them from being given back.
#[derive(Default)]
pub(crate) struct Series(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    points: VecDeque<Point>,
    /// Their JSON, with a comma after each.
    text: String,
}

/// The counts at a time.
struct Point {
    at: Timestamp,
    /// On the process's own time, which does not jump.
    taken: Timestamp,
    /// How many bytes of the text are its own.
    bytes: usize,
}

impl Series {
    fn push(&self, at: Timestamp, taken: Timestamp, json: &str) {
        let mut kept = self.0.lock();
        let Kept { points, text } = &mut *kept;
        points.push_back(Point { at, taken, bytes: json.len() + 1 });
        text.push_str(json);
        text.push(',');
        let oldest = taken - Duration::from_secs(60) * MINUTES_MAX;
        while let Some(aged) = points.pop_front_if(|first| first.taken <= oldest) {
            text.drain(..aged.bytes);
        }
    }

    /// The points from one on, as a JSON array.
    fn since(&self, taken: Timestamp, after: Option<Timestamp>) -> String {
        let kept = self.0.lock();
        let is_older =
            |point: &&Point| point.taken < taken || after.is_some_and(|after| point.at <= after);
        let older: usize = kept.points.iter().take_while(is_older).map(|point| point.bytes).sum();
        let wanted = &kept.text[older..];
        format!("[{}]", wanted.strip_suffix(',').unwrap_or_default())
    }
}

/// Takes a point each five seconds, whether anybody looks or not, for as long as the process lives.
pub async fn keep_series(door: Arc<Door>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(problem) = take(&door).await {
            tracing::debug!(?problem, "a point of the series is left out");
        }
    }
}

async fn take(door: &Door) -> Result<(), Problem> {
    let totals = door.hub.totals().await?;
    let counted = Counted::now(door, &totals).await?;
    let json = serde_json::to_string(&counted);
    let json = json.unwrap_or_else(|error| unreachable!("counts make JSON: {error}"));
    door.series.push(counted.at, door.hub.clock().now(), &json);
    Ok(())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesRequest {
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
        let minutes = deserializer.deserialize_u64(UpTo(u64::from(MINUTES_MAX)))?;
        Ok(Self(u32::try_from(minutes).unwrap_or(MINUTES)))
    }
}

/// The counts over time.
#[derive(Serialize, ToSchema)]
pub(crate) struct SeriesPage {
    every_ms: u64,
    /// The oldest first.
    #[schema(value_type = Vec<Counted>)]
    points: Box<RawValue>,
}

/// `GET /v1/stats/series`: what `/v1/stats` said over the last minutes, but for the hubs.
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
    State(door): State<Arc<Door>>,
    _: MayRead,
    Asked(SeriesRequest { minutes, after }): Asked<SeriesRequest>,
) -> Response {
    let since = door.hub.clock().now() - Duration::from_secs(60) * minutes.0;
    let every_ms = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
    let points = RawValue::from_string(door.series.since(since, after));
    let points = points.unwrap_or_else(|error| unreachable!("points make JSON: {error}"));
    Json(SeriesPage { every_ms, points }).into_response()
}
