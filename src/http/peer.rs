use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Where a request's bytes come from; set for each connection by the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Whether they come by TLS.
    pub(super) is_tls: bool,
}

/// A place among the sockets there may be: held by the connection, and by the actor that takes it
/// over, until both are done with it.
#[derive(Clone)]
pub(super) struct Held(
    #[expect(dead_code, reason = "it is for being dropped")] pub(super) Arc<OwnedSemaphorePermit>,
);
