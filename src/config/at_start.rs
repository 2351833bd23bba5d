//! Tracks the settings that only a restart changes, and computes what is in effect after a reload.

use serde_json::{Value, json};

use super::sections::Config;

/// Settings that a reload cannot change.
const KEYS: [&str; 23] = [
    "server.listen",
    "server.admin_listen",
    "server.plain_listen",
    "server.metrics_listen",
    "server.max_connections",
    "server.tls_certificate",
    "server.tls_key",
    "store.kind",
    "store.path",
    "store.log_ttl",
    "store.sync",
    "store.redis_url",
    "store.partitions",
    "store.timeout",
    "store.log_bytes",
    "store.key_prefix",
    "store.max_clock_skew",
    "webhook.max_backlog",
    "log.format",
    "traces.endpoint",
    "traces.headers",
    "traces.sample",
    "traces.service_name",
];

/// The settings as they were at the start.
pub struct AtStart {
    configured: Value,
    max_connections: usize,
}

impl AtStart {
    /// Remembers the configuration at the start; `max_connections` is already lowered to what the
    /// limit on open files allows.
    pub fn new(config: &Config, max_connections: usize) -> Self {
        Self { configured: plain(config), max_connections }
    }

    /// The limit on WebSockets.
    pub(super) const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Returns every setting in effect after a reload, secrets hidden, and the changed settings that
    /// need a restart. Until then those keep their values from the start.
    pub(super) fn in_effect(&self, config: &Config) -> (Value, Vec<&'static str>) {
        let read = plain(config);
        let has_changed = |key: &&str| at(&read, key) != at(&self.configured, key);
        let pending: Vec<_> = KEYS.into_iter().filter(has_changed).collect();
        let mut config = read.clone();
        for key in KEYS {
            put(&mut config, key, at(&self.configured, key).clone());
        }
        if !pending.is_empty() {
            config["pending_restart"] = json!(pending);
        }
        (config, pending)
    }
}

fn plain(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_else(|error| unreachable!("settings are JSON: {error}"))
}

fn at<'a>(config: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(config, |value, name| &value[name])
}

fn put(config: &mut Value, key: &str, value: Value) {
    let place = key.split('.').fold(config, |at, name| &mut at[name]);
    *place = value;
}
