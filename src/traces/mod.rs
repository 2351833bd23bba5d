//! OpenTelemetry traces of logins, kicks, webhook requests and calls of the server API.
//!
//! There is one tracer for the process, like the log. While `traces.endpoint` is empty there is none: a
//! caller then gets no span, after one atomic read and no allocation.

mod export;
mod metrics;
pub mod names;
mod queue;
mod span;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use self::export::Exporter;
pub use self::export::Settings;
pub use self::metrics::render;
use self::queue::SpanQueue;
pub use self::span::{Span, within};
use crate::outgoing::Outgoing;

/// The name of the hub's instrumentation scope.
const SCOPE: &str = "presence-hub";

/// The tracer and its exporter, from the start on if traces are configured.
static TRACES: OnceLock<Traces> = OnceLock::new();

struct Traces {
    tracer: SdkTracer,
    exporter: Exporter,
}

/// Starts the tracer, and the task that posts its spans. Must be called once, before the parts of the hub
/// that begin spans.
///
/// # Errors
///
/// If the system's certificates cannot be read.
pub fn start(settings: Settings) -> io::Result<()> {
    let client = Outgoing::new(settings.allow_private)?;
    let version = env!("CARGO_PKG_VERSION");
    // The builder also reads OTEL_RESOURCE_ATTRIBUTES, so that each hub can have attributes of its own.
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", version))
        .build();
    let sampler = Sampler::TraceIdRatioBased(settings.sample);
    let (queue, spans) = SpanQueue::new();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource.clone())
        .with_span_processor(queue)
        .build();
    let exporter = Exporter::start(client, settings, &resource, spans);
    let traces = Traces { tracer: provider.tracer(SCOPE), exporter };
    // A second start would find the first one's tracer, which goes on.
    TRACES.set(traces).ok();
    Ok(())
}

/// Whether traces are configured.
pub fn is_on() -> bool {
    TRACES.get().is_some()
}

/// Applies another `outgoing.allow_private`. Open connections are not used again.
///
/// # Errors
///
/// If the system's certificates cannot be read; then nothing changes.
pub fn set_allow_private(allow_private: bool) -> io::Result<()> {
    TRACES.get().map_or(Ok(()), |traces| traces.exporter.set_allow_private(allow_private))
}

/// Posts the spans that are still queued, and ends the exporter; gives up after `most`.
pub async fn stop(most: Duration) {
    if let Some(traces) = TRACES.get() {
        traces.exporter.stop(most).await;
    }
}
