//! What all connections share: the hub, the settings, and what is counted over connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::idle_cuts::IdleCuts;
use super::refusals::RefusedLogins;
use crate::auth::{Buckets, Rate, Verifier};
use crate::hub::Hub;
use crate::presence::UserId;
use crate::throttle::{KeyedThrottle, LineLimits};

/// The state that all connections share.
pub struct Sessions {
    hub: Arc<Hub>,
    settings: ArcSwap<Settings>,
    pub(super) changes: Buckets<UserId>,
    pub(super) bad_logins: Buckets<IpAddr>,
    pub(super) lookups: Buckets<UserId>,
    /// Limits warnings about users who have filled the quota of the transition log.
    pub(super) over_quota: KeyedThrottle<UserId>,
    pub(super) refusals: Arc<RefusedLogins>,
    pub(super) idle_cuts: Mutex<IdleCuts>,
}

/// The settings for connections. A connection keeps the limits that it began with, but every token is
/// checked by the present verifier.
#[derive(Clone)]
pub struct Settings {
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The maximum time between the upgrade and the login.
    pub login_timeout: Duration,
    /// The maximum size of a message.
    pub message_bytes_max: usize,
    /// The maximum number of users that one session watches.
    pub subscriptions: usize,
    /// Whether sessions may hide their user and block viewers.
    pub self_service: bool,
    /// The rate limit for messages of a connection.
    pub messages: Rate,
    /// The rate limit for changes of a user: login, set, refresh, background, and words that change a
    /// terminal's activity.
    pub changes: Rate,
    /// The rate limit for the work of a connection.
    pub work: Rate,
    /// The rate limit for logins of an address with tokens that no key of the hub signed.
    pub bad_logins: Rate,
    /// The rate limit for the ids that a user names in subscriptions and queries, over all sessions.
    pub lookups: Rate,
    /// How long a connection may read nothing while frames are unsent (V4).
    pub slow_consumer: Duration,
}

impl Sessions {
    /// Makes the shared state.
    pub fn new(hub: Arc<Hub>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            hub,
            settings: ArcSwap::from_pointee(settings),
            changes: Buckets::default(),
            bad_logins: Buckets::default(),
            lookups: Buckets::default(),
            over_quota: KeyedThrottle::new(LineLimits::EACH_ONCE),
            refusals: Arc::default(),
            idle_cuts: Mutex::default(),
        })
    }

    /// The hub.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The latest refused logins.
    pub fn refusals(&self) -> &RefusedLogins {
        &self.refusals
    }

    /// The settings for new connections.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Replaces the settings for new connections. Fetched keys are kept.
    pub fn set_settings(&self, settings: Settings) {
        let verifier = settings.verifier.keeping_keys_of(&self.settings().verifier);
        self.settings.store(Arc::new(Settings { verifier, ..settings }));
    }
}
