//! Takes over the sessions of earlier runs (T11).

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Hub, Unavailable};
use crate::panics::caught;
use crate::presence::{EventKind, Record, State, UserId};
use crate::store::{Among, Damaged};

/// The maximum number of users that are taken over at once.
const USERS_MAX: usize = 1024;
/// The pause before the next try after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
const CANNOT_TAKE_OVER: &str = "cannot take over sessions of an earlier run, retrying";

impl Hub {
    /// Finds the dead nodes whose sessions are not taken over yet.
    pub(super) async fn find_lost(&self) {
        loop {
            match self.store.lost().await {
                Ok(lost) => return self.lost.store(Arc::new(lost)),
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes over the sessions of dead nodes; each is held until its own deadline (T11). A failed user
    /// is retried and does not delay the others. Never returns.
    pub(super) async fn take_over(self: Arc<Self>) {
        let lost = self.lost.load_full();
        let mut failed = if lost.is_empty() { Vec::new() } else { self.take_all_over().await };
        while !failed.is_empty() {
            tokio::time::sleep(PAUSE).await;
            failed = self.take_users_over(failed).await;
        }
        for (node, _) in &*lost {
            while let Err(error) = self.store.retire(*node).await {
                self.store_failed(
                    "cannot remove an earlier run from the store, retrying",
                    &error.into(),
                    None,
                );
                tokio::time::sleep(PAUSE).await;
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
                    tokio::time::sleep(PAUSE).await;
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
    pub(super) async fn take_user_over(&self, user: &UserId) -> Result<(), Unavailable> {
        let present = self.clock.sign_of_life();
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
}
