//! The settings of the HTTP server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::proxy_login::ProxyLogin;
use super::net::forwarded::TrustedProxies;
use super::net::origin::OriginRule;
use super::tencent::application::TencentApplication;
use crate::auth::{ApiKeys, Rate, TokenRules};

/// The settings of the HTTP server.
#[derive(Clone)]
pub struct Settings {
    /// The origins that may connect.
    pub origins: OriginRule,
    /// The proxies whose `X-Forwarded-*` and `Forwarded` headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// The limit on WebSockets. A reload does not change it.
    pub max_connections: usize,
    /// The rate limit on new WebSockets of one address. Loopback is exempt.
    pub connections_per_address: Rate,
    /// How many sockets one address may have. Loopback and trusted proxies are exempt.
    pub sockets_per_address: u32,
    /// The keys to the server API.
    pub keys: ApiKeys,
    /// The rate limit on the requests of one key. A request that reads many entries counts several times.
    pub requests_per_key: Rate,
    /// The most event streams that one key may have open.
    pub streams_per_key: usize,
    /// The most users on a watch list (P8).
    pub watch_list: usize,
    /// The login at the dashboard by a header of a trusted proxy; `None` for none.
    pub proxy_login: Option<ProxyLogin>,
    /// The Tencent Cloud IM application whose back end may call `/v4`; `None` disables `/v4`.
    pub tencent: Option<TencentApplication>,
    /// Set only in development mode.
    pub development: Option<Development>,
    /// Whether `/metrics` has its own address; the others then do not serve it.
    pub metrics_apart: bool,
    /// Every setting, secrets hidden.
    pub config: Arc<serde_json::Value>,
    /// The name of the dashboard's cookie. A reload does not change it.
    pub cookie: String,
    /// The store's directory; `None` for a store in memory.
    pub data: Option<PathBuf>,
    /// The defaults of all settings.
    pub defaults: Arc<serde_json::Value>,
    /// The timeout for a connection's first request.
    pub handshake_timeout: Duration,
    /// The timeout for each further request.
    pub keep_alive: Duration,
}

/// What the development calls need. They must never be reachable from other machines.
#[derive(Clone)]
pub struct Development {
    /// The key to the development calls.
    pub keys: ApiKeys,
    /// Signs tokens.
    pub secret: Vec<u8>,
    /// The claims of minted tokens.
    pub rules: TokenRules,
}
