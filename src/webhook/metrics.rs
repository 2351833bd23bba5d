//! The webhook's Prometheus metrics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::Backlog;

/// The webhook's metrics, named `presence_hub_webhook_…`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests, by result: accepted, refused, failed, panicked.
    requests: Family<Result, Counter>,
    /// Events accepted.
    pub events: Counter,
    /// Events given up.
    pub dead: Counter,
    dead_letters: Gauge<u64, AtomicU64>,
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
            dead_letters: Gauge::default(),
            depth: Gauge::default(),
            bytes: Gauge::default(),
            age: Gauge::default(),
        };
        let hub = metrics.registry.sub_registry_with_prefix("presence_hub_webhook");
        hub.register("requests", "Requests, by result", metrics.requests.clone());
        hub.register("events", "Events accepted", metrics.events.clone());
        hub.register("dead", "Events given up", metrics.dead.clone());
        let letters = metrics.dead_letters.clone();
        hub.register("dead_letters", "Dead letters neither put back nor dropped", letters);
        hub.register("backlog_events", "Events pending", metrics.depth.clone());
        let kept = "Bytes of log kept for the webhook, limited by webhook.max_backlog";
        hub.register("backlog_bytes", kept, metrics.bytes.clone());
        hub.register("backlog_age_seconds", "Age of the oldest pending event", metrics.age.clone());
        metrics
    }
}

impl Metrics {
    /// Counts a request by its result.
    pub(super) fn requested(&self, result: &'static str) {
        self.requests.get_or_create(&Result { result }).inc();
    }

    /// Sets the gauges of pending events and dead letters.
    pub fn set_left(&self, backlog: &Backlog, age: Duration, dead_letters: u64) {
        self.dead_letters.set(dead_letters);
        self.depth.set(backlog.entries);
        self.bytes.set(backlog.bytes);
        self.age.set(age.as_secs_f64());
    }

    /// Writes all metrics in Prometheus's text format, without the end mark.
    pub fn render(&self) -> String {
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &self.registry)
            .unwrap_or_else(|error| unreachable!("a text takes it: {error}"));
        rendered
    }
}
