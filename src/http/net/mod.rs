//! Where requests come in: addresses, TLS, the upgrade to a WebSocket, and who stands behind a proxy.

pub(super) mod addresses;
pub(super) mod forwarded;
pub(super) mod gate;
pub(super) mod header_list;
pub(super) mod household;
pub(super) mod listen;
pub(super) mod origin;
pub(super) mod peer;
pub(super) mod tls;
pub(super) mod unlisted;
pub(super) mod upgrade;
