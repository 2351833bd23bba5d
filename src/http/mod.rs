//! The HTTP server: the server API, WebSocket upgrades, probes and static pages.
//!
//! [`AppState`] is the state that all requests share; `routes` maps addresses to calls. `net` accepts
//! connections, `access` authenticates callers, `extract` parses requests, `calls` implements `/v1`,
//! `tencent` implements `/v4`, `probes` serves health and metrics, and `pages` serves `static/`.

mod access;
mod calls;
mod dev;
mod extract;
mod face;
mod net;
mod openapi;
mod pages;
mod probes;
mod problem;
mod routes;
mod settings;
mod state;
mod stats_series;
mod tencent;
mod traced;
mod undelivered;

pub use self::access::cookie::cookie_name;
pub use self::access::proxy_login::ProxyLogin;
pub use self::calls::operation::{record_stats, show_to_other_hubs};
pub use self::face::Face;
pub use self::net::forwarded::TrustedProxies;
pub use self::net::listen::{ListenFault, Listener, bind, serve};
pub use self::net::origin::OriginRule;
pub use self::net::places::SPARE as SPARE_SOCKETS;
pub use self::net::tls::{Certificate, TlsFault};
pub use self::routes::router;
pub use self::settings::{Development, Settings};
pub use self::state::{ADMIN_SOCKETS, AppState, METRICS_SOCKETS};
pub use self::tencent::application::TencentApplication;
