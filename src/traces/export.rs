//! The task that posts spans to the OTLP receiver, as protobuf over HTTP.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwap;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use url::Url;

use super::metrics::METRICS;
use crate::outgoing::{Answer, Fault, Outgoing};

/// The most spans in one post.
const BATCH_MAX: usize = 512;
/// How long a span waits for others to be posted with.
const EVERY: Duration = Duration::from_secs(1);
/// How long the receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses before a batch is posted again, if the receiver may take it then.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where spans are posted, and which.
#[derive(Clone)]
pub struct Settings {
    /// The URL of an OTLP receiver's traces, by HTTP.
    pub endpoint: Url,
    /// Headers of each post, with secrets.
    pub headers: Vec<(String, String)>,
    /// The share of the traces begun here that are recorded, from 0 to 1.
    pub sample: f64,
    /// The `service.name` of the spans.
    pub service_name: String,
    /// Whether private addresses are allowed: `outgoing.allow_private`.
    pub allow_private: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// The running task.
pub(super) struct Exporter {
    client: Arc<ArcSwap<Outgoing>>,
    stopping: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    pub(super) fn start(
        client: Outgoing,
        settings: Settings,
        resource: &Resource,
        spans: mpsc::Receiver<SpanData>,
    ) -> Self {
        let Settings { endpoint, mut headers, .. } = settings;
        headers.push(("content-type".to_owned(), "application/x-protobuf".to_owned()));
        let client = Arc::new(ArcSwap::from_pointee(client));
        let stopping = watch::Sender::new(false);
        let poster = Poster {
            client: Arc::clone(&client),
            endpoint,
            headers,
            resource: ResourceAttributesWithSchema::from(resource),
            is_failing: false,
        };
        let task = tokio::spawn(poster.run(spans, stopping.subscribe()));
        Self { client, stopping, task: Mutex::new(Some(task)) }
    }

    pub(super) fn set_allow_private(&self, allow_private: bool) -> io::Result<()> {
        if self.client.load().allows_private() != allow_private {
            self.client.store(Arc::new(Outgoing::new(allow_private)?));
        }
        Ok(())
    }

    /// Posts what is queued, and ends the task; gives up after `most`.
    pub(super) async fn stop(&self, most: Duration) {
        self.stopping.send_replace(true);
        let Some(task) = self.task.lock().take() else { return };
        let abort = task.abort_handle();
        if timeout(most, task).await.is_err() {
            abort.abort();
            tracing::warn!(waited = ?most, "the last spans of traces were not posted in time");
        }
    }
}

/// Why a batch was not taken.
struct Refusal {
    why: String,
    may_retry: bool,
}

/// Posts batches of spans.
struct Poster {
    client: Arc<ArcSwap<Outgoing>>,
    endpoint: Url,
    headers: Vec<(String, String)>,
    resource: ResourceAttributesWithSchema,
    /// Whether the last post failed. Only the first failure and the end of an outage are logged.
    is_failing: bool,
}

impl Poster {
    /// Posts spans until the hub stops and none is queued.
    async fn run(
        mut self,
        mut spans: mpsc::Receiver<SpanData>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                read = spans.recv_many(&mut batch, BATCH_MAX) => if read == 0 { return },
                () = set(&mut stopping) => {
                    // Spans that end from now on are dropped.
                    spans.close();
                    while spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
                        self.post(std::mem::take(&mut batch)).await;
                    }
                    return;
                }
            }
            let fill = async {
                while batch.len() < BATCH_MAX {
                    let room = BATCH_MAX - batch.len();
                    if spans.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                () = fill => (),
                () = sleep(EVERY) => (),
                () = set(&mut stopping) => (),
            }
            self.post(batch).await;
        }
    }

    /// Posts a batch, up to three times, and counts its spans.
    async fn post(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut pauses = PAUSES.into_iter();
        loop {
            let posted = timeout(TIMEOUT, self.try_post(body.clone())).await;
            let late =
                |_| Refusal { why: format!("no answer within {TIMEOUT:?}"), may_retry: true };
            match posted.map_err(late).flatten() {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    METRICS.exported.inc_by(count - rejected);
                    METRICS.failed.inc_by(rejected);
                    return self.note(None);
                }
                Err(Refusal { why, may_retry }) => {
                    self.note(Some(&why));
                    match pauses.next().filter(|_| may_retry) {
                        Some(pause) => sleep(pause).await,
                        None => {
                            METRICS.failed.inc_by(count);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Posts a batch once; returns how many spans the receiver rejected.
    async fn try_post(&self, body: Bytes) -> Result<u64, Refusal> {
        let client = self.client.load_full();
        let posted = client.post(&self.endpoint, &self.headers, body).await;
        let answer = posted.map_err(|fault| Refusal {
            may_retry: !matches!(fault, Fault::Refused { .. }),
            why: fault.to_string(),
        })?;
        let status = answer.status();
        let body = read(answer)
            .await
            .map_err(|fault| Refusal { why: fault.to_string(), may_retry: true })?;
        if !status.is_success() {
            // Those that the OTLP specification says to retry.
            let may_retry = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            return Err(Refusal { why: format!("status {status}"), may_retry });
        }
        // What is no OTLP answer rejects nothing.
        let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or_default())
    }

    /// Logs the first failure, and the end of an outage.
    fn note(&mut self, failure: Option<&str>) {
        match (failure, self.is_failing) {
            (Some(error), false) => tracing::warn!(
                error,
                "traces cannot be posted to traces.endpoint, spans are lost until they can"
            ),
            (None, true) => tracing::info!("traces are posted again"),
            (Some(_), true) | (None, false) => (),
        }
        self.is_failing = failure.is_some();
    }
}

/// Reads an answer's body, as much as is of use.
async fn read(mut answer: Answer) -> Result<Bytes, Fault> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX
        && let Some(chunk) = answer.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// Waits until it is set, or its sender is gone.
async fn set(stopping: &mut watch::Receiver<bool>) {
    stopping.wait_for(|stopping| *stopping).await.ok();
}
