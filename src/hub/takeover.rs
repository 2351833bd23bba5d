//! Takes over the sessions of dead nodes (T11).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;

use super::{Hub, Unavailable};
use crate::panics::caught;
use crate::presence::{EventKind, UserId};
use crate::store::{Damaged, Lost, Part};

/// The maximum number of users that are taken over at once.
const USERS_MAX: usize = 1024;
/// The pause before the next try after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long the store may lose a takeover again, for example by a failover. Once the dead node is removed, no node
/// would repeat the takeover, and its sessions would stay `Online` for ever.
const LOSS_WITHIN: Duration = Duration::from_secs(5);
const CANNOT_TAKE_OVER: &str = "cannot take over sessions of a dead node, retrying";

impl Hub {
    /// Takes over the sessions of dead nodes as they are found; each session is held until its own deadline
    /// (T11). A failed user is retried and does not delay the others. Never returns.
    pub(super) async fn take_over(self: Arc<Self>) {
        let mut found = self.lost.subscribe();
        let (mut begun, mut under_way) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            let lost = found.borrow_and_update().clone();
            for dead in lost.iter().flat_map(|lost| &**lost) {
                if begun.insert(dead.node) {
                    under_way.push(self.take_node_over(dead.clone()));
                }
            }
            tokio::select! {
                biased;
                // `changed` cannot fail: this hub owns the sender.
                _ = found.changed() => (),
                Some(()) = under_way.next() => (),
            }
        }
    }

    async fn take_node_over(&self, dead: Lost) {
        self.take_over_until_done(&dead).await;
        if self.ledger.is_some() {
            tokio::time::sleep(LOSS_WITHIN).await;
            self.take_over_until_done(&dead).await;
        }
        while let Err(error) = self.store.retire(dead.node).await {
            let what = "cannot remove a dead node from the store, retrying";
            self.store_failed(what, &error.into(), None);
            tokio::time::sleep(PAUSE).await;
        }
        self.lost.send_modify(|lost| {
            let left = lost.iter().flat_map(|lost| lost.iter()).filter(|it| it.node != dead.node);
            *lost = Some(left.cloned().collect());
        });
        tracing::info!(node = %dead.node, "took over the sessions of a dead node");
    }

    /// Takes over all users with sessions of a dead node.
    async fn take_over_until_done(&self, dead: &Lost) {
        let mut failed = self.take_all_over(dead).await;
        while !failed.is_empty() {
            tokio::time::sleep(PAUSE).await;
            failed = self.take_users_over(dead, failed).await;
        }
    }

    /// Takes over all users with sessions of a dead node; returns the failed users.
    async fn take_all_over(&self, dead: &Lost) -> Vec<UserId> {
        let (mut after, mut failed) = (None, Vec::new());
        loop {
            let users = match self.store.held(dead.node, Part::ALL, after.as_ref(), USERS_MAX).await
            {
                Ok(users) => users,
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some((last, _)) = users.last() else { return failed };
            after = Some(last.clone());
            let mut held = Vec::new();
            for (user, record) in users {
                match record {
                    Ok(_) => held.push(user),
                    Err(Damaged) => self.note_damaged(&user),
                }
            }
            failed.extend(self.take_users_over(dead, held).await);
        }
    }

    /// Takes users over; returns the failed ones.
    async fn take_users_over(&self, dead: &Lost, users: Vec<UserId>) -> Vec<UserId> {
        let take = async |user: UserId| match caught(self.take_user_over(dead, &user)).await {
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

    /// Moves a user's sessions of a dead node to this node, with their deadlines on this node's time.
    async fn take_user_over(&self, dead: &Lost, user: &UserId) -> Result<(), Unavailable> {
        let lost = EventKind::NodeLost {
            node: dead.node,
            successor: self.node,
            last: dead.last,
            at: dead.at,
            stalls: Arc::clone(&dead.stalls),
        };
        self.apply(user, lost).await.map(drop)
    }

    /// Moves a user's sessions of all dead nodes to this node.
    pub(super) async fn take_over_all_of(&self, user: &UserId) -> Result<(), Unavailable> {
        let lost = self.lost.borrow().clone();
        for dead in lost.iter().flat_map(|lost| &**lost) {
            self.take_user_over(dead, user).await?;
        }
        Ok(())
    }
}
