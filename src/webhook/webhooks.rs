//! All webhooks of the hub, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Metrics, ReceiverState, Settings, Transport, Webhook};
use crate::clock::Clock;
use crate::store::{Log, Outbox, StoreError, WebhookName};

/// All webhooks of the hub. The one without a name is always there, even if it is not configured.
pub struct Webhooks {
    log: Arc<dyn Log>,
    outbox: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    metrics: Metrics,
    unnamed: Arc<Webhook>,
    named: Mutex<BTreeMap<WebhookName, Arc<Webhook>>>,
}

impl Webhooks {
    /// Makes the webhook without a name, not configured.
    pub fn new(
        log: Arc<dyn Log>,
        outbox: Arc<dyn Outbox>,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Self {
        let metrics = Metrics::default();
        let parts = (Arc::clone(&log), Arc::clone(&outbox), Arc::clone(&transport), clock.clone());
        let unnamed = Webhook::of(WebhookName::UNNAMED, parts, None, &metrics);
        Self { log, outbox, transport, clock, metrics, unnamed, named: Mutex::default() }
    }

    /// Makes the configured webhooks, and those that an earlier run has left in the store, and reads their progress.
    /// Each must be run. A new webhook starts at the end of the log, so this must be called before the hub's first
    /// event.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn begin(
        &self,
        settings: BTreeMap<WebhookName, Settings>,
    ) -> Result<Vec<Arc<Webhook>>, StoreError> {
        for left in self.outbox.webhooks().await? {
            self.add(left, None);
        }
        self.set_settings(settings);
        let all = self.all();
        for webhook in &all {
            webhook.begin().await?;
        }
        Ok(all)
    }

    /// Changes the settings of all webhooks. One that has none is off: its progress is deleted, and its dead letters
    /// stay. Returns the webhooks that are new, which must be run.
    pub fn set_settings(&self, mut settings: BTreeMap<WebhookName, Settings>) -> Vec<Arc<Webhook>> {
        for webhook in self.all() {
            webhook.set_settings(settings.remove(webhook.name()));
        }
        settings.into_iter().map(|(name, settings)| self.add(name, Some(settings))).collect()
    }

    fn add(&self, name: WebhookName, settings: Option<Settings>) -> Arc<Webhook> {
        let (log, outbox) = (Arc::clone(&self.log), Arc::clone(&self.outbox));
        let parts = (log, outbox, Arc::clone(&self.transport), self.clock.clone());
        let webhook = Webhook::of(name.clone(), parts, settings, &self.metrics);
        self.named.lock().insert(name, Arc::clone(&webhook));
        webhook
    }

    /// The webhook with a name.
    pub fn get(&self, name: &WebhookName) -> Option<Arc<Webhook>> {
        if name.is_unnamed() {
            return Some(Arc::clone(&self.unnamed));
        }
        self.named.lock().get(name).cloned()
    }

    /// The webhook without a name.
    pub const fn unnamed(&self) -> &Arc<Webhook> {
        &self.unnamed
    }

    /// The webhooks with a name.
    pub fn named(&self) -> Vec<Arc<Webhook>> {
        self.named.lock().values().cloned().collect()
    }

    /// All webhooks, beginning with the one without a name.
    pub fn all(&self) -> Vec<Arc<Webhook>> {
        [Arc::clone(&self.unnamed)].into_iter().chain(self.named()).collect()
    }

    /// Returns once every webhook has tried the log's events so far, but after `most` at the latest: how many events
    /// no receiver has accepted yet.
    pub async fn until_tried(&self, most: Duration) -> usize {
        let all = self.all();
        let tried = join_all(all.iter().map(|webhook| webhook.until_tried()));
        timeout(most, tried).await.ok();
        all.iter().map(|webhook| webhook.shown().pending).sum()
    }

    /// The state of the webhook that is worst off.
    pub fn worst_state(&self) -> ReceiverState {
        let states = self.all().into_iter().map(|webhook| webhook.shown().state);
        states.max().unwrap_or_default()
    }

    /// The metrics of all webhooks.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
