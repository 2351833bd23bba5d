//! What a commit tells the other nodes.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::presence::{End, Kicker, NodeId, Status, Timestamp, UserId};

/// The maximum number of pending messages for a slow node; beyond it, the node is told that it missed
/// some.
const PENDING_MAX: usize = 1024;

/// What a commit tells the other nodes. A message may be late or lost, but never wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The user.
    pub user: UserId,
    /// The new status, if watchers must be told.
    pub status: Option<Status>,
    /// The connections on other nodes that must be ended.
    pub ends: Vec<End>,
    /// Who kicked the sessions on them, and when.
    pub kick: Option<(Kicker, Timestamp)>,
}

/// Receives the messages of other nodes.
#[derive(Debug)]
pub struct Subscription {
    node: NodeId,
    /// `None` if there are no other nodes.
    messages: Option<broadcast::Receiver<(NodeId, Arc<Message>)>>,
}

/// What a [`Subscription`] receives.
#[derive(Debug)]
pub enum Received {
    /// A message of another node.
    Message(Arc<Message>),
    /// Messages were missed: the store must be read again for every user of interest.
    Missed,
}

impl Subscription {
    /// Waits for the next message.
    pub async fn next(&mut self) -> Received {
        while let Some(messages) = &mut self.messages {
            match messages.recv().await {
                Ok((from, _)) if from == self.node => (),
                Ok((_, message)) => return Received::Message(message),
                Err(RecvError::Lagged(_)) => return Received::Missed,
                Err(RecvError::Closed) => self.messages = None,
            }
        }
        pending().await
    }

    /// The subscription of a node that is alone on its store.
    pub(super) const fn alone(node: NodeId) -> Self {
        Self { node, messages: None }
    }
}

/// Carries messages between the nodes within one process: usually one, several in tests.
#[derive(Debug)]
pub(super) struct Messages(broadcast::Sender<(NodeId, Arc<Message>)>);

impl Default for Messages {
    fn default() -> Self {
        Self(broadcast::channel(PENDING_MAX).0)
    }
}

impl Messages {
    /// Sends a message to the other nodes; never waits.
    pub(super) fn send(&self, from: NodeId, message: Message) {
        // The sender listens, too. Without another listener the message is not queued.
        if self.0.receiver_count() > 1 {
            self.0.send((from, Arc::new(message))).ok();
        }
    }

    pub(super) fn subscribe(&self, node: NodeId) -> Subscription {
        Subscription { node, messages: Some(self.0.subscribe()) }
    }
}
