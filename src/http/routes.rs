//! Which calls and pages each address of the hub answers.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::door::Door;
use super::net::{gate, upgrade};
use super::problem::Problem;
use super::{calls, dev, pages, probes, tencent};

/// What an address answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everything.
    Whole,
    /// What clients need, where the server API has an address of its own.
    Clients,
    /// The server API and the dashboard.
    Admin,
    /// `/metrics` alone, open to whoever reaches the address.
    Metrics,
}

/// The routes of an address.
pub fn router(door: &Arc<Door>, face: Face) -> Router {
    let settings = door.settings();
    let metrics = || match settings.metrics_apart {
        true => Router::new(),
        false => probes::metrics_route(),
    };
    // The demo goes with the development calls.
    let pages = || match settings.development {
        Some(_) => pages::demo(),
        None => pages::sdk(),
    };
    let routes = match face {
        Face::Whole => clients(door).merge(admin(door)).merge(metrics()),
        Face::Clients => clients(door).merge(pages()).merge(metrics()),
        Face::Admin => admin(door).merge(probes::routes()),
        Face::Metrics => probes::open_metrics_route(),
    };
    routes
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::clone(door))
        .layer(middleware::from_fn_with_state(Arc::clone(door), gate::pass))
}

/// What clients need.
fn clients(door: &Door) -> Router<Arc<Door>> {
    let routes = Router::new().route("/ws", get(upgrade::upgrade)).merge(probes::routes());
    if door.settings().development.is_none() {
        return routes;
    }
    routes.route("/dev/token", post(dev::token)).route("/dev/ignore", post(dev::ignore))
}

/// The server API and the dashboard.
fn admin(door: &Door) -> Router<Arc<Door>> {
    calls::routes(&door.cookie).merge(tencent::routes()).merge(pages::all())
}
