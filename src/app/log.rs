//! Writes the log to standard error without ever blocking the hub.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tracing::subscriber::set_global_default;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::escape::Escaped;
use crate::config::{Log as Settings, LogFormat};
use crate::hub::Hub;

/// Lines queued for a reader that has stopped; further lines are dropped and counted.
const QUEUED_LINES_MAX: usize = 4096;
/// How often dropped lines are counted.
const EVERY: Duration = Duration::from_secs(1);

/// The longest wait for a reader that may have stopped, when the process exits.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// The running log. Dropping it flushes the queue, for a second at most.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: Dropped,
    writer: Option<WorkerGuard>,
}

impl Log {
    /// Starts logging to standard error, on its own thread: a reader that stops reading must not
    /// block the hub.
    ///
    /// # Errors
    ///
    /// If standard error cannot be duplicated.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        // Not `io::stderr()`: a blocked write would hold its lock.
        let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let lost = Arc::new(AtomicUsize::new(0));
        let sink = Sink { file, failed: 0, lost: Arc::clone(&lost) };
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUED_LINES_MAX)
            .thread_name("log")
            .finish(sink);
        let dropped = Dropped { queue: writer.error_counter(), lost };
        let (filter, handle) = reload::Layer::new(EnvFilter::new(&settings.filter));
        let registry = tracing_subscriber::registry().with(filter);
        let writer = Escaped::new(writer, settings.format);
        let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
        // Not `init`, which also forwards the `log` crate: tungstenite logs whole messages there,
        // with their tokens.
        match settings.format {
            LogFormat::Text => set_global_default(registry.with(lines)),
            LogFormat::Json => set_global_default(
                registry.with(lines.json().flatten_event(true).with_span_list(false)),
            ),
        }
        .unwrap_or_else(|error| unreachable!("it is set once: {error}"));
        log_panics();
        Ok(Self { filter: handle, dropped, writer: Some(guard) })
    }

    /// Replaces the log filter.
    pub fn set_filter(&self, filter: &str) {
        self.filter.reload(EnvFilter::new(filter)).ok();
    }

    /// The counter of dropped lines.
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let writer = self.writer.take();
        // If the queue is full, the guard writes to standard output, which may block too.
        briefly(move || drop(writer));
    }
}

/// Runs work that may block for ever, such as a write to a stopped reader, and waits a second at
/// most.
pub fn briefly(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        work();
        done.send(()).ok();
    });
    is_done.recv_timeout(LAST_WORDS_MAX).ok();
}

/// Counts the lines that were dropped.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Dropped because the queue was full.
    queue: ErrorCounter,
    /// Lost to write errors; added when writing works again.
    lost: Arc<AtomicUsize>,
}

impl Dropped {
    fn total(&self) -> usize {
        self.queue.dropped_lines() + self.lost.load(Ordering::Relaxed)
    }
}

/// Counts dropped lines, and logs their number once no more are dropped; runs for ever.
pub(super) async fn report_dropped(hub: Arc<Hub>, dropped: Dropped) {
    let counter = &hub.metrics().log_lines_dropped;
    let (mut seen, mut unreported) = (0, 0);
    loop {
        tokio::time::sleep(EVERY).await;
        let new = dropped.total() - std::mem::replace(&mut seen, dropped.total());
        counter.inc_by(new as u64);
        unreported += new;
        if new > 0 || unreported == 0 {
            continue;
        }
        tracing::warn!(lines = unreported, "log lines dropped: the reader of the log had stopped");
        if dropped.total() == seen {
            unreported = 0;
        } else {
            // The queue is still full: this line itself was dropped, and does not count.
            seen += 1;
        }
    }
}

/// Standard error, counting lines that could not be written.
struct Sink {
    file: File,
    /// Consecutive lines that failed.
    failed: usize,
    lost: Arc<AtomicUsize>,
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.file.write_all(line) {
            Ok(()) => self.lost.fetch_add(std::mem::take(&mut self.failed), Ordering::Relaxed),
            Err(_) => {
                self.failed += 1;
                0
            }
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Sends panics through the log: the default hook writes to standard error itself, and could block.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("unknown");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(message, location, %backtrace, "panicked: please report it");
    }));
}
