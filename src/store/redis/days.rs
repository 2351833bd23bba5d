//! The figures of each day, in one hash.

use std::collections::BTreeMap;

use redis::cmd;

use super::router::At;
use super::scripts::SAVE_DAY;
use super::state::State;
use crate::store::{Day, StoreError, WebhookName};

impl State {
    pub(super) async fn days(&self, from: u32) -> Result<Vec<Day>, StoreError> {
        let mut all = cmd("HGETALL");
        all.arg(&self.keys.hub.days);
        let days: BTreeMap<u32, String> = self.run(At::Hub, &all).await?;
        let days = days.into_iter().filter(|(day, _)| *day >= from);
        Ok(days.map(|(day, figures)| (day, figures.into())).collect())
    }

    pub(super) async fn save_day(
        &self,
        day: u32,
        figures: &str,
        keep_from: u32,
    ) -> Result<(), StoreError> {
        let (hub, node) = (&self.keys.hub, self.node());
        let seat = hub.webhook(&WebhookName::of_figures()).seat;
        let mut call = SAVE_DAY.prepare_invoke();
        call.key(&hub.days).key(seat).key(&hub.gone);
        call.arg(node.map(|node| node.to_string()).unwrap_or_default());
        call.arg(day).arg(figures).arg(keep_from);
        let answer: String = self.call(At::Hub, &call).await?;
        match &*answer {
            "ok" => Ok(()),
            "retired" => Err(StoreError::Retired),
            _ => Err(StoreError::Conflict),
        }
    }
}
