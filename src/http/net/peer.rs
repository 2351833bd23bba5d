//! What the listener knows of a connection, for the requests that come on it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Where a request's bytes come from; set for each connection by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether they come by TLS.
    pub(crate) is_tls: bool,
}

/// A place among the sockets there may be: held by the connection, and by the actor that takes it
/// over, until both are done with it.
#[derive(Clone)]
pub(crate) struct Held(
    #[expect(dead_code, reason = "it is for being dropped")] pub(crate) Arc<OwnedSemaphorePermit>,
);
