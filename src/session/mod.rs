//! The actor of one connection: reads its socket, answers requests, and detects silence.

mod actor;
mod channel;
mod disconnect;
mod errors;
mod idle_cuts;
mod limits;
mod logged_in;
mod reader;
mod refusals;
mod requests;
mod sessions;
mod socket;
mod timers;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tracing::field::{Empty, display};
use tracing::{Instrument, info_span};

use self::actor::Actor;
use self::channel::Channel;
pub use self::idle_cuts::IdleCuts;
use self::reader::Reader;
pub use self::refusals::{RefusedLogin, RefusedLogins};
pub use self::sessions::{Sessions, Settings};
use self::socket::Socket;
use crate::hub::WriteHalf;

impl Sessions {
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
        let connection = self.hub().connect(writer);
        let mailbox = Arc::clone(connection.mailbox());
        let address_shown = address.map(display);
        let span = info_span!(
            "connection",
            id = mailbox.id().serial,
            address = address_shown,
            user = Empty
        );
        let socket = Socket::new(reader, early, mailbox, settings.message_bytes_max);
        let channel = Channel::new(Arc::clone(self), settings, connection, address);
        let mut actor = Actor::new(channel, Reader::new(socket));
        let serve = async move {
            actor.run().await;
            drop((actor, held));
        };
        serve.instrument(span)
    }
}
