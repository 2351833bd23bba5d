//! Messages to sessions and watchers on other nodes: the port and its adapters.

mod local;

pub use self::local::LocalBus;
use crate::presence::{End, Kicker, NodeId, Status, Timestamp, UserId};

/// Carries messages between the nodes of one hub.
///
/// A message may be late or lost, but never wrong. A node that missed messages is told so, and must
/// read the store again.
pub trait Bus: Send + Sync + 'static {
    /// Sends a message to the other nodes; never waits.
    fn publish(&self, from: NodeId, message: Message);

    /// Starts to receive messages.
    fn subscribe(&self) -> Subscriber;
}

/// A message to the other nodes.
#[derive(Debug, Clone)]
pub enum Message {
    /// A user's status changed; watchers must be told.
    Status {
        /// The user.
        user: UserId,
        /// The new status.
        status: Status,
    },
    /// A connection must be ended by the node that has it.
    End {
        /// The connection and the reason.
        end: End,
        /// For a kick: who kicked, and when.
        kick: Option<(Kicker, Timestamp)>,
    },
}

/// Receives messages from other nodes.
#[derive(Debug)]
pub struct Subscriber(tokio::sync::broadcast::Receiver<(NodeId, Message)>);

/// What a [`Subscriber`] receives.
#[derive(Debug)]
pub enum Received {
    /// A message and its sender.
    Message(NodeId, Message),
    /// Messages were missed: the store must be read again for every watched user.
    Missed,
    /// The bus was closed.
    Closed,
}

impl Subscriber {
    /// Waits for the next message.
    pub async fn next(&mut self) -> Received {
        use tokio::sync::broadcast::error::RecvError;
        match self.0.recv().await {
            Ok((from, message)) => Received::Message(from, message),
            Err(RecvError::Lagged(_)) => Received::Missed,
            Err(RecvError::Closed) => Received::Closed,
        }
    }
}
