//! The Prometheus metrics of the webhooks.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::{Backlog, WebhookName};

/// The label with the name of a webhook. The webhook without a name has no such label.
const WEBHOOK: &str = "webhook";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;
type Ages = Family<Labels, Gauge<f64, AtomicU64>>;

/// The metrics of all webhooks, named `presence_hub_webhook_…`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests, by result: accepted, refused, failed, panicked.
    requests: Family<Labels, Counter>,
    events: Family<Labels, Counter>,
    dead: Family<Labels, Counter>,
    dead_letters: Gauges,
    depth: Gauges,
    bytes: Gauges,
    age: Ages,
}

/// The metrics of one webhook.
#[derive(Debug)]
pub struct WebhookMetrics {
    labels: Labels,
    requests: Family<Labels, Counter>,
    /// Events accepted.
    pub events: Counter,
    /// Events given up.
    pub dead: Counter,
    dead_letters: Gauge<u64, AtomicU64>,
    depth: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    age: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            events: Family::default(),
            dead: Family::default(),
            dead_letters: Family::default(),
            depth: Family::default(),
            bytes: Family::default(),
            age: Family::default(),
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
    /// The metrics of a webhook.
    pub(super) fn of(&self, webhook: &WebhookName) -> WebhookMetrics {
        let name = (!webhook.is_unnamed()).then(|| (WEBHOOK, webhook.to_string()));
        let labels: Labels = name.into_iter().collect();
        WebhookMetrics {
            requests: self.requests.clone(),
            events: self.events.get_or_create_owned(&labels),
            dead: self.dead.get_or_create_owned(&labels),
            dead_letters: self.dead_letters.get_or_create_owned(&labels),
            depth: self.depth.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            age: self.age.get_or_create_owned(&labels),
            labels,
        }
    }

    /// Writes all metrics in Prometheus's text format, without the end mark.
    pub fn render(&self) -> String {
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &self.registry)
            .unwrap_or_else(|error| unreachable!("a text takes it: {error}"));
        // The webhook without a name has no label.
        rendered.replace("{} ", " ")
    }
}

impl WebhookMetrics {
    /// Counts a request by its result.
    pub(super) fn requested(&self, result: &'static str) {
        let labels = [("result", result.to_owned())].into_iter().chain(self.labels.clone());
        self.requests.get_or_create_owned(&labels.collect()).inc();
    }

    /// Sets the gauges of pending events and dead letters.
    pub fn set_left(&self, backlog: &Backlog, age: Duration, dead_letters: u64) {
        self.dead_letters.set(dead_letters);
        self.depth.set(backlog.entries);
        self.bytes.set(backlog.bytes);
        self.age.set(age.as_secs_f64());
    }
}
