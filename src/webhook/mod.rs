#![doc = include_str!("README.md")]

mod batch;
mod filter;
mod format;
mod health;
mod intake;
mod metrics;
mod parts;
mod queue;
mod tencent;
mod transport;
mod webhooks;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use utoipa::ToSchema;

pub use self::batch::{Batch, Blame, Setback};
pub use self::filter::Filter;
pub use self::format::{Format, PostRequest, SecretFault, SigningSecret, signatures};
pub use self::health::Health;
pub use self::metrics::{Metrics, WebhookMetrics};
pub use self::queue::Queue;
pub use self::tencent::{Callback, TencentCallbacks, callback};
use self::transport::post_traced;
pub use self::transport::{HttpTransport, PostResult, Transport};
pub use self::webhooks::Webhooks;
use crate::clock::Clock;
use crate::presence::Timestamp;
use crate::store::{Cursor, Log, Outbox, Progress, Save, StoreError, WebhookName};

/// The number of recent failures that [`DeliveryState`] keeps.
const FAILURES_SHOWN: usize = 20;
/// The interval at which [`Webhook::until_tried`] looks at the state of the delivery.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where and how events are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The receiver's URL.
    pub url: url::Url,
    /// The format of requests.
    pub format: Format,
    /// Which events it gets.
    pub filter: Filter,
    /// How long the receiver may take to answer.
    pub timeout: Duration,
    /// How long after its first refusal an event is given up; only time in which the receiver works
    /// counts.
    pub give_up_after: Duration,
    /// The maximum number of requests in flight.
    pub parallel: usize,
}

/// What all webhooks share: the log, the store of their progress, the sender of requests, and the clock.
type Parts = (Arc<dyn Log>, Arc<dyn Outbox>, Arc<dyn Transport>, Clock);

/// One webhook, as the rest of the hub sees it.
pub struct Webhook {
    name: WebhookName,
    log: Arc<dyn Log>,
    outbox: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    settings: watch::Sender<Option<Settings>>,
    shown: Mutex<DeliveryState>,
    metrics: WebhookMetrics,
    /// The number of undecided dead letters when the store last answered.
    dead_waiting: AtomicU64,
    /// Notified when dead letters were put back.
    put_back: Notify,
    stop: watch::Sender<bool>,
    /// Whether the store had progress since the webhook was configured.
    has_progress: AtomicBool,
}

/// The state of the delivery, as the server API shows it.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct DeliveryState {
    /// Whether the receiver accepts requests.
    pub state: ReceiverState,
    /// The number of requests in flight.
    pub under_way: usize,
    /// The number of events that were not accepted and are being retried.
    pub waiting: usize,
    /// When the oldest of these events was first tried.
    pub held_since: Option<Timestamp>,
    /// The number of users whose events are delayed because one was not accepted.
    pub held: usize,
    /// When a request was last accepted.
    pub last_success: Option<Timestamp>,
    /// The most recent failures, the latest last.
    pub failures: Vec<FailedRequest>,
    /// Every event up to here is delivered or dead: the log is kept from there on.
    #[serde(skip)]
    pub kept_after: Cursor,
    /// How far the log was scanned.
    #[serde(skip)]
    pub scanned: Cursor,
    /// The number of scanned events that are pending.
    #[serde(skip)]
    pub pending: usize,
    /// Whether no request is in flight, and none can be sent before a pause is over or the log has a new event.
    #[serde(skip)]
    pub is_quiet: bool,
}

/// Whether the receiver accepts requests, from good to bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverState {
    /// No receiver is configured.
    #[default]
    Off,
    /// Another hub posts.
    Elsewhere,
    /// The last request was accepted, or none was sent yet.
    Up,
    /// The last request was not accepted.
    Failing,
    /// Several requests in a row failed for some seconds; one request at a time probes the receiver.
    Down,
}

/// A request that was not accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FailedRequest {
    /// When it failed.
    pub at: Timestamp,
    /// The number of events in it.
    pub events: usize,
    /// The number of attempts so far.
    pub attempts: u32,
    /// Why it failed.
    pub error: Arc<str>,
}

impl Webhook {
    /// Makes a webhook; [`run`](Self::run) runs it.
    fn of(
        name: WebhookName,
        (log, outbox, transport, clock): Parts,
        settings: Option<Settings>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics: metrics.of(&name),
            name,
            log,
            outbox,
            transport,
            clock,
            settings: watch::Sender::new(settings),
            shown: Mutex::default(),
            dead_waiting: AtomicU64::new(0),
            put_back: Notify::new(),
            stop: watch::Sender::new(false),
            has_progress: AtomicBool::new(false),
        })
    }

    /// Its name.
    pub const fn name(&self) -> &WebhookName {
        &self.name
    }

    /// Changes the settings. Requests in flight are dropped, and their events are posted again under
    /// the new settings.
    pub fn set_settings(&self, settings: Option<Settings>) {
        self.settings.send_if_modified(|old| {
            let is_other = *old != settings;
            *old = settings;
            is_other
        });
    }

    /// The current settings.
    pub fn settings(&self) -> Option<Settings> {
        self.settings.borrow().clone()
    }

    /// The state of the delivery.
    pub fn shown(&self) -> DeliveryState {
        self.shown.lock().clone()
    }

    /// The webhook's metrics.
    pub const fn metrics(&self) -> &WebhookMetrics {
        &self.metrics
    }

    /// The port to saved progress and dead letters.
    pub const fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.outbox
    }

    /// The number of dead letters that were neither put back nor dropped; if the store fails, the last
    /// known number.
    pub async fn dead_waiting(&self) -> u64 {
        match self.outbox.dead_waiting(&self.name).await {
            Ok(waiting) => self.dead_waiting.store(waiting, Relaxed),
            Err(error) => tracing::debug!(%error, "cannot count the dead letters"),
        }
        self.dead_waiting.load(Relaxed)
    }

    /// Wakes the webhook after dead letters were put back.
    pub fn wake(&self) {
        self.put_back.notify_one();
    }

    /// Returns once the log's events so far were posted, or were tried and are being retried.
    pub async fn until_tried(&self) {
        self.shown.lock().is_quiet = false;
        // Pauses that were over on a clock that was moved are found now.
        self.wake();
        loop {
            let is_off = match self.shown().state {
                ReceiverState::Off | ReceiverState::Elsewhere => true,
                ReceiverState::Up | ReceiverState::Failing | ReceiverState::Down => false,
            };
            if is_off || self.shown().is_quiet {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Posts a request without events, once; `None` if no receiver is configured.
    pub async fn test(&self) -> Option<PostResult> {
        let settings = self.settings()?;
        let wall = self.clock.wall_elsewhere();
        let request = settings.format.test(&settings.url, wall);
        let about = (&self.name, 0);
        Some(post_traced(&*self.transport, about, request, settings.timeout, wall).await)
    }

    /// Reads the saved progress. A new webhook starts at the end of the log, so this must be called
    /// before the hub's first event. If the store has lost the progress, because it was emptied, the webhook
    /// starts at the oldest entry: another hub may not have posted it.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn begin(&self) -> Result<Progress, StoreError> {
        if let Some(progress) = self.outbox.progress(&self.name).await? {
            self.has_progress.store(true, Relaxed);
            self.show_begin(&progress);
            return Ok(progress);
        }
        let is_lost = self.has_progress.load(Relaxed);
        let position = if is_lost { Cursor::default() } else { *self.log.head().borrow() };
        if self.settings.borrow().is_some() {
            let webhook = self.name.clone();
            match self.outbox.save(Save { webhook, position, ..Save::default() }).await {
                // Another hub posts, and saves where it begins.
                Ok(()) | Err(StoreError::Conflict) => self.has_progress.store(true, Relaxed),
                Err(error) => return Err(error),
            }
        }
        let progress = Progress { position, ..Progress::default() };
        self.show_begin(&progress);
        Ok(progress)
    }

    /// Shows the pending events before anything is posted.
    fn show_begin(&self, progress: &Progress) {
        let mut shown = self.shown.lock();
        shown.state =
            self.settings.borrow().as_ref().map_or(ReceiverState::Off, |_| ReceiverState::Up);
        (shown.kept_after, shown.scanned) = (progress.kept_after(), progress.position);
        (shown.held, shown.pending) = (progress.held.len(), progress.behind.values().sum());
    }

    /// Shows that another hub posts.
    fn show_elsewhere(&self, is_configured: bool) {
        let state = if is_configured { ReceiverState::Elsewhere } else { ReceiverState::Off };
        *self.shown.lock() = DeliveryState { state, ..DeliveryState::default() };
    }

    /// Posts events until [`stop`](Self::stop) is called, while it is this hub's turn.
    pub async fn run(self: Arc<Self>) {
        let mut stop = self.stop.subscribe();
        let mut settings = self.settings.subscribe();
        let mut turn = self.outbox.turn(&self.name);
        while !*stop.borrow_and_update() {
            let is_ours = *turn.borrow_and_update();
            let settings_now = settings.borrow_and_update().clone();
            if settings_now.is_none() {
                self.has_progress.store(false, Relaxed);
            }
            let work = async {
                if is_ours {
                    worker::run(&self, settings_now, stop.clone()).await;
                } else {
                    self.show_elsewhere(settings_now.is_some());
                    self.stop.subscribe().wait_for(|stop| *stop).await.ok();
                }
            };
            // Both drop the requests in flight; their events are posted again.
            tokio::select! {
                biased;
                () = work => (),
                Ok(()) = settings.changed() => (),
                Ok(()) = turn.changed() => (),
            }
        }
    }

    /// Stops the webhook once requests in flight are answered and progress is saved.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Lets another hub post from now on. Must be called after the webhook has stopped.
    pub async fn leave(&self) {
        if let Err(error) = self.outbox.give_up_turn().await {
            tracing::warn!(%error, "cannot let another hub post; one does after some seconds");
        }
    }
}
