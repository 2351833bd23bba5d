//! What an operator decides about the door.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::net::forwarded::TrustedProxies;
use super::net::origin::OriginRule;
use super::tencent::application::Tencent;
use crate::auth::{ApiKeys, Rate, TokenRules};

/// What an operator decides about the door.
#[derive(Clone)]
pub struct Settings {
    /// Which pages may connect.
    pub origins: OriginRule,
    /// Whose X-Forwarded headers and Forwarded count.
    pub trusted_proxies: TrustedProxies,
    /// How many WebSockets there may be; stays as it is at the start.
    pub max_connections: usize,
    /// How often one address may open one; loopback is not counted.
    pub connections_per_address: Rate,
    /// The keys to the server API.
    pub keys: ApiKeys,
    /// The Tencent Cloud IM application whose back end may call; where there is none, nobody's may.
    pub tencent: Option<Tencent>,
    /// Set in development mode alone.
    pub development: Option<Development>,
    /// Whether `/metrics` has an address of its own, and so none among the others.
    pub metrics_apart: bool,
    /// Every setting, secrets hidden.
    pub config: Arc<serde_json::Value>,
    /// The name of the dashboard's cookie; stays as it is at the start.
    pub cookie: String,
    /// The store's directory; `None` where it is kept in memory.
    pub data: Option<PathBuf>,
    /// The defaults of all settings.
    pub defaults: Arc<serde_json::Value>,
    /// How long a connection's first request may take to arrive.
    pub handshake_timeout: Duration,
    /// How long a connection is kept for its next request.
    pub keep_alive: Duration,
}

/// What makes development easy, and may never be reached from elsewhere.
#[derive(Clone)]
pub struct Development {
    /// The key to the development calls.
    pub keys: ApiKeys,
    /// What tokens are signed with.
    pub secret: Vec<u8>,
    /// What they say.
    pub rules: TokenRules,
}
