//! A bus between the nodes within one process.

use tokio::sync::broadcast;

use super::{Bus, Message, Subscriber};
use crate::presence::NodeId;

/// The maximum number of pending messages for a slow node; beyond it, the node is told that it missed
/// some.
const PENDING_MESSAGES_MAX: usize = 1024;

/// Connects the nodes within one process: usually one, several in tests.
#[derive(Debug)]
pub struct LocalBus(broadcast::Sender<(NodeId, Message)>);

impl Default for LocalBus {
    fn default() -> Self {
        Self(broadcast::channel(PENDING_MESSAGES_MAX).0)
    }
}

impl Bus for LocalBus {
    fn publish(&self, from: NodeId, message: Message) {
        // The sender listens, too. Without another listener the message is dropped here, so that it is
        // neither cloned nor queued.
        if self.0.receiver_count() > 1 {
            self.0.send((from, message)).ok();
        }
    }

    fn subscribe(&self) -> Subscriber {
        Subscriber(self.0.subscribe())
    }
}
