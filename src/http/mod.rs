//! The door: what answers HTTP, and where WebSockets come in.

mod access;
mod calls;
mod dev;
mod extract;
mod net;
mod openapi;
mod pages;
mod probes;
mod problem;
mod tencent;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::access::keys::cookie_name;
use self::access::audit;
use self::calls::operation::series::Series;
pub use self::calls::operation::series::keep_series;
use self::calls::operation::{nodes, series, stats};
pub use self::calls::policy::explanation;
use self::calls::users::{act, read};
use self::calls::{dashboard, events, policy, refusals, sessions, webhooks};
use self::net::addresses;
pub use self::net::forwarded::TrustedProxies;
pub use self::net::listen::{ListenFault, Listener, bind, serve, tls};
pub use self::net::origin::OriginRule;
use self::net::unlisted::Unlisted;
use self::net::{gate, upgrade};
use self::pages::compressed::Compressed;
use self::problem::Problem;
pub use self::tencent::Tencent;
use crate::auth::{ApiKeys, Buckets, Logins, Rate, TokenRules};
use crate::hub::Hub;
use crate::presence::Timestamp;
use crate::session::Sessions;
use crate::webhook::Webhook;

/// How many sockets there may be for plain requests while every WebSocket is taken.
const REQUESTS_SPARE: usize = 32;

/// What every request shares.
pub struct Door {
    hub: Arc<Hub>,
    sessions: Arc<Sessions>,
    webhook: Arc<Webhook>,
    settings: ArcSwap<Settings>,
    /// The WebSockets there may be.
    places: Arc<Semaphore>,
    /// The sockets there may be, those of plain requests among them.
    sockets: Arc<Semaphore>,
    by_address: Buckets<IpAddr>,
    /// When each origin's refusal was last logged.
    refused_origins: Mutex<BTreeMap<String, Timestamp>>,
    unlisted: Unlisted,
    compressed: Compressed,
    /// Who is logged in at the dashboard.
    logins: Logins,
    /// How many wrong keys each address has to log in with, and may have noted elsewhere.
    wrong_keys: Buckets<IpAddr>,
    /// See [`wrong_keys`](Self::wrong_keys).
    wrong_keys_noted: Buckets<IpAddr>,
    /// The name of the dashboard's cookie.
    cookie: String,
    trail: Arc<audit::Trail>,
    /// How many WebSockets each address has open.
    addresses: Arc<addresses::Addresses>,
    series: Series,
    /// Held while the process is looked at.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// By the wall clock, and on the process's own time.
    started: Timestamp,
    begun: Timestamp,
}

/// What an operator decides about the door.
#[derive(Clone)]
pub struct Settings {
    /// Which pages may connect.
    pub origins: OriginRule,
    /// Whose X-Forwarded headers and Forwarded count.
    pub trusted_proxies: TrustedProxies,
    /// How many WebSockets there may be; stays as it is at the start.
    pub max_connections: usize,
    /// How often one address may open one; loopback is not counted.
    pub connections_per_address: Rate,
    /// The keys to the server API.
    pub keys: ApiKeys,
    /// The Tencent Cloud IM application whose back end may call; where there is none, nobody's may.
    pub tencent: Option<Tencent>,
    /// Set in development mode alone.
    pub development: Option<Development>,
    /// Whether `/metrics` has an address of its own, and so none among the others.
    pub metrics_apart: bool,
    /// Every setting, secrets hidden.
    pub config: Arc<serde_json::Value>,
    /// The name of the dashboard's cookie; stays as it is at the start.
    pub cookie: String,
    /// The store's directory; `None` where it is kept in memory.
    pub data: Option<PathBuf>,
    /// The defaults of all settings.
    pub defaults: Arc<serde_json::Value>,
    /// How long a connection's first request may take to arrive.
    pub handshake_timeout: Duration,
    /// How long a connection is kept for its next request.
    pub keep_alive: Duration,
}

/// What makes development easy, and may never be reached from elsewhere.
#[derive(Clone)]
pub struct Development {
    /// The key to the development calls.
    pub keys: ApiKeys,
    /// What tokens are signed with.
    pub secret: Vec<u8>,
    /// What they say.
    pub rules: TokenRules,
}

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

impl Door {
    /// Makes the door to a hub.
    pub fn new(sessions: Arc<Sessions>, webhook: Arc<Webhook>, settings: Settings) -> Arc<Self> {
        let hub = Arc::clone(sessions.hub());
        let places = settings.max_connections.min(Semaphore::MAX_PERMITS - REQUESTS_SPARE);
        let by_address = Buckets::default();
        Arc::new(Self {
            cookie: settings.cookie.clone(),
            logins: Logins::default(),
            wrong_keys: Buckets::default(),
            wrong_keys_noted: Buckets::default(),
            trail: Arc::new(audit::Trail::new(hub.clock().clone())),
            addresses: Arc::default(),
            series: Series::default(),
            looking: Arc::default(),
            started: hub.clock().wall(),
            begun: hub.clock().now(),
            hub,
            sessions,
            webhook,
            settings: ArcSwap::from_pointee(settings),
            places: Arc::new(Semaphore::new(places)),
            sockets: Arc::new(Semaphore::new(places + REQUESTS_SPARE)),
            by_address,
            refused_origins: Mutex::default(),
            unlisted: Unlisted::default(),
            compressed: Compressed::default(),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Puts other settings in force, from the next request on; whoever logged in by a key that is no
    /// longer there is logged out.
    pub fn set_settings(&self, settings: Settings) {
        let settings = Arc::new(settings);
        self.settings.store(Arc::clone(&settings));
        self.logins.keep(|key| settings.keys.known(key).is_some());
    }

    fn uptime_ms(&self) -> u64 {
        (self.hub.clock().now().as_millis()).saturating_sub(self.begun.as_millis())
    }

    /// The routes of an address.
    pub fn router(self: &Arc<Self>, face: Face) -> Router {
        let settings = self.settings();
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
            Face::Whole => self.clients().merge(self.admin()).merge(metrics()),
            Face::Clients => self.clients().merge(pages()).merge(metrics()),
            Face::Admin => self.admin().merge(probes::routes()),
            Face::Metrics => probes::open_metrics_route(),
        };
        routes
            .fallback(async || Problem::not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .with_state(Arc::clone(self))
            .layer(middleware::from_fn_with_state(Arc::clone(self), gate::pass))
    }

    fn clients(self: &Arc<Self>) -> Router<Arc<Self>> {
        let routes = Router::new().route("/ws", get(upgrade::upgrade)).merge(probes::routes());
        if self.settings().development.is_none() {
            return routes;
        }
        routes.route("/dev/token", post(dev::token)).route("/dev/ignore", post(dev::ignore))
    }

    /// The server API, and its description, which is made of the same list.
    fn admin(self: &Arc<Self>) -> Router<Arc<Self>> {
        let (api, document) = OpenApiRouter::with_openapi(openapi::frame(&self.cookie))
            .routes(routes!(act::statuses))
            .routes(routes!(sessions::users))
            .routes(routes!(act::user))
            .routes(routes!(events::history))
            .routes(routes!(read::watchers))
            .routes(routes!(act::kick))
            .routes(routes!(act::set_custom))
            .routes(routes!(policy::explain))
            .routes(routes!(sessions::sessions))
            .routes(routes!(sessions::snapshot))
            .routes(routes!(events::events))
            .routes(routes!(webhooks::state))
            .routes(routes!(webhooks::test))
            .routes(routes!(webhooks::dead))
            .routes(routes!(webhooks::retry))
            .routes(routes!(webhooks::drop_dead))
            .merge(operators_calls())
            .split_for_parts();
        // As it is sent: the document itself takes some ten times as much memory.
        let document = serde_json::to_vec(&document)
            .unwrap_or_else(|error| unreachable!("a description makes JSON: {error}"));
        let document = Bytes::from(document);
        api.route(
            "/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], document)),
        )
        .route("/v1/{*path}", any(act::unknown))
        .route("/v4/{*path}", any(tencent::call))
        .merge(pages::all())
    }
}

/// What operators ask of the hub itself.
fn operators_calls() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(stats::stats))
        .routes(routes!(series::series))
        .routes(routes!(refusals::refusals))
        .routes(routes!(nodes::nodes))
        .routes(routes!(dashboard::config))
        .routes(routes!(dashboard::defaults))
        .routes(routes!(audit::audit))
        .routes(routes!(addresses::addresses))
        .routes(routes!(dashboard::log_in, dashboard::who, dashboard::log_out))
}
