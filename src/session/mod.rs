//! The actor of one connection: reads its socket, answers requests, and detects silence.

mod actor;
mod channel;
mod disconnect;
mod idle_cuts;
mod limits;
mod logged_in;
mod reader;
mod refusals;
mod requests;
mod socket;
mod timers;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;

use self::actor::Actor;
use self::channel::Channel;
pub use self::idle_cuts::IdleCuts;
use self::reader::Reader;
pub use self::refusals::{RefusedLogin, RefusedLogins};
use self::socket::Socket;
use crate::auth::{Buckets, Rate, Verifier};
use crate::hub::{Hub, WriteHalf};
use crate::presence::UserId;

/// The state that all connections share.
pub struct Sessions {
    hub: Arc<Hub>,
    settings: ArcSwap<Settings>,
    changes: Buckets<UserId>,
    refusals: Arc<RefusedLogins>,
    idle_cuts: Mutex<IdleCuts>,
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
    /// The rate limit for messages of a connection.
    pub messages: Rate,
    /// The rate limit for changes of a user: login, set, refresh, background.
    pub changes: Rate,
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

    /// Serves an upgraded connection until its end. `early` holds bytes that were read after the
    /// handshake; `held` is dropped at the end.
    ///
    /// Not an `async fn`: its future would hold the arguments in addition to the actor, for the whole
    /// life of the connection.
    pub fn serve<R: AsyncRead + Unpin + Send + Sync + 'static>(
        self: &Arc<Self>,
        reader: R,
        writer: WriteHalf,
        early: Bytes,
        address: Option<IpAddr>,
        held: impl Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let settings = self.settings();
        let connection = self.hub.connect(writer);
        let mailbox = Arc::clone(connection.mailbox());
        let socket = Socket::new(reader, early, mailbox, settings.message_bytes_max);
        let channel = Channel::new(Arc::clone(self), settings, connection, address);
        let mut actor = Actor::new(channel, Reader::new(socket));
        async move {
            actor.run().await;
            drop((actor, held));
        }
    }
}
