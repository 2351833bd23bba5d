//! The interface for the nodes' signs of life.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Part, StoreError};
use crate::presence::{NodeId, SignOfLife, Stall, Timestamp};

/// Keeps the nodes' signs of life.
pub trait Nodes: Send + Sync + 'static {
    /// Writes a node's sign of life, and its card; called every second. Returns the dead nodes whose sessions are not
    /// taken over yet. From then on nothing is accepted from them, should they still be alive.
    ///
    /// # Errors
    ///
    /// [`StoreError::Retired`]. [`StoreError::Unavailable`].
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>>;

    /// The parts whose users this node takes over from dead nodes. Each part is kept by one of several live nodes as
    /// a rule, and by another one as soon as that is dead.
    fn kept_parts(&self) -> Vec<Part> {
        vec![Part::ALL]
    }

    /// Removes a dead node after its sessions were taken over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The nodes that give signs of life, and those that are dead and not removed yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>>;
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCard {
    /// The node.
    pub node: NodeId,
    /// What it said of itself with its last sign of life: JSON, for the server API.
    pub card: Arc<str>,
    /// Its wall clock minus that of the store's server, in milliseconds, if the store has one.
    pub clock_ms: Option<i64>,
    /// Whether it is dead.
    pub is_lost: bool,
}

/// A dead node whose sessions are not taken over yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The dead node.
    pub node: NodeId,
    /// Its last sign of life, on its own time.
    pub last: Timestamp,
    /// The same moment on the time of the node that asked: when it first saw that sign, if it can only see
    /// whether signs change.
    pub at: Timestamp,
    /// The dead node's stalls, on its own time (T12).
    pub stalls: Arc<[Stall]>,
}

impl Lost {
    /// A dead node by its last sign of life, as a node on the same machine sees it.
    pub fn on_this_machine(node: NodeId, sign: &SignOfLife, present: &SignOfLife) -> Self {
        let at = present.now - sign.before(present);
        Self { node, last: sign.now, at, stalls: Arc::clone(&sign.stalls) }
    }
}
