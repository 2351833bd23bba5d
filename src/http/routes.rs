//! The routes of each listening address.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::face::Face;
use super::net::{gate, upgrade};
use super::problem::Problem;
use super::state::AppState;
use super::{calls, dev, pages, probes, tencent, traced};
use crate::traces;

/// The routes of an address.
pub fn router(app: &Arc<AppState>, face: Face) -> Router {
    let settings = app.settings();
    let metrics = || match settings.metrics_apart {
        true => Router::new(),
        false => probes::metrics_route(),
    };
    // The demo needs the development calls.
    let pages = || match settings.development {
        Some(_) => pages::demo(),
        None => pages::sdk(),
    };
    let routes = match face {
        Face::Whole => clients(app).merge(admin(app)).merge(metrics()),
        Face::Clients => clients(app).merge(pages()).merge(metrics()),
        Face::Admin => admin(app).merge(probes::routes()),
        Face::Metrics => probes::open_metrics_route(),
    };
    routes
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::clone(app))
        .layer(middleware::from_fn_with_state(Arc::clone(app), gate::pass))
}

/// `/ws`, the probes and, in development mode, the development calls.
fn clients(app: &AppState) -> Router<Arc<AppState>> {
    let routes = Router::new().route("/ws", get(upgrade::upgrade)).merge(probes::routes());
    if app.settings().development.is_none() {
        return routes;
    }
    let development = Router::new()
        .route("/dev/token", post(dev::token))
        .route("/dev/ignore", post(dev::ignore))
        .route("/dev/clock", post(dev::clock));
    routes.merge(development)
}

/// The server APIs and the pages.
fn admin(app: &AppState) -> Router<Arc<AppState>> {
    let mut calls = calls::routes(&app.cookie).merge(tencent::routes());
    if traces::is_on() {
        calls = calls.layer(middleware::from_fn(traced::pass));
    }
    calls.merge(pages::all())
}
