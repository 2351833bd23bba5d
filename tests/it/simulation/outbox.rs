//! The webhook's progress, as a hub saves it.

use std::future::ready;

use futures::future::{BoxFuture, FutureExt};
use presence_hub::presence::NodeId;
use presence_hub::store::{Cursor, Dead, DeadSelection, Outbox, Progress, Save, StoreError};
use tokio::sync::watch;

use super::link::Link;

/// The receiver accepts everything, so there are no dead letters.
impl Outbox for Link {
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>> {
        self.ask("progress", |server| Ok(server.progress())).boxed()
    }

    fn turn(&self) -> watch::Receiver<bool> {
        self.turn.subscribe()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        let node = self.node.get().copied().unwrap_or(NodeId(0));
        let what = format!("save {}", save.position);
        self.ask(what, move |server| server.save(node, &save)).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn dead(
        &self,
        _after: Option<Cursor>,
        _put_back: bool,
        _limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Dead>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn dead_waiting(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }

    fn put_back(&self, _which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }

    fn drop_dead(&self, _which: DeadSelection) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }
}
