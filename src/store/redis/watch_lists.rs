//! The users' watch lists: `revision(16) JSON`, one string for each user who has one.

use std::sync::Arc;

use redis::cmd;

use super::router::At;
use super::row::revision_text;
use super::scripts::WATCH_LIST;
use super::state::{State, place_of};
use crate::presence::{NodeId, UserId, WatchList, WatchListChange};
use crate::store::log::json;
use crate::store::{Message, Revision, StoreError};

/// How often a change is tried again after another node's.
const ATTEMPTS_MAX: u32 = 16;
const REVISION: usize = 16;

impl State {
    pub(super) async fn watch_list(&self, user: &UserId) -> Result<Arc<WatchList>, StoreError> {
        Ok(self.read_watch_list(user).await?.1)
    }

    /// The list, and the text of its revision.
    async fn read_watch_list(
        &self,
        user: &UserId,
    ) -> Result<(Vec<u8>, Arc<WatchList>), StoreError> {
        let part = self.part_of(user);
        let mut get = cmd("GET");
        get.arg(self.keys(part).watch_list(user));
        let row: Option<Vec<u8>> = self.run(At::Part(part), &get).await?;
        let Some(row) = row else { return Ok(<_>::default()) };
        let (revision, list) = row.split_at(REVISION.min(row.len()));
        let list = serde_json::from_slice(list).unwrap_or_else(|_| {
            self.note_damaged(user);
            WatchList::default()
        });
        Ok((revision.to_vec(), Arc::new(list)))
    }

    pub(super) async fn change_watch_list(
        &self,
        node: NodeId,
        user: &UserId,
        change: WatchListChange,
        max: usize,
    ) -> Result<Option<Arc<WatchList>>, StoreError> {
        let part = self.part_of(user);
        let message = Message::watch_list_of(user.clone());
        let keys = self.keys(part);
        for _ in 0..ATTEMPTS_MAX {
            let (expected, list) = self.read_watch_list(user).await?;
            let Some(list) = list.changed(&change, max) else { return Ok(None) };
            let row = match list.users().is_empty() {
                true => String::new(),
                false => {
                    let revision = Revision(rand::random::<u64>().max(1));
                    format!("{}{}", revision_text(revision), json(&list))
                }
            };
            let mut call = WATCH_LIST.prepare_invoke();
            call.key(keys.watch_list(user)).key(&keys.place).key(&keys.gone).key(&keys.feed);
            call.arg(node.to_string()).arg(expected).arg(row).arg(&*json(&message));
            // A failover must not give back the right to watch (P7).
            let answer: Vec<String> = match change.may_remove() {
                true => self.call_on_replica(At::Part(part), &call).await?,
                false => self.call(At::Part(part), &call).await?,
            };
            match &answer[..] {
                [ok, place] if ok == "ok" => {
                    self.note_place(part, place_of(place)?);
                    return Ok(Some(Arc::new(list)));
                }
                [retired] if retired == "retired" => return Err(StoreError::Retired),
                _ => (),
            }
        }
        Err(StoreError::unavailable(&"another hub changes this watch list all the time"))
    }
}
