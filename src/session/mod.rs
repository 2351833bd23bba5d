//! One connection: the actor that reads its socket, answers it, and knows when it is gone.

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

/// What every connection shares.
pub struct Sessions {
    hub: Arc<Hub>,
    settings: ArcSwap<Settings>,
    changes: Buckets<UserId>,
    refusals: Arc<RefusedLogins>,
    idle_cuts: Mutex<IdleCuts>,
}

/// What an operator decides about connections; a connection keeps the limits that it began with, and
/// every token is checked by the verifier in force.
#[derive(Clone)]
pub struct Settings {
    /// Who checks tokens.
    pub verifier: Arc<Verifier>,
    /// How long a connection may take to log in.
    pub login_timeout: Duration,
    /// The largest message taken.
    pub message_bytes_max: usize,
    /// The most users that one session watches.
    pub subscriptions: usize,
    /// How often a connection may send a message.
    pub messages: Rate,
    /// How often a user may change: log in, set, refresh, go to the background.
    pub changes: Rate,
    /// How long a connection may read nothing at all while something waits for it (V4).
    pub slow_consumer: Duration,
}

impl Sessions {
    /// Makes what every connection of a hub shares.
    pub fn new(hub: Arc<Hub>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            hub,
            settings: ArcSwap::from_pointee(settings),
            changes: Buckets::default(),
            refusals: Arc::default(),
            idle_cuts: Mutex::default(),
        })
    }

    /// The hub they belong to.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The latest refused logins.
    pub fn refusals(&self) -> &RefusedLogins {
        &self.refusals
    }

    /// The settings that the next connection begins with.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Puts other settings in force, for the connections to come; keys that were fetched stay known.
    pub fn set_settings(&self, settings: Settings) {
        let verifier = settings.verifier.keeping_keys_of(&self.settings().verifier);
        self.settings.store(Arc::new(Settings { verifier, ..settings }));
    }

    /// Serves one connection whose upgrade is done, until it has ended; `early` is what it has sent
    /// since, and `held` what is given back at its end.
    ///
    /// No `async fn`: that would keep its arguments beside the actor that is made of them, for as long
    /// as the connection lives.
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
