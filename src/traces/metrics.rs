//! The Prometheus metrics of the traces.

use std::sync::LazyLock;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counts of the process's spans.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// How many spans had which fate.
pub(super) struct Metrics {
    registry: Registry,
    /// The receiver took them.
    pub(super) exported: Counter,
    /// The receiver did not take them.
    pub(super) failed: Counter,
    /// The queue was full.
    pub(super) dropped: Counter,
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        let spans = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let of = |result| spans.get_or_create_owned(&[("result", result)]);
        let (exported, failed, dropped) = (of("exported"), of("failed"), of("dropped"));
        let help = "Spans of traces, by what became of them";
        registry.sub_registry_with_prefix("presence_hub").register("trace_spans", help, spans);
        Self { registry, exported, failed, dropped }
    }
}

/// Renders the metrics as OpenMetrics, without the end marker.
pub fn render() -> String {
    let mut rendered = String::new();
    text::encode_registry(&mut rendered, &METRICS.registry)
        .unwrap_or_else(|error| unreachable!("writing to a String cannot fail: {error}"));
    rendered
}
