//! Takes over the sessions of dead nodes (T11).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt};

use super::ledger::REMEMBERED;
use super::{Hub, Unavailable};
use crate::panics::caught;
use crate::presence::{EventKind, NodeId, UserId};
use crate::store::{Damaged, Lost, Part};

/// The maximum number of users of a part that are taken over at once.
const USERS_MAX: usize = 1024;
/// The maximum number of parts that are taken over at once.
const PARTS_MAX: usize = 16;
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long no session of a dead node must be found before it is removed, where the store may lose a takeover
/// again, for example by a failover: until no node can restore a record from before the takeover. Once the dead node
/// is removed, no node would repeat the takeover, and its sessions would stay `Online` for ever.
const KEPT_FOR: Duration = REMEMBERED.saturating_add(Duration::from_secs(5));
const CANNOT_TAKE_OVER: &str = "cannot take over sessions of a dead node, retrying";

impl Hub {
    /// Takes over the sessions of dead nodes as they are found; each session is held until its own deadline
    /// (T11). A failed user is retried and does not delay the others. Never returns.
    ///
    /// Of several nodes, each takes over the parts of the users that it keeps.
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
                Some(node) = under_way.next() => drop(begun.remove(&node)),
            }
        }
    }

    /// Takes over the users of the parts that this node keeps, in rounds, until the dead node is removed. Another
    /// keeper may die meanwhile: each round asks again which parts these are.
    async fn take_node_over(&self, dead: Lost) -> NodeId {
        // With a node that had no sessions, nothing is logged.
        let (mut users, mut noted, mut clean_since) = (0, 0, None);
        let (may_be_lost, kept_for) = match self.ledger.is_some() {
            true => (true, KEPT_FOR),
            false => (false, Duration::ZERO),
        };
        while self.is_lost(dead.node) {
            let found = self.take_kept_parts_over(&dead).await;
            users += found;
            if found > 0 && may_be_lost {
                clean_since = None;
            }
            if found == 0 && noted != users {
                tracing::info!(node = %dead.node, users, "took over the sessions of a hub that has ended");
                noted = users;
            }
            if self.removes() && self.is_taken_over(&dead).await {
                let now = self.clock.running();
                let since = *clean_since.get_or_insert(now);
                if now - since >= kept_for && self.remove(dead.node).await {
                    break;
                }
            } else {
                clean_since = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if noted != users {
            tracing::info!(node = %dead.node, users, "took over the sessions of a hub that has ended");
        }
        dead.node
    }

    /// Whether a node is dead and not removed yet.
    fn is_lost(&self, node: NodeId) -> bool {
        self.lost.borrow().iter().flat_map(|lost| lost.iter()).any(|lost| lost.node == node)
    }

    /// Whether it is this node that removes dead nodes.
    fn removes(&self) -> bool {
        let kept = self.store.kept_parts();
        self.store.parts().first().is_none_or(|part| kept.contains(part))
    }

    /// Removes a dead node after its sessions were taken over; returns whether it is removed.
    async fn remove(&self, node: NodeId) -> bool {
        if let Err(error) = self.store.retire(node).await {
            let what = "cannot remove a dead node from the store, retrying";
            self.store_failed(what, &error.into(), None);
            return false;
        }
        self.lost.send_modify(|lost| {
            let left = lost.iter().flat_map(|lost| lost.iter()).filter(|it| it.node != node);
            *lost = Some(left.cloned().collect());
        });
        true
    }

    /// Whether no user is left with sessions of a dead node. Users with damaged records do not count: their
    /// records are replaced in time.
    async fn is_taken_over(&self, dead: &Lost) -> bool {
        let mut after = None;
        loop {
            let users = self.store.held(dead.node, Part::ALL, after.as_ref(), USERS_MAX).await;
            let users = match users {
                Ok(users) => users,
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                    return false;
                }
            };
            if users.iter().any(|(_, record)| record.is_ok()) {
                return false;
            }
            let Some((last, _)) = users.last() else { return true };
            after = Some(last.clone());
        }
    }

    /// Takes over all users of the parts that this node keeps; returns how many.
    async fn take_kept_parts_over(&self, dead: &Lost) -> usize {
        let kept = self.store.kept_parts().into_iter();
        let parts: Vec<BoxFuture<'_, usize>> =
            kept.map(|part| self.take_part_over(dead, part).boxed()).collect();
        let mut parts = stream::iter(parts).buffer_unordered(PARTS_MAX);
        let mut taken = 0;
        while let Some(users) = parts.next().await {
            taken += users;
        }
        taken
    }

    /// Takes over all users of a part; returns how many.
    async fn take_part_over(&self, dead: &Lost, part: Part) -> usize {
        let (mut after, mut taken) = (None, 0);
        loop {
            let users = match self.store.held(dead.node, part, after.as_ref(), USERS_MAX).await {
                Ok(users) => users,
                Err(error) => {
                    self.store_failed(CANNOT_TAKE_OVER, &error.into(), None);
                    return taken;
                }
            };
            let Some((last, _)) = users.last() else { return taken };
            after = Some(last.clone());
            let mut held = Vec::new();
            for (user, record) in users {
                match record {
                    Ok(_) => held.push(user),
                    Err(Damaged) => self.note_damaged(&user),
                }
            }
            taken += held.len();
            taken -= self.take_users_over(dead, held).await;
        }
    }

    /// Takes users over; returns how many failed.
    async fn take_users_over(&self, dead: &Lost, users: Vec<UserId>) -> usize {
        let take = async |user: UserId| match caught(self.take_user_over(dead, &user)).await {
            Err(panic) => {
                tracing::error!(user = user.as_str(), %panic, "takeover of a user panicked, retrying");
                false
            }
            Ok(Err(error)) if !error.is_damage() => {
                self.store_failed(CANNOT_TAKE_OVER, &error, Some(&user));
                false
            }
            // `note_damaged` has set when to replace it.
            Ok(Ok(()) | Err(_)) => true,
        };
        let taken = join_all(users.into_iter().map(take)).await;
        taken.into_iter().filter(|is_taken| !is_taken).count()
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
