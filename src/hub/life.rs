use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::{Hub, Unavailable};
use crate::presence::{EventKind, NodeId, Sign, State};
use crate::store::Among;

/// How often the hub gives a sign of life (T11), and begins to let go of old entries of the log.
const EVERY: Duration = Duration::from_secs(1);
/// How many users are taken over at once.
const USERS_MAX: usize = 1024;

/// The hub's own life: it says that it lives, and takes over from those that live no longer.
impl Hub {
    /// Gives a sign of life; the first is to be given before anybody logs in.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn sign(&self) -> Result<(), Unavailable> {
        Ok(self.store.sign(self.node, self.clock.sign()).await?)
    }

    /// Takes the sessions of hubs that are gone over: each is held until its own deadline (T11).
    pub(super) async fn take_over(&self) {
        while let Err(error) = self.try_to_take_over().await {
            tracing::warn!(%error, "sessions of an earlier run wait for the store");
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn try_to_take_over(&self) -> Result<(), Unavailable> {
        for (node, sign) in self.store.lost().await? {
            let sessions = self.take_over_from(node, &sign).await?;
            self.store.retire(node).await?;
            tracing::info!(%node, sessions, "took over from a hub that is gone");
        }
        Ok(())
    }

    async fn take_over_from(&self, node: NodeId, sign: &Sign) -> Result<usize, Unavailable> {
        let present = self.clock.sign();
        let at = present.now - sign.before(&present);
        let lost = EventKind::NodeLost { node, successor: self.node, last: sign.now, at };
        let mut among = Among { states: vec![State::Online], ..Among::default() };
        let mut sessions = 0;
        loop {
            let users = self.store.users(&among, USERS_MAX).await?;
            let Some((last, _)) = users.last() else { return Ok(sessions) };
            among.after = Some(last.clone());
            let applied = users.iter().filter_map(|(user, record)| {
                let online = record.terminals.iter().filter(|t| t.state() == State::Online);
                let theirs = online.filter(|terminal| terminal.connection.node == node).count();
                sessions += theirs;
                (theirs > 0).then(|| self.apply(user, lost.clone()))
            });
            let applied: Vec<_> = applied.collect();
            for applied in join_all(applied).await {
                applied?;
            }
        }
    }

    /// Goes on living.
    pub(super) async fn live(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_well = true;
        loop {
            ticks.tick().await;
            let done = self.sign().await;
            if let Err(error) = &done
                && is_well
            {
                tracing::error!(%error, "the store takes nothing: what happens now must wait");
            } else if done.is_ok() && !is_well {
                tracing::info!("the store takes what happens again");
            }
            is_well = done.is_ok();
        }
    }

    /// Keeps the log as short as it may be: beside the signs of life, for it may take long.
    pub(super) async fn trim(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // The earlier of both: a wall clock that jumps ahead for a while takes nothing away.
            let now = self.clock.now().min(self.clock.wall());
            match self.store.trim(now).await {
                Ok(0) => (),
                Ok(unread) => tracing::error!(
                    unread,
                    "the webhook has lost events: its backlog was over its limit"
                ),
                // Where the store takes nothing, that was said already.
                Err(error) => tracing::debug!(%error, "the log is as long as it was"),
            }
        }
    }
}
