//! The port that posts requests to receivers, and its HTTP client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, FutureExt};
use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

use super::batch::Blame;
use super::format::PostRequest;
use crate::clock::timestamp;
use crate::outgoing::{Answer, Fault, Outgoing, without_secrets};
use crate::presence::Timestamp;
use crate::store::WebhookName;
use crate::traces::{Span, names, within};

/// The maximum size of a JSON answer; it bounds the memory of all requests in flight.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of an error answer's body is kept for the error message.
const EXCERPT_BYTES_MAX: usize = 200;
/// How long that body may take; the status alone decides what happens to the events.
const EXCERPT_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is respected.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostResult {
    /// The receiver accepted it.
    Accepted,
    /// The receiver refused its content.
    Refused {
        /// The status and the beginning of the answer.
        error: Arc<str>,
        /// The pause that the receiver asked for.
        retry_after: Option<Duration>,
    },
    /// It failed, and a retry may succeed.
    Failed {
        /// The error message.
        error: Arc<str>,
        /// The pause that the receiver asked for.
        retry_after: Option<Duration>,
        /// The likely cause.
        blame: Blame,
    },
}

/// Posts requests: the port to receivers.
pub trait Transport: Send + Sync + 'static {
    /// Posts a request and waits for the answer; dates in the answer are compared with `wall`.
    fn post(
        &self,
        request: PostRequest,
        timeout: Duration,
        wall: Timestamp,
    ) -> BoxFuture<'static, PostResult>;
}

/// Posts a request within a span, whose context the request carries. While traces are off it only posts.
pub(super) fn post_traced(
    transport: &dyn Transport,
    (webhook, events): (&WebhookName, usize),
    mut request: PostRequest,
    timeout: Duration,
    wall: Timestamp,
) -> BoxFuture<'static, PostResult> {
    let Some(span) = Span::begin_request("POST") else {
        return transport.post(request, timeout, wall);
    };
    span.set(names::HTTP_METHOD, "POST");
    span.set(names::URL, without_secrets(&request.url));
    span.set(names::SERVER_ADDRESS, request.url.host_str().unwrap_or_default().to_owned());
    if let Some(port) = request.url.port_or_known_default() {
        span.set(names::SERVER_PORT, i64::from(port));
    }
    span.set(names::WEBHOOK_NAME, webhook.to_string());
    span.set_count(names::WEBHOOK_EVENTS, events);
    request.headers.push(("traceparent", span.traceparent()));
    within(Some(span), transport.post(request, timeout, wall)).boxed()
}

/// Posts by HTTP.
#[derive(Debug)]
pub struct HttpTransport(ArcSwap<Outgoing>);

impl HttpTransport {
    /// Makes the client; `allow_private` is `outgoing.allow_private`.
    ///
    /// # Errors
    ///
    /// If the system's certificates cannot be read.
    pub fn new(allow_private: bool) -> io::Result<Self> {
        Ok(Self(ArcSwap::from_pointee(Outgoing::new(allow_private)?)))
    }

    /// Applies another `outgoing.allow_private`. Open connections are not used again, because they may
    /// lead to addresses that are not allowed any more.
    ///
    /// # Errors
    ///
    /// If the system's certificates cannot be read; then nothing changes.
    pub fn set_allow_private(&self, allow_private: bool) -> io::Result<()> {
        if self.0.load().allows_private() != allow_private {
            self.0.store(Arc::new(Outgoing::new(allow_private)?));
        }
        Ok(())
    }
}

impl Transport for HttpTransport {
    fn post(
        &self,
        request: PostRequest,
        timeout: Duration,
        wall: Timestamp,
    ) -> BoxFuture<'static, PostResult> {
        let client = self.0.load_full();
        let post = async move {
            match tokio::time::timeout(timeout, post(&client, request)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(answer)) => not_accepted(*answer, wall).await,
                Err(_) => {
                    note_error("timeout");
                    failed(&format!("no answer within {timeout:?}"), None, Blame::Unclear)
                }
            }
        };
        post.boxed()
    }
}

/// Posts a request; returns an answer without a success status as the error.
async fn post(client: &Outgoing, request: PostRequest) -> Result<PostResult, Box<Answer>> {
    let PostRequest { url, headers, body, wants_json } = request;
    let answer = match client.post(&url, &headers, body.into()).await {
        Ok(answer) => answer,
        Err(fault) => {
            let (blame, kind) = match fault {
                Fault::Refused { .. } => (Blame::Receiver, "address_not_allowed"),
                Fault::Connect(_) => (Blame::Receiver, "connect"),
                Fault::Interim | Fault::Failed(_) => (Blame::Unclear, "broken_answer"),
            };
            note_error(kind);
            return Ok(failed(&fault.to_string(), None, blame));
        }
    };
    let status = answer.status();
    if let Some(span) = Span::current() {
        span.set_status(status, 400);
    }
    if !status.is_success() {
        return Err(Box::new(answer));
    }
    if wants_json && !(status == StatusCode::OK && is_json(answer).await) {
        note_error("not_json");
        return Ok(failed("expected status 200 with a JSON body", None, Blame::Unclear));
    }
    Ok(PostResult::Accepted)
}

/// Notes the kind of a failure on the span of the request, if it has one.
fn note_error(kind: &'static str) {
    if let Some(span) = Span::current() {
        span.fail(kind);
    }
}

/// Turns an answer without a success status into a result, with status and body as the message.
async fn not_accepted(answer: Answer, wall: Timestamp) -> PostResult {
    let status = answer.status();
    let retry_after = retry_after(answer.headers(), wall);
    let excerpt = excerpt(answer).await;
    let colon = if excerpt.is_empty() { "" } else { ": " };
    let error = format!("status {status}{colon}{excerpt}");
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !again.contains(&status) {
        return PostResult::Refused { error: error.into(), retry_after };
    }
    let blame = if status.is_server_error() { Blame::Unclear } else { Blame::Receiver };
    failed(&error, retry_after, blame)
}

/// The beginning of an answer's body in one line, as far as it arrives in time.
async fn excerpt(mut answer: Answer) -> String {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < EXCERPT_BYTES_MAX
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            read.extend_from_slice(&chunk[..chunk.len().min(EXCERPT_BYTES_MAX)]);
        }
    };
    tokio::time::timeout(EXCERPT_TIMEOUT, reading).await.ok();
    read.truncate(EXCERPT_BYTES_MAX);
    let text = String::from_utf8_lossy(&read).replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failed(error: &str, retry_after: Option<Duration>, blame: Blame) -> PostResult {
    PostResult::Failed { error: error.into(), retry_after, blame }
}

/// The pause that a receiver asks for (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit is longer than the maximum anyway.
    let secs = is_number.then(|| value.parse().unwrap_or(u64::MAX));
    let asked = secs.map(Duration::from_secs).or_else(|| {
        let date = httpdate::parse_http_date(value).ok()?;
        Some(timestamp(date) - wall)
    })?;
    Some(asked.min(RETRY_AFTER_MAX))
}

async fn is_json(mut answer: Answer) -> bool {
    let mut read = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        read.extend_from_slice(&chunk);
        if read.len() > ANSWER_BYTES_MAX {
            return false;
        }
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&read).is_ok()
}
