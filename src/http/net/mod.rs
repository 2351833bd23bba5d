//! The network side of HTTP: listeners, TLS, WebSocket upgrades, proxies and client addresses.

pub(super) mod addresses;
pub(super) mod forwarded;
pub(super) mod gate;
pub(super) mod header_list;
pub(super) mod listen;
pub(super) mod origin;
pub(super) mod patience;
pub(super) mod peer;
pub(super) mod places;
pub(super) mod tls;
pub(super) mod unlisted;
pub(super) mod upgrade;
