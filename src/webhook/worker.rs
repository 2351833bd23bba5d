use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::health::Health;
use super::queue::{Batch, Queue, Setback};
use super::sender::{self, Outcome};
use super::{Condition, FAILURES_SHOWN, Failure, Settings, Shown, Webhook};
use crate::presence::Timestamp;
use crate::store::{Cursor, Dead, Part, Progress, StoreError};

/// How often progress is saved while there is some.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// How long a store that fails is left alone.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How many dead letters that were put back are taken up at once.
const REVIVED_MAX: usize = 1000;
/// How long requests that are under way are waited for when the hub stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Posts events until it is told to stop.
pub(super) async fn run(
    webhook: &Webhook,
    settings: Option<Settings>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(settings) = settings else {
        *webhook.shown.lock() = Shown::default();
        while let Err(error) = webhook.outbox.clear().await {
            tracing::warn!(%error, "the webhook's progress cannot be forgotten");
            sleep(STORE_PAUSE).await;
        }
        stop.wait_for(|stop| *stop).await.ok();
        return;
    };
    let client = match sender::client() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no webhook can be sent");
            stop.wait_for(|stop| *stop).await.ok();
            return;
        }
    };
    let progress = begin(webhook).await;
    let mut worker = Worker {
        webhook,
        settings: Arc::new(settings),
        client,
        head: webhook.store.head(),
        queue: Queue::new(progress),
        health: Health::default(),
        requests: JoinSet::new(),
        is_probe_new: false,
        save_at: None,
        revived: Vec::new(),
        more_to_revive: false,
        under_way: 0,
        again: 0,
    };
    worker.revive().await;
    worker.work(stop).await;
}

/// Where to begin, as soon as the store says.
async fn begin(webhook: &Webhook) -> Progress {
    loop {
        match webhook.begin().await {
            Ok(progress) => return progress,
            Err(error) => tracing::warn!(%error, "the webhook waits for the store"),
        }
        sleep(STORE_PAUSE).await;
    }
}

/// Waits until then, where there is anything to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

struct Worker<'a> {
    webhook: &'a Webhook,
    settings: Arc<Settings>,
    client: Client,
    head: watch::Receiver<Cursor>,
    queue: Queue,
    health: Health,
    requests: JoinSet<(Batch, Outcome)>,
    /// Whether the next probe of a receiver that is down is something new: one batch that is never
    /// accepted must not keep the hub from noticing that others would be.
    is_probe_new: bool,
    save_at: Option<Instant>,
    /// Dead letters that are delivered, and not yet saved so.
    revived: Vec<Cursor>,
    /// Whether there may be more of them than were taken up.
    more_to_revive: bool,
    /// Events that are under way, and those of them that are for another time.
    under_way: usize,
    /// See [`Self::under_way`].
    again: usize,
}

impl Worker<'_> {
    fn now(&self) -> Timestamp {
        self.webhook.clock.now()
    }

    async fn work(&mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let is_caught_up = self.start_requests().await;
            self.show();
            let wake = self.wake_at();
            let save_at = self.save_at;
            tokio::select! {
                Some(done) = self.requests.join_next() => self.settle(done).await,
                Ok(()) = self.head.changed(), if is_caught_up => (),
                () = until(wake) => (),
                () = until(save_at) => self.save().await,
                () = self.webhook.put_back.notified() => self.revive().await,
                _ = stop.changed() => (),
            }
        }
        let answered = async {
            while let Some(done) = self.requests.join_next().await {
                self.settle(done).await;
            }
        };
        tokio::time::timeout(STOP_MAX, answered).await.ok();
        self.save().await;
    }

    /// Whether another request may go out now.
    fn may_start(&self) -> bool {
        if self.health.is_down() {
            self.requests.is_empty() && self.now() >= self.health.probe_at()
        } else {
            self.requests.len() < self.settings.parallel
        }
    }

    /// When to look again, if nothing else happens.
    fn wake_at(&self) -> Option<Instant> {
        let now = self.now();
        let at = if self.health.is_down() && now < self.health.probe_at() {
            self.requests.is_empty().then(|| self.health.probe_at())
        } else {
            self.queue.next_due().filter(|at| *at > now || self.may_start())
        };
        at.map(|at| self.webhook.clock.after(at - now))
    }

    /// Sends what may be sent; returns whether all that is new has been looked at.
    async fn start_requests(&mut self) -> bool {
        while self.may_start() {
            self.head.mark_unchanged();
            let Some(batch) = self.next_batch().await else { return true };
            self.start(batch);
        }
        false
    }

    async fn next_batch(&mut self) -> Option<Batch> {
        let is_new_first = self.health.is_down() && self.is_probe_new;
        self.is_probe_new = !self.is_probe_new;
        let now = self.now();
        if !is_new_first && let Some(batch) = self.queue.due(now) {
            return Some(batch);
        }
        if self.queue.has_room()
            && let Some(batch) = self.new_batch().await
        {
            return Some(batch);
        }
        self.queue.due(now)
    }

    /// Makes a batch of what lags and of what is new in the log.
    async fn new_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let read = async {
            if self.take_up(&mut batch).await? {
                self.scan(&mut batch).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = read.await {
            tracing::warn!(%error, "the webhook cannot read the log");
            sleep(STORE_PAUSE).await;
        }
        (!batch.entries.is_empty()).then_some(batch)
    }

    /// Reads what users lag behind with; returns whether there is room for more.
    async fn take_up(&mut self, batch: &mut Batch) -> Result<bool, StoreError> {
        let (events_max, bytes_max) = self.settings.format.limits();
        while batch.entries.len() < events_max && batch.bytes() < bytes_max {
            let Some((user, from, is_alone)) = self.queue.next_ready() else { return Ok(true) };
            if is_alone && !batch.entries.is_empty() {
                self.queue.not_yet(user);
                return Ok(false);
            }
            let room = events_max - batch.entries.len();
            let part = Part::After(Cursor(from.0.saturating_sub(1)));
            let read = match self.webhook.store.history(&user, part, room).await {
                Ok(read) => read,
                Err(error) => {
                    self.queue.not_yet(user);
                    return Err(error);
                }
            };
            let is_all = read.len() < room;
            self.queue.take_up(batch, &user, read, is_all);
            if is_alone && !batch.entries.is_empty() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    async fn scan(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let (events_max, bytes_max) = self.settings.format.limits();
        while batch.entries.len() < events_max && batch.bytes() < bytes_max {
            let room = events_max - batch.entries.len();
            let read = self.webhook.store.log(Some(self.queue.scanned()), room).await;
            let entries = match read {
                Err(StoreError::CursorExpired) => {
                    self.skip().await?;
                    continue;
                }
                read => read?,
            };
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                self.queue.scan(batch, entry);
            }
            self.save_soon();
        }
        Ok(())
    }

    /// Goes on with the oldest that is kept: so much waited that the log let go of the rest.
    async fn skip(&mut self) -> Result<(), StoreError> {
        let oldest = self.webhook.store.log(None, 1).await?;
        let head = *self.webhook.store.head().borrow();
        let next = oldest.first().map_or(head, |entry| Cursor(entry.cursor.0 - 1));
        tracing::error!(from = %self.queue.scanned(), to = %next, "the webhook misses events");
        self.queue.skip_to(next);
        Ok(())
    }

    fn start(&mut self, batch: Batch) {
        let Settings { format, url, timeout, .. } = &*self.settings;
        let wall = self.webhook.clock.wall();
        let (client, timeout) = (self.client.clone(), *timeout);
        let Some(request) = format.request(url, &batch.entries, wall) else {
            // Its receiver knows no such thing, and so has not accepted it either.
            self.revived.extend(self.queue.done(batch));
            return self.save_soon();
        };
        self.under_way += batch.entries.len();
        self.again += batch.again();
        self.requests.spawn(async move {
            let outcome = sender::send(&client, request, timeout, wall).await;
            (batch, outcome)
        });
    }

    async fn settle(&mut self, done: Result<(Batch, Outcome), tokio::task::JoinError>) {
        let Ok((batch, outcome)) = done else {
            // What it bore lags still, and nothing is lost: the next run posts it.
            tracing::error!("a request of the webhook has failed");
            return;
        };
        self.save_soon();
        self.under_way -= batch.entries.len();
        self.again -= batch.again();
        let (error, is_refusal, retry_after) = match outcome {
            Outcome::Accepted => return self.accepted(batch),
            Outcome::Refused { error, retry_after } => (error, true, retry_after),
            Outcome::Failed { error, retry_after } => (error, false, retry_after),
        };
        self.webhook.metrics.requested(if is_refusal { "refused" } else { "failed" });
        self.note_failure(&batch, &error);
        let now = self.now();
        let last_success = self.health.last_success;
        // What a receiver says of one request that it refuses is not said of the others.
        if self.health.failed(now, retry_after.filter(|_| !is_refusal)) {
            tracing::error!(%error, "the webhook's receiver is down: one request at a time tries it");
        }
        let give_up_after = self.settings.give_up_after;
        let why = Setback { error, is_refusal, retry_after, last_success, give_up_after };
        if let Some(batch) = self.queue.set_back(batch, &why, now) {
            self.give_up(batch).await;
        }
    }

    fn accepted(&mut self, batch: Batch) {
        self.webhook.metrics.requested("accepted");
        self.webhook.metrics.events.inc_by(batch.entries.len() as u64);
        let now = self.now();
        self.revived.extend(self.queue.done(batch));
        if self.health.succeeded(now) {
            tracing::info!("the webhook's receiver is there again");
            self.queue.hurry(now);
        }
    }

    /// Buries what is never accepted, so that its user's later events can go on.
    async fn give_up(&mut self, mut batch: Batch) {
        let now = self.now();
        let dead = batch.dead(now);
        let count = dead.len() as u64;
        let mut save = self.queue.save();
        save.dead.clone_from(&dead);
        match self.webhook.outbox.save(save.clone()).await {
            Ok(()) => {
                for Dead { entry, last_error, .. } in &dead {
                    tracing::error!(user = %entry.user, error = %last_error, "an event is given up");
                }
                self.webhook.metrics.dead.inc_by(count);
                // One that was put back is a dead letter again, and nobody waits for it.
                if batch.is_revived() {
                    self.revive_more().await;
                } else {
                    self.queue.done(batch);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a dead letter waits for the store");
                self.queue.unsaved(save);
                batch.again_at(now + STORE_PAUSE);
                self.queue.wait(batch);
            }
        }
    }

    /// Takes up what was put back.
    async fn revive(&mut self) {
        let now = self.now();
        match self.webhook.outbox.dead(None, true, REVIVED_MAX).await {
            Ok(dead) => {
                self.more_to_revive = dead.len() == REVIVED_MAX;
                for Dead { entry, .. } in dead {
                    if !self.revived.contains(&entry.cursor) {
                        self.queue.revive(entry, now);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "dead letters cannot be read"),
        }
    }

    /// Takes up the rest, where so much was put back that not all of it was.
    async fn revive_more(&mut self) {
        if self.more_to_revive {
            self.revive().await;
        }
    }

    // Telling how it goes.

    fn save_soon(&mut self) {
        let at = self.webhook.clock.after(SAVE_EVERY);
        self.save_at.get_or_insert(at);
    }

    async fn save(&mut self) {
        self.save_at = None;
        let mut save = self.queue.save();
        save.revived.clone_from(&self.revived);
        match self.webhook.outbox.save(save.clone()).await {
            Ok(()) if self.revived.is_empty() => (),
            Ok(()) => {
                self.revived.clear();
                self.revive_more().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the webhook's progress cannot be saved");
                self.queue.unsaved(save);
                self.save_soon();
            }
        }
    }

    fn note_failure(&self, batch: &Batch, error: &Arc<str>) {
        let (events, attempts) = (batch.entries.len(), batch.attempts() + 1);
        // Of a receiver that is down, it was said already.
        if !self.health.is_down() {
            tracing::warn!(events, attempts, %error, "the webhook was not accepted");
        }
        let mut shown = self.webhook.shown.lock();
        shown.failures.push(Failure { at: self.now(), events, attempts, error: Arc::clone(error) });
        let excess = shown.failures.len().saturating_sub(FAILURES_SHOWN);
        shown.failures.drain(..excess);
    }

    fn show(&self) {
        let mut shown = self.webhook.shown.lock();
        shown.state = match (self.health.is_down(), self.health.is_failing()) {
            (true, _) => Condition::Down,
            (false, true) => Condition::Failing,
            (false, false) => Condition::Up,
        };
        shown.under_way = self.requests.len();
        shown.waiting = self.queue.waiting_events() + self.again;
        shown.held_since = self.queue.held_since();
        shown.held = self.queue.held_users();
        shown.last_success = self.health.last_success.or(shown.last_success);
        shown.position = self.queue.position();
        shown.scanned = self.queue.scanned();
        shown.pending = self.queue.waiting_events() + self.under_way + self.queue.left_in_log();
    }
}
