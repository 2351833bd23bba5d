#![doc = include_str!("README.md")]

mod batch;
mod format;
mod health;
mod intake;
mod metrics;
mod parts;
mod queue;
mod tencent;
mod transport;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use utoipa::ToSchema;

pub use self::batch::{Batch, Blame, Setback};
pub use self::format::{Format, Request, Secret, SecretFault, signatures};
pub use self::health::Health;
pub use self::metrics::Metrics;
pub use self::queue::Queue;
pub use self::tencent::{Callback, Tencent, callback};
pub use self::transport::{HttpTransport, Outcome, Transport};
use crate::clock::Clock;
use crate::presence::Timestamp;
use crate::store::{Cursor, Outbox, Progress, Save, Store, StoreError};

/// How many of the last failures are shown.
const FAILURES_SHOWN: usize = 20;

/// Where events are posted to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The receiver.
    pub url: reqwest::Url,
    /// What a request looks like.
    pub format: Format,
    /// How long the receiver may take to answer.
    pub timeout: Duration,
    /// How long after its first refusal an event is given up; only the time counts in which the
    /// receiver works.
    pub give_up_after: Duration,
    /// How many requests may be under way at once.
    pub parallel: usize,
}

/// The webhook, as the rest of the hub sees it.
pub struct Webhook {
    store: Arc<dyn Store>,
    outbox: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    settings: watch::Sender<Option<Settings>>,
    shown: Mutex<Shown>,
    metrics: Metrics,
    /// How many dead letters waited when the store was last asked.
    dead_waiting: AtomicU64,
    /// Something was put back.
    put_back: Notify,
    stop: watch::Sender<bool>,
}

/// How the delivery goes.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Shown {
    /// In a word.
    pub state: Condition,
    /// Requests under way.
    pub under_way: usize,
    /// Events that were not accepted, and wait for another attempt or are in it.
    pub waiting: usize,
    /// When the first of them was first tried.
    pub held_since: Option<Timestamp>,
    /// Users whose events wait because one was not accepted.
    pub held: usize,
    /// When something was accepted last.
    pub last_success: Option<Timestamp>,
    /// What was not accepted lately, the latest last.
    pub failures: Vec<Failure>,
    /// Everything up to here is dealt with: the log is kept from there on.
    #[serde(skip)]
    pub kept_after: Cursor,
    /// How far the log was scanned.
    #[serde(skip)]
    pub scanned: Cursor,
    /// Events that were scanned and are not dealt with.
    #[serde(skip)]
    pub pending: usize,
}

/// How the delivery goes, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// There is no receiver.
    #[default]
    Off,
    /// The last request was accepted, or there was none yet.
    Up,
    /// The last request was not accepted.
    Failing,
    /// Several requests in a row were not accepted, for some seconds: one at a time tries.
    Down,
}

/// A request that was not accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// How many events it bore.
    pub events: usize,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of it.
    pub error: Arc<str>,
}

impl Webhook {
    /// Makes the webhook; [`run`](Self::run) runs it.
    pub fn new(
        store: Arc<dyn Store>,
        outbox: Arc<dyn Outbox>,
        transport: Arc<dyn Transport>,
        clock: Clock,
        settings: Option<Settings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            outbox,
            transport,
            clock,
            settings: watch::Sender::new(settings),
            shown: Mutex::default(),
            metrics: Metrics::default(),
            dead_waiting: AtomicU64::new(0),
            put_back: Notify::new(),
            stop: watch::Sender::new(false),
        })
    }

    /// Puts other settings in force: what is under way is let go, and posted again by them.
    pub fn set_settings(&self, settings: Option<Settings>) {
        self.settings.send_if_modified(|old| {
            let is_other = *old != settings;
            *old = settings;
            is_other
        });
    }

    /// The settings in force.
    pub fn settings(&self) -> Option<Settings> {
        self.settings.borrow().clone()
    }

    /// How the delivery goes.
    pub fn shown(&self) -> Shown {
        self.shown.lock().clone()
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is given up, and put back.
    pub const fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.outbox
    }

    /// How many dead letters were neither put back nor dropped; while the store cannot say, how many
    /// it were before.
    pub async fn dead_waiting(&self) -> u64 {
        match self.outbox.dead_waiting().await {
            Ok(waiting) => self.dead_waiting.store(waiting, Relaxed),
            Err(error) => tracing::debug!(%error, "dead letters cannot be counted"),
        }
        self.dead_waiting.load(Relaxed)
    }

    /// Says that dead letters were put back.
    pub fn wake(&self) {
        self.put_back.notify_one();
    }

    /// Posts a request that bears no event, once; `None` where there is no receiver.
    pub async fn test(&self) -> Option<Outcome> {
        let settings = self.settings()?;
        let wall = self.clock.wall();
        let request = settings.format.test(&settings.url, wall);
        Some(self.transport.post(request, settings.timeout, wall).await)
    }

    /// Where it goes on. A webhook that is new begins with what happens from now on: to be asked
    /// before anything happens.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn begin(&self) -> Result<Progress, StoreError> {
        if let Some(progress) = self.outbox.progress().await? {
            self.show_begin(&progress);
            return Ok(progress);
        }
        let position = *self.store.head().borrow();
        if self.settings.borrow().is_some() {
            self.outbox.save(Save { position, ..Save::default() }).await?;
        }
        let progress = Progress { position, ..Progress::default() };
        self.show_begin(&progress);
        Ok(progress)
    }

    /// Shows what is pending before anything was posted.
    fn show_begin(&self, progress: &Progress) {
        let mut shown = self.shown.lock();
        shown.state = self.settings.borrow().as_ref().map_or(Condition::Off, |_| Condition::Up);
        (shown.kept_after, shown.scanned) = (progress.kept_after(), progress.position);
        (shown.held, shown.pending) = (progress.held.len(), progress.behind.values().sum());
    }

    /// Posts events until it is told to stop.
    pub async fn run(self: Arc<Self>) {
        let mut stop = self.stop.subscribe();
        let mut settings = self.settings.subscribe();
        while !*stop.borrow_and_update() {
            let work = worker::run(&self, settings.borrow_and_update().clone(), stop.clone());
            // Where the settings change, what is under way is let go, and posted again.
            tokio::select! {
                () = work => (),
                Ok(()) = settings.changed() => (),
            }
        }
    }

    /// Has it stop, when what is under way has been answered and progress is saved.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}
