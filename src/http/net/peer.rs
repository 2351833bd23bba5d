//! What the listener attaches to each request of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use super::places::{Crowd, Place, Places};

/// The other end of the connection: a client or a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether the connection uses TLS.
    pub(crate) is_tls: bool,
}

/// The place of the connection's socket. The connection and the actor that takes it over both hold it, so
/// it is free again when both have ended.
#[derive(Clone)]
pub(crate) struct HeldPlace {
    pub(crate) place: Arc<Place>,
    pub(crate) places: Arc<Places>,
    /// Whether the connection has one request, and little time for it, unless it becomes a WebSocket.
    pub(crate) is_brief: bool,
}

impl HeldPlace {
    /// Why the connection gets only short answers, if it does.
    pub(crate) fn crowd(&self) -> Option<Crowd> {
        self.place.crowd
    }
}
