//! Reads the stream of events, reconnects, and hands the events on.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::future::OptionFuture;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::cursor_file::CursorFile;
use super::fault::{Fault, other};
use super::frames::{Frames, NotEvents, Part};
use super::key::KeySource;
use super::output::{NotTaken, Output};
use crate::outgoing::{Answer, Outgoing, without_secrets};
use crate::store::Cursor;

/// The first and the longest pause before a reconnect.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that a hub may ask for.
const ASKED_MAX: Duration = Duration::from_secs(300);
/// The timeout for the head of an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for the next bytes: the hub sends some every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// The size at which a batch is handed on at once.
const BATCH_BYTES: usize = 1024 * 1024;
/// The longest wait for a slow reader once the process was told to stop.
const LAST_WRITE_MAX: Duration = Duration::from_secs(5);

/// Follows the events of hubs that share a store.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) client: Outgoing,
    /// The URL of the events of each hub.
    pub(super) urls: Vec<Url>,
    pub(super) key: KeySource,
    pub(super) from_now: bool,
    pub(super) from_start: bool,
    /// How long events are collected into one batch.
    pub(super) batch_wait: Duration,
    /// Cancelled when the process is told to stop.
    pub(super) stop: CancellationToken,
}

/// Why a stream ended.
enum End {
    /// The reader of the output is gone, or the process was told to stop.
    Stop,
    /// The cursor has expired.
    Expired,
    /// Only the operator can change it.
    Final(Fault),
    /// A reconnect may help.
    Retry {
        why: String,
        /// The pause that the hub asked for.
        asked: Option<Duration>,
    },
}

/// How far the events were handed on.
struct Progress {
    /// The position that the cursor file has.
    cursor: Option<Cursor>,
    /// Whether a cursor has expired, so that all events in the log are wanted.
    has_expired: bool,
    /// Whether this connection has brought an event.
    has_events: bool,
    sink: Arc<(CursorFile, Output)>,
}

impl Follower {
    /// Writes events until there is a reason to stop.
    ///
    /// # Errors
    ///
    /// As [`run`](super::run).
    pub(super) async fn follow(&self, file: CursorFile, output: Output) -> Result<(), Fault> {
        let cursor = file.read()?;
        let sink = Arc::new((file, output));
        let mut progress = Progress { cursor, has_expired: false, has_events: false, sink };
        let (mut pauses, mut failures) = (pauses(), 0_usize);
        loop {
            let url = &self.urls[failures % self.urls.len()];
            progress.has_events = false;
            match self.stream(url, &mut progress).await {
                End::Stop => return Ok(()),
                End::Final(fault) => return Err(fault),
                End::Expired => self.expired(url, &mut progress)?,
                End::Retry { why, asked } => {
                    if progress.has_events {
                        pauses = self::pauses();
                    }
                    failures += 1;
                    // The next hub is tried at once, until all of them have failed.
                    let is_round = failures.is_multiple_of(self.urls.len());
                    let pause = if is_round { pauses.next() } else { None };
                    let pause = with_jitter(pause.unwrap_or_default());
                    let pause = pause.max(asked.unwrap_or_default().min(ASKED_MAX));
                    let (url, retry_ms) = (without_secrets(url), pause.as_millis());
                    tracing::warn!(url, error = why, retry_ms, "events interrupted, reconnecting");
                    if self.unless_stopped(sleep(pause)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Gives up an expired cursor if the operator allowed it.
    fn expired(&self, url: &Url, progress: &mut Progress) -> Result<(), Fault> {
        let url = without_secrets(url);
        let cursor = progress.cursor.take().unwrap_or_default();
        if !self.from_start {
            let file = progress.sink.0.path().to_owned();
            return Err(Fault::Expired { url, cursor, file });
        }
        progress.has_expired = true;
        tracing::warn!(
            url,
            %cursor,
            "cursor expired, continuing with the oldest event in the log; events may be missing"
        );
        Ok(())
    }

    /// Reads one stream until it ends.
    async fn stream(&self, url: &Url, progress: &mut Progress) -> End {
        match self.read(url, progress).await {
            Err(end) => end,
            Ok(()) => retry(&"the hub ended the stream"),
        }
    }

    async fn read(&self, url: &Url, progress: &mut Progress) -> Result<(), End> {
        let after = match progress.cursor {
            Some(cursor) => Some(cursor.to_string()),
            None if self.from_now && !progress.has_expired => Some("now".to_owned()),
            None => None,
        };
        let mut answer = self.unless_stopped(self.open(url, after.as_deref())).await??;
        let after = after.as_deref().unwrap_or("the oldest event");
        tracing::info!(url = without_secrets(url), after, "following events");
        let (mut frames, mut batch) = (Frames::default(), Part::default());
        let mut due = pin!(OptionFuture::default());
        loop {
            let next = timeout(SILENCE_MAX, answer.chunk());
            let bytes = tokio::select! {
                bytes = self.unless_stopped(next) => Some(bytes?),
                // Events that are not handed on yet are read again if the stream ends now.
                Some(()) = &mut due => None,
            };
            let is_due = bytes.is_none();
            if let Some(bytes) = bytes {
                let silent = |_| retry(&format!("nothing was received for {SILENCE_MAX:?}"));
                let Some(bytes) = bytes.map_err(silent)?.map_err(|error| retry(&error))? else {
                    return Ok(());
                };
                let is_first = batch.events == 0;
                batch.append(frames.push(&bytes).map_err(|error| retry(&error))?);
                if is_first && batch.events > 0 {
                    due.set(Some(sleep(self.batch_wait)).into());
                }
            }
            let has_events = batch.events > 0 && !self.batch_wait.is_zero();
            if is_due || !has_events || batch.lines.len() >= BATCH_BYTES {
                due.set(None.into());
                self.hand_on(mem::take(&mut batch), progress).await?;
            }
        }
    }

    /// Requests the events after a position.
    async fn open(&self, url: &Url, after: Option<&str>) -> Result<Answer, End> {
        let mut asked = url.clone();
        if let Some(after) = after {
            asked.query_pairs_mut().append_pair("after", after);
        }
        let key = self.key.read().map_err(End::Final)?;
        let answer = timeout(HEAD_TIMEOUT, self.client.get_events(&asked, &key)).await;
        let answer = answer.map_err(|_| retry(&format!("no answer within {HEAD_TIMEOUT:?}")))?;
        let answer = answer.map_err(|error| retry(&error))?;
        let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_stream = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        match answer.status() {
            StatusCode::OK if is_stream => Ok(answer),
            StatusCode::OK => Err(retry(&NotEvents)),
            StatusCode::GONE => Err(End::Expired),
            _ => Err(refused(&without_secrets(url), answer).await),
        }
    }

    /// Writes events, and then moves the cursor.
    async fn hand_on(&self, part: Part, progress: &mut Progress) -> Result<(), End> {
        let Part { lines, cursor, events } = part;
        progress.has_events |= events > 0;
        let Some(cursor) = cursor.filter(|cursor| progress.cursor != Some(*cursor)) else {
            return if progress.sink.1.is_reader_gone() { Err(End::Stop) } else { Ok(()) };
        };
        let (lines, mut pauses) = (Arc::new(lines), pauses());
        while let Err(why) = self.write(&lines, cursor, &progress.sink).await? {
            let pause = with_jitter(pauses.next().unwrap_or(PAUSE_MAX));
            let retry_ms = pause.as_millis();
            tracing::error!(events, error = why, retry_ms, "command failed, running it again");
            self.unless_stopped(sleep(pause)).await?;
        }
        progress.cursor = Some(cursor);
        Ok(())
    }

    /// Writes events and saves the cursor, once; returns why the command failed.
    async fn write(
        &self,
        lines: &Arc<Vec<u8>>,
        cursor: Cursor,
        sink: &Arc<(CursorFile, Output)>,
    ) -> Result<Result<(), String>, End> {
        let (lines, sink) = (Arc::clone(lines), Arc::clone(sink));
        // On a thread of its own, because it blocks while the reader is slow.
        let write = spawn_blocking(move || {
            let (file, output) = &*sink;
            match output.write(&lines) {
                Ok(()) => file.save(cursor).map(Ok).map_err(End::Final),
                Err(NotTaken::Again(why)) => Ok(Err(why)),
                Err(NotTaken::ReaderGone) => Err(End::Stop),
                Err(NotTaken::Final(why)) => Err(failed(why)),
            }
        });
        let is_late = async {
            self.stop.cancelled().await;
            sleep(LAST_WRITE_MAX).await;
        };
        tokio::select! {
            written = write => written.unwrap_or_else(|error| Err(failed(error.to_string()))),
            () = is_late => Err(End::Stop),
        }
    }

    /// Waits, unless the process is told to stop.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        self.stop.run_until_cancelled(work).await.ok_or(End::Stop)
    }
}

fn retry(why: &impl ToString) -> End {
    End::Retry { why: why.to_string(), asked: None }
}

fn failed(message: String) -> End {
    End::Final(other(message))
}

/// The pauses between attempts, doubled each time.
fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_factor(2.0).without_max_times();
    pauses.with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).build()
}

/// Half of the pause or more, so that several followers do not reconnect at the same moment.
fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// What a refusal means. A wrong key or request stays wrong; anything else may pass.
async fn refused(url: &str, mut answer: Answer) -> End {
    let status = answer.status();
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
    let body = timeout(HEAD_TIMEOUT, answer.chunk()).await;
    let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let message = message.as_ref().and_then(|body| body["error"]["message"].as_str());
    let why = format!("answered {}: {}", status.as_u16(), message.unwrap_or("no reason given"));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            failed(format!("{url} {why}"))
        }
        _ => End::Retry { why, asked },
    }
}
