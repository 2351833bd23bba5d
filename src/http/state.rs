//! The state that all HTTP requests share: the hub, the settings, limits and counters.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::access::audit::{AuditLog, WRONG_KEYS_LOGGED};
use super::access::budget::KeyBudgets;
use super::access::logins::DashboardLogins;
use super::face::Face;
use super::net::addresses::Addresses;
use super::net::places::Places;
use super::net::tls::Certificate;
use super::net::unlisted::UnlistedProxies;
use super::pages::compressed::Compressed;
use super::settings::Settings;
use super::stats_series::StatsSeries;
use crate::auth::Buckets;
use crate::figures::Figures;
use crate::hub::Hub;
use crate::presence::Timestamp;
use crate::session::Sessions;
use crate::store::SharedLogins;
use crate::throttle::{KeyedThrottle, LineLimits};
use crate::webhook::Webhooks;

/// Sockets reserved for plain requests while all WebSockets are in use.
const REQUESTS_SPARE: usize = 16;
/// How many sockets the server API's own address has.
pub const ADMIN_SOCKETS: usize = 64;
/// How many sockets the own address of `/metrics` has.
pub const METRICS_SOCKETS: usize = 16;

/// The state that all HTTP requests share.
pub struct AppState {
    pub(super) hub: Arc<Hub>,
    /// Where the hub listens, once it does.
    address: OnceLock<String>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) figures: Arc<Figures>,
    settings: ArcSwap<Settings>,
    /// The certificate of the addresses with TLS, if there are any.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Bounds the open WebSockets.
    pub(super) websocket_permits: Arc<Semaphore>,
    /// Bounds all sockets of the main address, including those of plain requests.
    places: Arc<Places>,
    admin_places: Arc<Places>,
    metrics_places: Arc<Places>,
    /// Limits new connections of each address.
    pub(super) by_address: Buckets<IpAddr>,
    /// Limits warnings about refused origins.
    pub(super) refused_origins: KeyedThrottle<String>,
    pub(super) unlisted_proxies: UnlistedProxies,
    pub(super) compressed: Compressed,
    /// Logins at the dashboard.
    pub(super) logins: DashboardLogins,
    /// Limits login attempts with wrong keys.
    pub(super) wrong_keys: Buckets<IpAddr>,
    /// What each key may still ask.
    pub(super) key_budgets: KeyBudgets,
    /// Limits audit entries about wrong keys.
    pub(super) wrong_keys_logged: KeyedThrottle<IpAddr>,
    /// The name of the dashboard's cookie.
    pub(super) cookie: String,
    pub(super) audit_log: Arc<AuditLog>,
    /// The open WebSockets of each address.
    pub(super) addresses: Arc<Addresses>,
    pub(super) stats_series: StatsSeries,
    /// Allows one measurement of the process at a time: a hung disk must not block many threads.
    pub(super) measuring: Arc<tokio::sync::Mutex<()>>,
    /// Wall clock time.
    pub(super) started: Timestamp,
    /// The same moment on the hub's steady clock, for the uptime.
    started_steady: Timestamp,
}

impl AppState {
    /// Creates the state, with empty counters and limits.
    pub fn new(
        sessions: Arc<Sessions>,
        webhooks: Arc<Webhooks>,
        figures: Arc<Figures>,
        logins: Option<Arc<dyn SharedLogins>>,
        certificate: Option<Arc<Certificate>>,
        settings: Settings,
    ) -> Arc<Self> {
        let hub = Arc::clone(sessions.hub());
        let websockets = settings.max_connections.min(Semaphore::MAX_PERMITS - REQUESTS_SPARE);
        let by_address = Buckets::default();
        Arc::new(Self {
            cookie: settings.cookie.clone(),
            logins: DashboardLogins::new(logins),
            wrong_keys: Buckets::default(),
            key_budgets: KeyBudgets::default(),
            wrong_keys_logged: KeyedThrottle::new(WRONG_KEYS_LOGGED),
            audit_log: Arc::new(AuditLog::new(hub.clock().clone())),
            addresses: Arc::default(),
            stats_series: StatsSeries::default(),
            measuring: Arc::default(),
            started: hub.clock().wall(),
            started_steady: hub.clock().now(),
            address: OnceLock::new(),
            hub,
            sessions,
            webhooks,
            figures,
            settings: ArcSwap::from_pointee(settings),
            certificate,
            websocket_permits: Arc::new(Semaphore::new(websockets)),
            places: Places::new(websockets + REQUESTS_SPARE),
            admin_places: Places::new(ADMIN_SOCKETS),
            metrics_places: Places::new(METRICS_SOCKETS),
            by_address,
            refused_origins: KeyedThrottle::new(LineLimits::EACH_ONCE),
            unlisted_proxies: UnlistedProxies::default(),
            compressed: Compressed::default(),
        })
    }

    /// The places for sockets of a listening address. Each has its own, so that a crowd of clients does
    /// not keep operators out.
    pub(super) const fn places(&self, face: Face) -> &Arc<Places> {
        match face {
            Face::Whole | Face::Clients => &self.places,
            Face::Admin => &self.admin_places,
            Face::Metrics => &self.metrics_places,
        }
    }

    /// Whether more than an eighth of the clients' sockets are no WebSockets. Otherwise requests that keep
    /// their connections could take the places of WebSockets.
    pub(super) fn is_crowded_by_requests(&self, face: Face) -> bool {
        let places = match face {
            Face::Whole | Face::Clients => &self.places,
            Face::Admin | Face::Metrics => return false,
        };
        let websockets =
            places.total() - REQUESTS_SPARE - self.websocket_permits.available_permits();
        places.has_many_besides(websockets)
    }

    /// The current settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Applies new settings from the next request on. Logins whose key was removed end.
    pub fn set_settings(&self, settings: Settings) {
        let settings = Arc::new(settings);
        self.settings.store(Arc::clone(&settings));
        self.logins.keep(|key| settings.keys.known(key).is_some());
    }

    /// Sets where the hub listens. An address that stands for all of a machine is shown as the machine's name.
    pub fn set_address(&self, address: SocketAddr) {
        let machine = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = address.ip().is_unspecified().then(machine).flatten();
        let shown = match name {
            Some(name) => format!("{}:{}", name.trim(), address.port()),
            None => address.to_string(),
        };
        self.address.set(shown).ok();
    }

    /// Where the hub listens; empty until it does.
    pub(super) fn listens_at(&self) -> &str {
        self.address.get().map_or("", String::as_str)
    }

    pub(super) fn uptime_ms(&self) -> u64 {
        (self.hub.clock().now().as_millis()).saturating_sub(self.started_steady.as_millis())
    }
}
