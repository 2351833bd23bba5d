//! The nodes' signs of life: the server keeps them, and each hub looks which nodes are dead, as with Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use presence_hub::presence::{NodeId, SignOfLife, Timestamp};
use presence_hub::store::{DEAD_AFTER, Lookout, Lost, NodeCard, Nodes, StoreError};
use tokio::time::Instant;

use super::link::Link;
use super::server::Server;
use super::switch::Switch;

/// A node signs every second. Younger than this, its sign proves that it was alive.
const FRESH: Duration = Duration::from_secs(1);

/// A node's last sign of life.
pub(super) struct Signed {
    at: Duration,
    /// For how long the server had been up.
    up: Duration,
    sign: SignOfLife,
}

/// What the server answers to a sign of life about another node.
#[derive(Clone)]
struct Other {
    node: NodeId,
    sign: SignOfLife,
    /// How old the sign is.
    age: Duration,
    /// For how long the server was up since.
    up: Duration,
}

/// What a hub knows of the other nodes.
#[derive(Default)]
pub(super) struct Observed {
    lookout: Lookout,
    /// The dead nodes that the server accepts nothing from.
    fenced: BTreeSet<NodeId>,
}

impl Observed {
    /// Returns the dead nodes. The signs were asked for and answered at two times of the hub.
    fn look(
        &mut self,
        others: &[Other],
        (asked, now): (Timestamp, Timestamp),
        broken: Option<Switch>,
    ) -> Vec<Lost> {
        let signs = others.iter().map(|other| (other.node, &other.sign));
        let mut lost = self.lookout.look(signs, asked, now);
        if broken == Some(Switch::LeasesByTtl) {
            let old = others.iter().filter(|other| other.age > DEAD_AFTER);
            let expired = old.map(|Other { node, sign, .. }| Lost {
                node: *node,
                last: sign.now,
                at: now,
                stalls: Arc::clone(&sign.stalls),
            });
            lost = expired.collect();
        }
        for dead in &mut lost {
            let other = others.iter().find(|other| other.node == dead.node);
            let age = other.map(|other| other.age).unwrap_or_default();
            dead.at =
                if broken == Some(Switch::OtherClock) { dead.last } else { dead.at.min(now - age) };
        }
        lost
    }
}

impl Server {
    /// Keeps a node's sign of life; returns those of the others.
    fn sign(&mut self, node: NodeId, sign: &SignOfLife) -> Result<Vec<Other>, StoreError> {
        if self.retired.contains(&node) {
            return if self.is_broken(Switch::NoFence) {
                Ok(Vec::new())
            } else {
                Err(StoreError::Retired)
            };
        }
        // A sign that arrives twice says nothing new.
        if self.nodes.get(&node).is_none_or(|signed| signed.sign != *sign) {
            let signed = Signed { at: self.now, up: self.up, sign: sign.clone() };
            self.nodes.insert(node, signed);
        }
        let others =
            self.nodes.iter().filter(|(other, _)| **other != node && !self.removed.contains(other));
        let others = others.map(|(other, it)| Other {
            node: *other,
            sign: it.sign.clone(),
            age: self.now - it.at,
            up: self.up - it.up,
        });
        Ok(others.collect())
    }

    /// From now on nothing is accepted from a dead node, unless it has given another sign of life since the look
    /// that found it dead. Between its last sign and that look, the server was up long enough for another sign.
    fn fence(&mut self, dead: &Other) -> bool {
        let last = self.nodes.get(&dead.node).map(|signed| &signed.sign);
        if last != Some(&dead.sign) {
            return false;
        }
        if self.retired.insert(dead.node) && dead.up < FRESH {
            let node = dead.node;
            self.wrong.push(format!("node {node} was declared dead while the store was away"));
        }
        true
    }

    fn retire(&mut self, node: NodeId) {
        self.retired.insert(node);
        self.removed.insert(node);
    }

    /// Whether a node has given a sign of life.
    pub(super) fn has_signed(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// When a node gave its last sign of life.
    pub(super) fn signed_at(&self, node: NodeId) -> Duration {
        self.nodes.get(&node).map(|signed| signed.at).unwrap_or_default()
    }
}

impl Link {
    /// Has the server accept nothing more from the nodes that were found dead. Returns those that are dead: a node
    /// that was frozen may have given a sign of life meanwhile.
    async fn fence(&self, mut lost: Vec<Lost>, others: &[Other]) -> Result<Vec<Lost>, StoreError> {
        let mut dead: BTreeSet<_> = lost.iter().map(|it| it.node).collect();
        let new = &dead - &self.observed.lock().fenced;
        for other in others.iter().filter(|other| new.contains(&other.node)) {
            let (node, other) = (other.node, other.clone());
            let fence = move |server: &mut Server| Ok(server.fence(&other));
            if !self.ask(format!("fence {node}"), fence).await? {
                dead.remove(&node);
            }
        }
        lost.retain(|it| dead.contains(&it.node));
        self.observed.lock().fenced = dead;
        Ok(lost)
    }
}

impl Nodes for Link {
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
        _card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        self.node.get_or_init(|| node);
        async move {
            #[expect(clippy::disallowed_methods, reason = "the simulated hub's own time")]
            let (asked, sent) = (sign.now, Instant::now());
            let save = move |server: &mut Server| {
                let others = server.sign(node, &sign)?;
                Ok((others, server.take_seat(node)))
            };
            let (others, is_ours) = self.ask("sign", save).await?;
            self.turn.send_if_modified(|turn| std::mem::replace(turn, is_ours) != is_ours);
            let times = (asked, asked + sent.elapsed());
            let lost = self.observed.lock().look(&others, times, self.broken);
            self.fence(lost, &others).await
        }
        .boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        let retire = move |server: &mut Server| {
            server.retire(node);
            Ok(())
        };
        self.ask(format!("retire {node}"), retire).boxed()
    }

    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}
