//! `GET /v1/addresses`: the client addresses with the most open WebSockets.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::access::MayRead;
use crate::http::extract::{Limit, QueryParams};
use crate::http::net::addresses::AddressPage;
use crate::http::openapi::Refusals;
use crate::http::state::AppState;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressesRequest {
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
}

/// `GET /v1/addresses`: the client addresses with the most open WebSockets at this hub.
#[utoipa::path(
    get,
    path = "/v1/addresses",
    operation_id = "listAddresses",
    tag = "operation",
    params(AddressesRequest),
    responses(
        (status = 200, description = "The addresses, in descending order of WebSockets.", body = AddressPage),
        Refusals,
    ),
)]
pub(crate) async fn addresses(
    State(app): State<Arc<AppState>>,
    _: MayRead,
    QueryParams(AddressesRequest { limit }): QueryParams<AddressesRequest>,
) -> Json<AddressPage> {
    Json(app.addresses.most(limit.get()))
}
