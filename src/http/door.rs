//! What every request shares: the hub, the settings in force, and what the door counts and remembers.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::access::WRONG_KEYS_NOTED;
use super::access::audit::Trail;
use super::net::addresses::Addresses;
use super::net::unlisted::Unlisted;
use super::pages::compressed::Compressed;
use super::points::Points;
use super::settings::Settings;
use crate::auth::{Buckets, Logins};
use crate::hub::Hub;
use crate::presence::Timestamp;
use crate::session::Sessions;
use crate::throttle::{KeyedThrottle, Lines};
use crate::webhook::Webhook;

/// How many sockets there may be for plain requests while every WebSocket is taken.
const REQUESTS_SPARE: usize = 32;

/// What every request shares.
pub struct Door {
    pub(super) hub: Arc<Hub>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) webhook: Arc<Webhook>,
    settings: ArcSwap<Settings>,
    /// The WebSockets there may be.
    pub(super) places: Arc<Semaphore>,
    /// The sockets there may be, those of plain requests among them.
    pub(super) sockets: Arc<Semaphore>,
    pub(super) by_address: Buckets<IpAddr>,
    /// Limits the warnings of refused origins.
    pub(super) refused_origins: KeyedThrottle<String>,
    pub(super) unlisted: Unlisted,
    pub(super) compressed: Compressed,
    /// Who is logged in at the dashboard.
    pub(super) logins: Logins,
    /// How many wrong keys each address has to log in with.
    pub(super) wrong_keys: Buckets<IpAddr>,
    /// Limits the notes of wrong keys.
    pub(super) wrong_keys_noted: KeyedThrottle<IpAddr>,
    /// The name of the dashboard's cookie.
    pub(super) cookie: String,
    pub(super) trail: Arc<Trail>,
    /// How many WebSockets each address has open.
    pub(super) addresses: Arc<Addresses>,
    pub(super) points: Points,
    /// Held while the process is looked at.
    pub(super) looking: Arc<tokio::sync::Mutex<()>>,
    /// By the wall clock, and on the process's own time.
    pub(super) started: Timestamp,
    begun: Timestamp,
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
            wrong_keys_noted: KeyedThrottle::new(WRONG_KEYS_NOTED),
            trail: Arc::new(Trail::new(hub.clock().clone())),
            addresses: Arc::default(),
            points: Points::default(),
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
            refused_origins: KeyedThrottle::new(Lines::EACH_ONCE),
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

    pub(super) fn uptime_ms(&self) -> u64 {
        (self.hub.clock().now().as_millis()).saturating_sub(self.begun.as_millis())
    }
}
