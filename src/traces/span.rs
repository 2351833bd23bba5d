//! Spans, as the other modules use them, and the W3C `traceparent` header.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::{TRACES, names};

/// A span that has begun. It ends when it and the futures that run [`within`] it are dropped.
#[derive(Debug, Clone)]
pub struct Span(Context);

impl Span {
    /// Begins a span for work that the hub does on its own; `None` while traces are off. Its parent is the span
    /// that it runs [`within`], if any.
    pub fn begin(name: &'static str) -> Option<Self> {
        TRACES.get()?;
        Self::of(name.into(), SpanKind::Internal, &Context::current())
    }

    /// Begins a span for a request of a client that cannot name a parent; `None` while traces are off.
    pub fn begin_served(name: &'static str) -> Option<Self> {
        Self::of(name.into(), SpanKind::Server, &Context::new())
    }

    /// Begins a span for an HTTP request to the hub, below the caller's span if the headers name one;
    /// `None` while traces are off.
    pub fn begin_call(name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Self> {
        TRACES.get()?;
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeadersOf(headers));
        Self::of(name().into(), SpanKind::Server, &parent)
    }

    /// Begins a span for an HTTP request that the hub sends; `None` while traces are off. Its parent is the span
    /// that it runs [`within`], if any.
    pub fn begin_request(name: &'static str) -> Option<Self> {
        TRACES.get()?;
        Self::of(name.into(), SpanKind::Client, &Context::current())
    }

    /// Begins a span below this one.
    pub fn child(&self, name: &'static str) -> Option<Self> {
        Self::of(name.into(), SpanKind::Internal, &self.0)
    }

    fn of(name: Cow<'static, str>, kind: SpanKind, parent: &Context) -> Option<Self> {
        let tracer = &TRACES.get()?.tracer;
        let span = tracer.span_builder(name).with_kind(kind);
        Some(Self(parent.with_span(tracer.build_with_context(span, parent))))
    }

    /// The span that the caller runs [`within`]; `None` if there is none.
    pub fn current() -> Option<Self> {
        TRACES.get()?;
        Some(Context::current()).filter(Context::has_active_span).map(Self)
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Sets an attribute to a count.
    pub fn set_count(&self, key: &'static str, count: usize) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes that it failed, with a word for the kind of error.
    pub fn fail(&self, kind: impl Into<Cow<'static, str>>) {
        self.set(names::ERROR_TYPE, kind.into());
        self.0.span().set_status(Status::error(""));
    }

    /// Notes an HTTP status; from `failed_from` on the span has failed.
    pub fn set_status(&self, status: StatusCode, failed_from: u16) {
        self.set(names::HTTP_STATUS, i64::from(status.as_u16()));
        if status.as_u16() >= failed_from {
            self.fail(status.as_str().to_owned());
        }
    }

    /// The value of a `traceparent` header that makes this span the parent.
    pub fn traceparent(&self) -> String {
        let span = self.0.span();
        let span = span.span_context();
        let flags = span.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    }
}

/// Runs a future within a span, which [`Span::current`] and [`Span::begin`] find there.
pub async fn within<T>(span: Option<Span>, future: impl Future<Output = T>) -> T {
    match span {
        Some(Span(context)) => future.with_context(context).await,
        None => future.await,
    }
}

/// The headers of a request, for the propagator.
struct HeadersOf<'a>(&'a HeaderMap);

impl Extractor for HeadersOf<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(hyper::header::HeaderName::as_str).collect()
    }
}
