//! What the listener attaches to each request of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// The other end of the connection: a client or a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether the connection uses TLS.
    pub(crate) is_tls: bool,
}

/// The connection's socket permit. The connection and the actor that takes it over both hold it, so
/// it is released when both have ended.
#[derive(Clone)]
pub(crate) struct SocketPermit(
    #[expect(dead_code, reason = "its drop releases the permit")]
    pub(crate)  Arc<OwnedSemaphorePermit>,
);
