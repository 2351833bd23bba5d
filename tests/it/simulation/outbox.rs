//! The webhook's progress, as a hub saves it.

use std::future::ready;

use futures::future::{BoxFuture, FutureExt};
use presence_hub::presence::NodeId;
use presence_hub::store::{
    Cursor, Dead, DeadSelection, Outbox, Progress, Save, StoreError, WebhookName,
};
use tokio::sync::watch;

use super::link::Link;

/// The receiver accepts everything, so there are no dead letters.
impl Outbox for Link {
    fn progress<'a>(
        &'a self,
        _: &'a WebhookName,
    ) -> BoxFuture<'a, Result<Option<Progress>, StoreError>> {
        self.ask("progress", |server| Ok(server.progress())).boxed()
    }

    fn turn(&self, _: &WebhookName) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        let node = self.node.get().copied().unwrap_or(NodeId(0));
        let what = format!("save {}", save.position);
        self.ask(what, move |server| server.save(node, &save)).boxed()
    }

    fn clear<'a>(&'a self, _: &'a WebhookName) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn webhooks(&self) -> BoxFuture<'_, Result<Vec<WebhookName>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn dead<'a>(
        &'a self,
        _: &'a WebhookName,
        _after: Option<Cursor>,
        _put_back: bool,
        _limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Dead>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn dead_waiting<'a>(&'a self, _: &'a WebhookName) -> BoxFuture<'a, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }

    fn put_back<'a>(
        &'a self,
        _: &'a WebhookName,
        _which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }

    fn drop_dead<'a>(
        &'a self,
        _: &'a WebhookName,
        _which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }
}
