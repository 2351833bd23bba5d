//! The calls about the hub itself: counts, nodes, settings, the audit log, client addresses.

mod addresses;
mod audit;
mod config;
mod figures;
mod nodes;
mod series;
mod stats;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::series::{record_stats, show_to_other_hubs};
use crate::http::state::AppState;

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(stats::stats))
        .routes(routes!(series::series))
        .routes(routes!(figures::figures))
        .routes(routes!(nodes::nodes))
        .routes(routes!(config::config))
        .routes(routes!(config::defaults))
        .routes(routes!(audit::audit))
        .routes(routes!(addresses::addresses))
}
