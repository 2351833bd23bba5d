//! Metrics of what the hub does with Redis.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::ServerCounts;

/// Renders the metrics as OpenMetrics.
pub(crate) fn render(counts: &ServerCounts) -> String {
    let mut registry = Registry::default();
    let redis = registry.sub_registry_with_prefix("presence_hub_redis");
    let whole = [
        ("commands", "Commands that were sent to Redis", counts.commands),
        ("command_failures", "Commands that failed", counts.failures),
        ("reconnects", "Lost connections to Redis that were made again", counts.reconnects),
        ("missed", "How often messages of other hubs were missed", counts.missed),
    ];
    for (name, help, value) in whole {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        redis.register(name, help, counter);
    }
    let seconds = Counter::<f64, AtomicU64>::default();
    seconds.inc_by(counts.busy.as_secs_f64());
    redis.register("command_seconds", "How long all commands took together", seconds);
    let clock = Gauge::<f64, AtomicU64>::default();
    clock.set(counts.clock_ms as f64 / 1000.0);
    let help = "The hub's wall clock minus that of Redis";
    redis.register("clock_difference_seconds", help, clock);
    let mut rendered = String::new();
    text::encode_registry(&mut rendered, &registry)
        .unwrap_or_else(|error| unreachable!("writing to a String failed: {error}"));
    rendered
}
