//! The dashboard's logins, which count on every hub.

use std::time::Duration;

use redis::cmd;

use super::router::At;
use super::scripts::{LOGIN_FIND, LOGIN_SAVE};
use super::state::State;
use crate::store::{SharedLogin, StoreError};

impl State {
    pub(super) async fn save_login(
        &self,
        id: &str,
        key: &str,
        ttl: Duration,
        most: usize,
    ) -> Result<(), StoreError> {
        let keys = &self.keys.hub;
        let mut call = LOGIN_SAVE.prepare_invoke();
        call.key(&keys.logins).key(keys.logins_of(key));
        call.arg(id).arg(key).arg(ttl.as_millis().to_string()).arg(most);
        self.call(At::Hub, &call).await
    }

    pub(super) async fn login(&self, id: &str) -> Result<Option<SharedLogin>, StoreError> {
        let mut call = LOGIN_FIND.prepare_invoke();
        call.key(&self.keys.hub.logins).arg(id);
        let found: Vec<String> = self.call(At::Hub, &call).await?;
        let [key, left] = &found[..] else { return Ok(None) };
        let left = Duration::from_millis(left.parse().unwrap_or_default());
        Ok(Some(SharedLogin { key: key.clone(), left }))
    }

    pub(super) async fn end_login(&self, id: &str) -> Result<(), StoreError> {
        let mut delete = cmd("HDEL");
        delete.arg(&self.keys.hub.logins).arg(id);
        self.run(At::Hub, &delete).await
    }
}
