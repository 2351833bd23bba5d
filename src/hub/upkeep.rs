//! Writes signs of life, and trims the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Hub, Unavailable};
use crate::store::{Lost, NodeCard, StoreError};

/// How often the hub gives a sign of life (T11) and trims the log.
const EVERY: Duration = Duration::from_secs(1);

impl Hub {
    /// Writes a sign of life, and notes which nodes are dead. The first must be written before the first
    /// login.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn give_sign_of_life(&self) -> Result<(), Unavailable> {
        let sign = self.clock.sign_of_life();
        let card = Arc::clone(&self.card.lock());
        let signed = self.store.save_sign_of_life(self.node, sign, card).await;
        let lost = signed.inspect_err(|error| self.note_retired(error))?;
        if let Some(counts) = self.store.server_counts() {
            self.clock.follow_server(counts.clock_ms);
        }
        self.lost.send_if_modified(|known| {
            let nodes = |lost: &[Lost]| lost.iter().map(|it| it.node).collect::<Vec<_>>();
            let is_new = known.as_deref().map(nodes) != Some(nodes(&lost));
            if is_new {
                *known = Some(lost.into());
            }
            is_new
        });
        Ok(())
    }

    /// Sets what this node says of itself with each sign of life: JSON, for the server API of every node.
    pub fn set_card(&self, card: Arc<str>) {
        *self.card.lock() = card;
    }

    /// What is known of each node.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn cards(&self) -> Result<Vec<NodeCard>, Unavailable> {
        Ok(self.store.cards().await?)
    }

    /// Returns when other nodes have taken over this node's sessions: its clients must go to other nodes, and
    /// the process must be started again.
    pub async fn retired(&self) {
        self.retired.subscribe().wait_for(|retired| *retired).await.ok();
    }

    pub(super) fn note_retired(&self, error: &StoreError) {
        if *error == StoreError::Retired && !self.retired.send_replace(true) {
            tracing::error!(
                "other hubs have taken over this hub's sessions; sending its clients away"
            );
        }
    }

    /// Writes a sign of life every second, and logs when the store fails and when it works again.
    pub(super) async fn give_signs_of_life(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_available = true;
        loop {
            ticks.tick().await;
            let done = self.give_sign_of_life().await;
            if let Err(error) = &done
                && is_available
                && !error.is_retired()
            {
                tracing::error!(%error, "store unavailable; refusing logins and retrying session ends");
            } else if done.is_ok() && !is_available {
                let suppressed = self.reset_store_warnings();
                tracing::info!(suppressed, "store available again");
            }
            is_available = done.is_ok();
        }
    }

    /// Trims the log every second. It has a task of its own, because a slow trim must not delay the signs
    /// of life.
    pub(super) async fn trim(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // The earlier of both, so that a jump of the wall clock does not delete entries too early.
            let now = self.clock.now().min(self.clock.wall());
            match self.store.trim(now).await {
                Ok(0) => (),
                Ok(unread) => {
                    tracing::error!(unread, "webhook events lost; the backlog exceeded its limit");
                }
                // Debug only: the sign-of-life task reports an unavailable store.
                Err(error) => tracing::debug!(%error, "cannot trim the log, retrying"),
            }
        }
    }
}
