use tokio::sync::broadcast;

use super::{Bus, Ear, Word};
use crate::presence::NodeId;

/// How much word waits for a slow node before it is told that it missed some.
const WORDS_MAX: usize = 1024;

/// Joins the nodes within one process: one as a rule, several in tests.
#[derive(Debug)]
pub struct LocalBus(broadcast::Sender<(NodeId, Word)>);

impl Default for LocalBus {
    fn default() -> Self {
        Self(broadcast::channel(WORDS_MAX).0)
    }
}

impl Bus for LocalBus {
    fn publish(&self, from: NodeId, word: Word) {
        // The one who speaks listens, too: with nobody else there, nothing is cloned or kept.
        if self.0.receiver_count() > 1 {
            self.0.send((from, word)).ok();
        }
    }

    fn listen(&self) -> Ear {
        Ear(self.0.subscribe())
    }
}
