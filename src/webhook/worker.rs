//! The task that posts batches, records results, and saves progress.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::batch::{Batch, Blame, Setback};
use super::health::Health;
use super::queue::Queue;
use super::transport::{PostResult, post_traced};
use super::{DeliveryState, FAILURES_SHOWN, FailedRequest, ReceiverState, Settings, Webhook};
use crate::panics::{Panicked, caught, caught_now};
use crate::presence::Timestamp;
use crate::store::{Cursor, Dead, Progress, Save, StoreError};
use crate::throttle::Throttle;

/// How soon progress is saved.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// The pause before a failed call of the store is retried.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);
/// The maximum number of put-back dead letters that are read at once.
const REVIVED_MAX: usize = 1000;
/// How long a stopping hub waits for requests in flight.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Posts events until `stop` is set.
pub(super) async fn run(
    webhook: &Webhook,
    settings: Option<Settings>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(settings) = settings else {
        *webhook.shown.lock() = DeliveryState::default();
        let mut throttle = Throttle::default();
        while let Err(error) = webhook.outbox.clear(&webhook.name).await {
            if let Some(suppressed) = throttle.admit(webhook.clock.now()) {
                tracing::warn!(%error, suppressed, "webhook cannot clear its progress, retrying");
            }
            sleep(STORE_PAUSE).await;
        }
        stop.wait_for(|stop| *stop).await.ok();
        return;
    };
    let progress = begin(webhook).await;
    // Working time counts from the oldest held event, the only ones that need it.
    let worked_ms = progress.held.iter().map(|held| held.worked_ms).max();
    let worked = Duration::from_millis(worked_ms.unwrap_or_default());
    let mut worker = Worker {
        webhook,
        health: Health::new(worked, settings.give_up_after),
        settings: Arc::new(settings),
        head: webhook.log.head(),
        queue: Queue::new(progress, worked),
        requests: JoinSet::new(),
        is_probe_new: false,
        save_at: None,
        damaged: Vec::new(),
        revived: Vec::new(),
        more_to_revive: false,
        must_retry_revive: false,
        reads_again_at: None,
        under_way: 0,
        again: 0,
        lines: Throttles::default(),
    };
    worker.revive().await;
    worker.work(stop).await;
}

/// Reads the saved progress, retrying while the store fails.
async fn begin(webhook: &Webhook) -> Progress {
    let mut throttle = Throttle::default();
    loop {
        match webhook.begin().await {
            Ok(progress) => return progress,
            Err(error) => {
                if let Some(suppressed) = throttle.admit(webhook.clock.now()) {
                    tracing::warn!(%error, suppressed, "webhook cannot read its progress, retrying");
                }
            }
        }
        sleep(STORE_PAUSE).await;
    }
}

/// Sleeps until a time; forever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

pub(super) struct Worker<'a> {
    pub(super) webhook: &'a Webhook,
    pub(super) settings: Arc<Settings>,
    head: watch::Receiver<Cursor>,
    pub(super) queue: Queue,
    pub(super) health: Health,
    requests: JoinSet<(Batch, Result<PostResult, Panicked>)>,
    /// Whether the next probe of a receiver that is down sends new events. Alternates, because a
    /// batch that is never accepted must not hide that the receiver accepts others.
    pub(super) is_probe_new: bool,
    save_at: Option<Instant>,
    /// Damaged entries, as dead letters that are not saved yet.
    pub(super) damaged: Vec<Dead>,
    /// Put-back dead letters whose delivery is not saved yet.
    revived: Vec<Cursor>,
    /// Whether the store may have more put-back dead letters than were read.
    more_to_revive: bool,
    /// Whether reading the put-back dead letters failed and must be retried.
    must_retry_revive: bool,
    /// When the log is read again, after a read that failed.
    pub(super) reads_again_at: Option<Timestamp>,
    /// The number of events in flight.
    under_way: usize,
    /// The number of events in flight that were tried before.
    again: usize,
    lines: Throttles,
}

/// The log lines that are written at most once a minute.
#[derive(Default)]
struct Throttles {
    not_accepted: Throttle,
    given_up: Throttle,
    panicked: Throttle,
    store: Throttle,
    down: Throttle,
    /// Whether the current outage was logged, so that its end is logged, too.
    is_down_logged: bool,
}

impl Worker<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.webhook.clock.now()
    }

    async fn work(&mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let is_caught_up = self.start_requests().await;
            self.show(is_caught_up);
            let wake = self.wake_at();
            let save_at = self.save_at;
            tokio::select! {
                // In a fixed order, so that a simulation can be repeated: first what is rare, so that many
                // requests do not delay it.
                biased;
                _ = stop.changed() => (),
                () = until(save_at) => self.save().await,
                () = self.webhook.put_back.notified() => self.revive().await,
                Some(done) = self.requests.join_next() => self.finished(done).await,
                () = until(wake) => (),
                Ok(()) = self.head.changed(), if is_caught_up => (),
            }
        }
        let answered = async {
            while let Some(done) = self.requests.join_next().await {
                self.finished(done).await;
            }
        };
        tokio::time::timeout(STOP_MAX, answered).await.ok();
        self.save().await;
    }

    /// Whether another request may be sent now.
    fn may_start(&self) -> bool {
        if self.health.is_down() {
            self.requests.is_empty() && self.now() >= self.health.probe_at()
        } else {
            self.requests.len() < self.settings.parallel
        }
    }

    /// When to wake up if nothing else happens.
    fn wake_at(&self) -> Option<Instant> {
        let now = self.now();
        let at = if self.health.is_down() && now < self.health.probe_at() {
            self.requests.is_empty().then(|| self.health.probe_at())
        } else {
            let read = self.reads_again_at.filter(|_| self.queue.has_room());
            let next = self.queue.next_due().into_iter().chain(read).min();
            next.filter(|at| *at > now || self.may_start())
        };
        at.map(|at| self.webhook.clock.after(at - now))
    }

    /// Sends all requests that may be sent now; returns whether the log has no unscanned entries.
    async fn start_requests(&mut self) -> bool {
        while self.may_start() {
            self.head.mark_unchanged();
            let Some(batch) = self.next_batch().await else {
                return self.reads_again_at.is_none();
            };
            self.start(batch);
        }
        false
    }

    fn start(&mut self, batch: Batch) {
        let Settings { format, filter, url, timeout, .. } = &*self.settings;
        // The receiver compares it with a clock of its own.
        let (wall, timeout) = (self.webhook.clock.wall_elsewhere(), *timeout);
        let make = || {
            let entries = filter.select(&batch.entries);
            Some((format.request(url, &entries, wall)?, entries.len()))
        };
        let made = match caught_now(make) {
            Ok(Some(made)) => Ok(made),
            Ok(None) => {
                // The filter or the format leaves out these events. Nothing is sent, so this must not count as a
                // success of the receiver.
                self.revived.extend(self.queue.done(batch));
                return self.save_soon();
            }
            Err(panic) => Err(panic),
        };
        self.under_way += batch.entries.len();
        self.again += batch.again();
        let transport = Arc::clone(&self.webhook.transport);
        let webhook = self.webhook.name.clone();
        self.requests.spawn(async move {
            let outcome = match made {
                Ok((request, events)) => {
                    let post = async {
                        let about = (&webhook, events);
                        post_traced(&*transport, about, request, timeout, wall).await
                    };
                    caught(post).await
                }
                Err(panic) => Err(panic),
            };
            (batch, outcome)
        });
    }

    async fn finished(&mut self, done: Result<(Batch, Result<PostResult, Panicked>), JoinError>) {
        match done {
            Ok((batch, outcome)) => self.handle_result(batch, outcome).await,
            // Panics are caught, so the runtime is stopping; the next run posts these events.
            Err(error) => tracing::debug!(%error, "webhook request cancelled"),
        }
    }

    async fn handle_result(&mut self, batch: Batch, outcome: Result<PostResult, Panicked>) {
        self.save_soon();
        self.under_way -= batch.entries.len();
        self.again -= batch.again();
        let (error, blame, retry_after, result) = match outcome {
            Ok(PostResult::Accepted) => return self.accepted(batch),
            Ok(PostResult::Refused { error, retry_after }) => {
                (error, Blame::Event, retry_after, "refused")
            }
            Ok(PostResult::Failed { error, retry_after, blame }) => {
                (error, blame, retry_after, "failed")
            }
            Err(panic) => {
                if let Some(suppressed) = self.lines.panicked.admit(self.webhook.clock.now()) {
                    tracing::error!(%panic, suppressed, "webhook request panicked, retrying");
                }
                let error = format!("the hub panicked while posting it: {panic}");
                (error.into(), Blame::Unclear, None, "panicked")
            }
        };
        self.webhook.metrics.requested(result);
        let now = self.now();
        let last_success = self.health.last_success();
        // The `Retry-After` of a refused event applies to that event alone.
        let asked = retry_after.filter(|_| blame != Blame::Event);
        if let Some(failing_for) = self.health.failed(now, asked) {
            self.log_down(&error, failing_for);
        }
        self.note_failure(&batch, &error);
        let (worked, give_up_after) = (self.health.worked(now), self.settings.give_up_after);
        let why = Setback { error, blame, retry_after, last_success, worked, give_up_after };
        if let Some(batch) = self.queue.set_back(batch, &why, now) {
            self.give_up(batch).await;
        }
    }

    fn accepted(&mut self, batch: Batch) {
        self.webhook.metrics.requested("accepted");
        let events = self.settings.filter.count(&batch.entries);
        self.webhook.metrics.events.inc_by(events as u64);
        let now = self.now();
        self.revived.extend(self.queue.done(batch));
        if let Some(down_for) = self.health.succeeded(now) {
            if self.lines.is_down_logged {
                tracing::info!(?down_for, "webhook receiver accepts again");
            }
            self.queue.hurry(now);
        }
    }

    fn log_down(&mut self, error: &str, failing_for: Duration) {
        let admitted = self.lines.down.admit(self.webhook.clock.now());
        self.lines.is_down_logged = admitted.is_some();
        if let Some(suppressed) = admitted {
            tracing::error!(
                %error, ?failing_for, suppressed,
                "webhook receiver is down, probing it with one request at a time"
            );
        }
    }

    /// Saves a batch that is given up as dead letters, so that its user's later events continue.
    async fn give_up(&mut self, mut batch: Batch) {
        let now = self.now();
        let dead = batch.dead(self.webhook.clock.wall());
        let mut save = self.take_unsaved();
        save.dead.extend(dead.iter().cloned());
        match self.webhook.outbox.save(save.clone()).await {
            Ok(()) => {
                self.saved();
                for Dead { entry, attempts, last_error, .. } in &dead {
                    self.webhook.metrics.dead.inc();
                    if let Some(suppressed) = self.lines.given_up.admit(now) {
                        tracing::error!(
                            user = entry.user.as_str(), attempts, error = %last_error, suppressed,
                            "webhook event given up and moved to the dead letters"
                        );
                    }
                }
                let is_letter = batch.is_revived();
                // A put-back letter becomes a dead letter again; no user is held because of it.
                if !is_letter {
                    self.queue.done(batch);
                }
                if is_letter || !save.revived.is_empty() {
                    self.revive_more().await;
                }
            }
            Err(error) => {
                self.store_failed("save a dead letter", &error);
                self.queue.unsaved(save);
                batch.again_at(now + STORE_PAUSE);
                self.queue.wait(batch);
            }
        }
    }

    /// Reads dead letters that were put back.
    async fn revive(&mut self) {
        let now = self.now();
        match self.webhook.outbox.dead(&self.webhook.name, None, true, REVIVED_MAX).await {
            Ok(dead) => {
                self.must_retry_revive = false;
                self.more_to_revive = dead.len() == REVIVED_MAX;
                for Dead { entry, .. } in dead {
                    let is_recorded = self.damaged.iter().any(|dead| dead.entry == entry);
                    if is_recorded || self.revived.contains(&entry.cursor) {
                        continue;
                    }
                    if entry.is_damaged() {
                        // It was damaged after it was put back. Saving it as damaged ends that.
                        self.record_damaged([entry]);
                    } else {
                        self.queue.revive(entry, now);
                    }
                }
            }
            Err(error) => {
                self.store_failed("read the dead letters that were put back", &error);
                self.must_retry_revive = true;
                self.save_soon();
            }
        }
    }

    /// Reads more put-back dead letters, if the last read did not return all.
    async fn revive_more(&mut self) {
        if self.more_to_revive {
            self.revive().await;
        }
    }

    // Saving and showing progress.

    pub(super) fn save_soon(&mut self) {
        let at = self.webhook.clock.after(SAVE_EVERY);
        self.save_at.get_or_insert(at);
    }

    /// Collects the progress to save; afterwards [`Self::saved`] or [`Queue::unsaved`] must be called.
    fn take_unsaved(&mut self) -> Save {
        let worked = self.health.worked(self.now());
        let mut save = self.queue.save(worked);
        save.webhook = self.webhook.name.clone();
        save.dead.clone_from(&self.damaged);
        save.revived.clone_from(&self.revived);
        save
    }

    /// Clears what was saved. Nothing is added while a save is awaited, so nothing is lost.
    fn saved(&mut self) {
        self.damaged.clear();
        self.revived.clear();
    }

    async fn save(&mut self) {
        self.save_at = None;
        let save = self.take_unsaved();
        match self.webhook.outbox.save(save.clone()).await {
            Ok(()) => {
                self.saved();
                if self.must_retry_revive {
                    self.revive().await;
                } else if !save.revived.is_empty() {
                    self.revive_more().await;
                }
            }
            Err(error) => {
                self.store_failed("save its progress", &error);
                self.queue.unsaved(save);
                self.save_soon();
            }
        }
    }

    pub(super) fn store_failed(&mut self, what: &str, error: &StoreError) {
        if let Some(suppressed) = self.lines.store.admit(self.webhook.clock.now()) {
            tracing::warn!(%error, suppressed, "webhook cannot {what}, retrying");
        }
    }

    fn note_failure(&mut self, batch: &Batch, error: &Arc<str>) {
        let (now, events, attempts) = (self.now(), batch.entries.len(), batch.attempts() + 1);
        // The outage of a receiver that is down is logged already.
        if !self.health.is_down()
            && let Some(suppressed) = self.lines.not_accepted.admit(now)
        {
            tracing::warn!(events, attempts, %error, suppressed, "webhook delivery failed, retrying");
        }
        let mut shown = self.webhook.shown.lock();
        let (at, error) = (self.webhook.clock.wall(), Arc::clone(error));
        shown.failures.push(FailedRequest { at, events, attempts, error });
        let excess = shown.failures.len().saturating_sub(FAILURES_SHOWN);
        shown.failures.drain(..excess);
    }

    fn show(&self, is_caught_up: bool) {
        let mut shown = self.webhook.shown.lock();
        let has_read_all = is_caught_up && !self.head.has_changed().unwrap_or_default();
        shown.is_quiet = self.requests.is_empty() && (has_read_all || self.health.is_down());
        shown.state = match (self.health.is_down(), self.health.is_failing()) {
            (true, _) => ReceiverState::Down,
            (false, true) => ReceiverState::Failing,
            (false, false) => ReceiverState::Up,
        };
        shown.under_way = self.requests.len();
        shown.waiting = self.queue.waiting_events() + self.again;
        shown.held_since = self.queue.held_since().map(|at| self.webhook.clock.to_wall(at));
        shown.held = self.queue.held_users();
        shown.last_success = self
            .health
            .last_success()
            .map(|at| self.webhook.clock.to_wall(at))
            .or(shown.last_success);
        shown.kept_after = self.queue.kept_after();
        shown.scanned = self.queue.scanned();
        shown.pending = self.queue.waiting_events() + self.under_way + self.queue.left_in_log();
    }
}
