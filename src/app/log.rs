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

/// How many lines may be queued for a reader that has stopped; the next ones are dropped and counted.
const QUEUED_LINES_MAX: usize = 4096;
/// How often dropped lines are looked for.
const EVERY: Duration = Duration::from_secs(1);

/// How long the end of the process waits for a reader that may have stopped.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// The running log. Dropping it writes what is still queued, for a second at most.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: Dropped,
    writer: Option<WorkerGuard>,
}

impl Log {
    /// Starts logging to standard error, from a thread of its own: a reader that stops reading must
    /// not stop the hub.
    ///
    /// # Errors
    ///
    /// Where standard error cannot be duplicated.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        // Not `io::stderr()`: its lock would be held for as long as the reader stands still.
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
        // Not `init`, which passes on what goes through the `log` crate, too: there tungstenite
        // writes whole messages, with the tokens in them.
        match settings.format {
            LogFormat::Text => set_global_default(registry.with(lines)),
            LogFormat::Json => set_global_default(registry.with(lines.json().flatten_event(true))),
        }
        .unwrap_or_else(|error| unreachable!("it is set once: {error}"));
        log_panics();
        Ok(Self { filter: handle, dropped, writer: Some(guard) })
    }

    /// Changes what is logged.
    pub fn set_filter(&self, filter: &str) {
        self.filter.reload(EnvFilter::new(filter)).ok();
    }

    /// Counts the lines that were dropped.
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let writer = self.writer.take();
        // The guard complains on standard output where the queue is full, and that may block as well.
        briefly(move || drop(writer));
    }
}

/// Does something that may block for ever, as writing to a reader that has stopped, and waits for it
/// a second at most.
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
    /// Those that found the queue full.
    queue: ErrorCounter,
    /// Those that could not be written, once writing works again.
    lost: Arc<AtomicUsize>,
}

impl Dropped {
    fn total(&self) -> usize {
        self.queue.dropped_lines() + self.lost.load(Ordering::Relaxed)
    }
}

/// Counts dropped lines, and logs how many there were as soon as no more are; runs for as long as
/// the process lives.
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
        tracing::warn!(lines = unreported, "log lines dropped: the log's reader had stopped");
        if dropped.total() == seen {
            unreported = 0;
        } else {
            // The queue is still full: this line was dropped itself, and does not count.
            seen += 1;
        }
    }
}

/// Standard error, which counts what it does not take.
struct Sink {
    file: File,
    /// Lines in a row that it did not take.
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

/// Sends panics through the log: the default hook writes to standard error itself, and would block.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("unknown");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(message, location, %backtrace, "the hub panicked: please report it");
    }));
}
