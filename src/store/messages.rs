//! What a commit tells the other nodes.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use super::Part;
use crate::presence::{End, Kicker, NodeId, Notice, Timestamp, UserId};

/// The maximum number of pending messages for a slow node; beyond it, the node is told that it missed
/// some.
const PENDING_MAX: usize = 1024;

/// What a commit tells the other nodes. A message may be late or lost, but never wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The user.
    pub user: UserId,
    /// What watchers must be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// The connections on other nodes that must be ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// Who kicked the sessions on them, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kick: Option<(Kicker, Timestamp)>,
    /// Whether the record was recovered: it may lack sessions of other nodes, which must compare theirs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_recovered: bool,
    /// Whether it has changed who may see the user (P2, P3).
    #[serde(default, skip_serializing_if = "is_false")]
    pub visibility: bool,
    /// Whether the user's watch list has changed (P8).
    #[serde(default, skip_serializing_if = "is_false")]
    pub watch_list: bool,
}

impl Message {
    /// A message about a user that says nothing yet.
    pub const fn about(user: UserId) -> Self {
        Self {
            user,
            notices: Vec::new(),
            ends: Vec::new(),
            kick: None,
            is_recovered: false,
            visibility: false,
            watch_list: false,
        }
    }

    /// Says that a user's watch list has changed.
    pub(super) fn watch_list_of(user: UserId) -> Self {
        Self { watch_list: true, ..Self::about(user) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Receives the messages of other nodes.
pub struct Subscription(BoxStream<'static, Received>);

/// What a [`Subscription`] receives.
#[derive(Debug, Clone)]
pub enum Received {
    /// A message of another node.
    Message(Arc<Message>),
    /// Messages about users of this part were missed, or commits of them lost: what the node knows of them
    /// must be compared with the store.
    Missed(Part),
}

impl Subscription {
    /// Receives what comes from a stream.
    pub fn of(stream: impl Stream<Item = Received> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The subscription of a node that is alone on its store.
    pub(super) fn alone() -> Self {
        Self::of(stream::pending())
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Received {
        match self.0.next().await {
            Some(received) => received,
            None => pending().await,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
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
        let messages = stream::unfold(self.0.subscribe(), move |mut messages| async move {
            loop {
                let received = match messages.recv().await {
                    Ok((from, _)) if from == node => continue,
                    Ok((_, message)) => Received::Message(message),
                    Err(RecvError::Lagged(_)) => Received::Missed(Part::ALL),
                    Err(RecvError::Closed) => return None,
                };
                return Some((received, messages));
            }
        });
        Subscription::of(messages)
    }
}
