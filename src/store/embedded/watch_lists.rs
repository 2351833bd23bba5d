//! The users' watch lists, one row for each user who has one.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use super::job::ChangeWatchList;
use super::{EmbeddedStore, queries};
use crate::presence::{NodeId, UserId, WatchList, WatchListChange};
use crate::store::{StoreError, WatchLists};

impl WatchLists for EmbeddedStore {
    fn watch_list<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>> {
        async move {
            let of = user.clone();
            let found = self.ask(move |connection| queries::watch_list(connection, &of)).await?;
            Ok(Arc::new(found.unwrap_or_else(|| {
                self.parts.view.damage.found("watch_lists", user.as_str());
                WatchList::default()
            })))
        }
        .boxed()
    }

    fn change_watch_list<'a>(
        &'a self,
        _: NodeId,
        user: &'a UserId,
        change: WatchListChange,
        max: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>> {
        async move {
            self.parts.disk.takes_commits()?;
            // A power cut must not give back the right to watch (P7).
            let needs_sync = change.may_remove() || self.syncs_each;
            let changed = self.write(ChangeWatchList { user: user.clone(), change, max }).await?;
            if needs_sync {
                self.parts.disk.sync_now().await?;
            }
            Ok(changed)
        }
        .boxed()
    }
}
