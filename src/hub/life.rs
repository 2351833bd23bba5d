//! Writes signs of life, and takes over the sessions of earlier runs.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::{Hub, Unavailable};
use crate::panics::caught;
use crate::presence::{EventKind, Record, State, UserId};
use crate::store::{Among, Damaged};

/// How often the hub gives a sign of life (T11) and trims the log.
const EVERY: Duration = Duration::from_secs(1);
/// The maximum number of users that are taken over at once.
const USERS_MAX: usize = 1024;
const CANNOT_TAKE_OVER: &str = "cannot take over sessions of an earlier run, retrying";

impl Hub {
    /// Writes a sign of life. The first must be written before the first login.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn sign(&self) -> Result<(), Unavailable> {
        Ok(self.store.sign(self.node, self.clock.sign()).await?)
    }

    /// Finds the dead nodes whose sessions are not taken over yet.
    pub(super) async fn find_lost(&self) {
        loop {
            match self.store.lost().await {
                Ok(lost) => return self.lost.store(Arc::new(lost)),
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Takes over the sessions of dead nodes; each is held until its own deadline (T11). A failed user
    /// is retried and does not delay the others. Never returns.
    pub(super) async fn take_over(self: Arc<Self>) {
        let lost = self.lost.load_full();
        let mut failed = if lost.is_empty() { Vec::new() } else { self.take_all_over().await };
        while !failed.is_empty() {
            tokio::time::sleep(EVERY).await;
            failed = self.take_users_over(failed).await;
        }
        for (node, _) in &*lost {
            while let Err(error) = self.store.retire(*node).await {
                self.store_failed(
                    "cannot remove an earlier run from the store, retrying",
                    &error.into(),
                    None,
                );
                tokio::time::sleep(EVERY).await;
            }
            tracing::info!(%node, "took over the sessions of an earlier run");
        }
        self.lost.store(Arc::default());
        pending().await
    }

    /// Takes over all users with sessions of dead nodes; returns the failed users.
    async fn take_all_over(&self) -> Vec<UserId> {
        let mut among = Among { states: vec![State::Online], ..Among::default() };
        let mut failed = Vec::new();
        loop {
            let users = match self.store.users(&among, USERS_MAX).await {
                Ok(users) => users,
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
            };
            let Some((last, _)) = users.last() else { return failed };
            among.after = Some(last.clone());
            let mut affected = Vec::new();
            for (user, record) in users {
                match record {
                    Ok(record) if self.has_lost_sessions(&record) => affected.push(user),
                    Ok(_) => (),
                    Err(Damaged) => self.note_damaged(&user),
                }
            }
            failed.extend(self.take_users_over(affected).await);
        }
    }

    /// Whether a user has sessions of dead nodes.
    fn has_lost_sessions(&self, record: &Record) -> bool {
        let lost = self.lost.load();
        let online = record.terminals.iter().filter(|t| t.state() == State::Online);
        online.into_iter().any(|t| lost.iter().any(|(node, _)| *node == t.connection.node))
    }

    /// Takes users over; returns the failed ones.
    async fn take_users_over(&self, users: Vec<UserId>) -> Vec<UserId> {
        let take = async |user: UserId| match caught(self.take_user_over(&user)).await {
            Err(panic) => {
                tracing::error!(user = user.as_str(), %panic, "takeover of a user panicked, retrying");
                Some(user)
            }
            Ok(Err(error)) if !error.is_damage() => {
                self.store_failed(CANNOT_TAKE_OVER, &error, Some(&user));
                Some(user)
            }
            // `note_damaged` has set when to replace it.
            Ok(Ok(()) | Err(_)) => None,
        };
        let taken = join_all(users.into_iter().map(take)).await;
        taken.into_iter().flatten().collect()
    }

    /// Moves a user's sessions of dead nodes to this node, with their deadlines on this hub's clock.
    async fn take_user_over(&self, user: &UserId) -> Result<(), Unavailable> {
        let present = self.clock.sign();
        for (node, sign) in &**self.lost.load() {
            let lost = EventKind::NodeLost {
                node: *node,
                successor: self.node,
                last: sign.now,
                at: present.now - sign.before(&present),
                stalls: Arc::clone(&sign.stalls),
            };
            self.apply(user, lost).await?;
        }
        Ok(())
    }

    /// Applies a user's deadlines that have passed. Takes the user over first, because deadlines are
    /// compared on this hub's clock.
    pub(super) async fn tick(&self, user: &UserId) -> Result<(), Unavailable> {
        if !self.lost.load().is_empty() {
            self.take_user_over(user).await?;
        }
        self.apply(user, EventKind::Tick).await?;
        // The record is readable now. A query that started before its replacement may have noted it again.
        self.damaged.lock().remove(user);
        Ok(())
    }

    /// Writes a sign of life every second, and logs when the store fails and when it works again.
    pub(super) async fn give_signs_of_life(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_available = true;
        loop {
            ticks.tick().await;
            let done = self.sign().await;
            if let Err(error) = &done
                && is_available
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
