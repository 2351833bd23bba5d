use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use crate::store::Backlog;

/// What the webhook counts; every name begins with `presence_hub_webhook_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests, by what came of them: accepted, refused, failed.
    requests: Family<Result, Counter>,
    /// Events that were accepted.
    pub events: Counter,
    /// Events that were given up.
    pub dead: Counter,
    depth: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    age: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            events: Counter::default(),
            dead: Counter::default(),
            depth: Gauge::default(),
            bytes: Gauge::default(),
            age: Gauge::default(),
        };
        let hub = metrics.registry.sub_registry_with_prefix("presence_hub_webhook");
        hub.register("requests", "Requests, by result", metrics.requests.clone());
        hub.register("events", "Events accepted", metrics.events.clone());
        hub.register("dead", "Events given up", metrics.dead.clone());
        hub.register("backlog_events", "Events not dealt with", metrics.depth.clone());
        hub.register("backlog_bytes", "Bytes of events not dealt with", metrics.bytes.clone());
        hub.register("backlog_age_seconds", "Age of the oldest of them", metrics.age.clone());
        metrics
    }
}

impl Metrics {
    /// Counts a request.
    pub(super) fn requested(&self, result: &'static str) {
        self.requests.get_or_create(&Result { result }).inc();
    }

    /// Writes everything in Prometheus's text format, but for the end mark.
    pub fn render(&self, backlog: &Backlog, age: std::time::Duration) -> String {
        self.depth.set(backlog.entries);
        self.bytes.set(backlog.bytes);
        self.age.set(age.as_secs_f64());
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &self.registry)
            .unwrap_or_else(|error| unreachable!("a text takes it: {error}"));
        rendered
    }
}
