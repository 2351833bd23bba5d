//! `GET /v1/figures`: the figures of each day.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::figures::{DAYS_KEPT, DayFigures};
use crate::http::access::MayRead;
use crate::http::extract::{QueryParams, UpTo};
use crate::http::openapi::Refusals;
use crate::http::problem::Problem;
use crate::http::state::AppState;

/// The default number of days.
const DAYS: u32 = 30;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FiguresRequest {
    /// The number of days, the present one included.
    #[serde(default)]
    #[param(inline)]
    days: DaysAsked,
}

struct DaysAsked(u32);

impl Default for DaysAsked {
    fn default() -> Self {
        Self(DAYS)
    }
}

impl PartialSchema for DaysAsked {
    fn schema() -> RefOr<Schema> {
        UpTo(u64::from(DAYS_KEPT)).schema()
    }
}

impl ToSchema for DaysAsked {}

impl<'de> Deserialize<'de> for DaysAsked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let days = deserializer.deserialize_u64(UpTo(u64::from(DAYS_KEPT)))?;
        Ok(Self(u32::try_from(days).unwrap_or(DAYS)))
    }
}

/// The figures of the last days.
#[derive(Serialize, ToSchema)]
pub(crate) struct FiguresPage {
    /// The days that have figures, oldest first. Those of the present day are up to 10 s old.
    days: Vec<DayFigures>,
}

/// `GET /v1/figures`: the figures of the last days, up to 400.
#[utoipa::path(
    get,
    path = "/v1/figures",
    operation_id = "getFigures",
    tag = "operation",
    params(FiguresRequest),
    responses(
        (status = 200, description = "The figures of each day.", body = FiguresPage),
        Refusals,
    ),
)]
pub(crate) async fn figures(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(FiguresRequest { days }): QueryParams<FiguresRequest>,
) -> Result<Json<FiguresPage>, Problem> {
    Ok(Json(FiguresPage { days: app.figures.last(days.0).await? }))
}
