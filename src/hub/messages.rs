//! Handles messages from other nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::Hub;
use crate::store::{Message, Part, Received};

impl Hub {
    /// Handles the messages of other nodes. Never returns.
    pub async fn listen(self: Arc<Self>) {
        let mut subscription = self.store.listen(self.node);
        // This task may have been restarted, and have missed messages.
        let mut missed = BTreeSet::from([Part::ALL]);
        let mut reconciling = FuturesUnordered::new();
        loop {
            if reconciling.is_empty()
                && let Some(part) = missed.pop_first()
            {
                reconciling.push(self.reconcile(part));
            }
            // Messages are handled meanwhile: their queue is bounded.
            tokio::select! {
                biased;
                received = subscription.next() => match received {
                    Received::Message(message) => self.handle(&message),
                    Received::Missed(part) => drop(missed.insert(part)),
                },
                Some(()) = reconciling.next() => (),
            }
        }
    }

    fn handle(&self, message: &Message) {
        let Message { user, status, ends, kick } = message;
        for end in ends {
            self.end(end, kick.as_ref());
        }
        if let Some(status) = status {
            if let Some(ledger) = &self.ledger {
                ledger.heard(user, status.version, self.clock.now());
            }
            self.push_status(user, status);
        }
    }
}
