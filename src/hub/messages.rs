//! Handles messages from other nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::store::{Message, Part, Received};

/// How often the parts are compared for which the store failed.
const AGAIN_EVERY: Duration = Duration::from_secs(1);

impl Hub {
    /// Handles the messages of other nodes. Never returns.
    pub async fn listen(self: Arc<Self>) {
        let mut subscription = self.store.listen(self.node);
        // This task may have been restarted, and have missed messages.
        let mut missed = BTreeSet::from([Part::ALL]);
        let (mut failed, mut reconciling) = (BTreeSet::new(), FuturesUnordered::new());
        let mut again = interval(AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if reconciling.is_empty()
                && let Some(part) = missed.pop_first()
            {
                reconciling.push(self.reconcile(part).map(move |is_done| (part, is_done)));
            }
            // Messages are handled meanwhile: their queue is bounded.
            tokio::select! {
                biased;
                received = subscription.next() => match received {
                    Received::Message(message) => self.handle(&message),
                    Received::Missed(part) => drop(missed.insert(part)),
                },
                Some((part, is_done)) = reconciling.next() => {
                    if !is_done {
                        failed.insert(part);
                    }
                }
                _ = again.tick() => {
                    missed.append(&mut failed);
                    missed.append(&mut self.doubts.lock());
                }
            }
        }
    }

    fn handle(&self, message: &Message) {
        let Message { user, status, ends, kick, is_recovered } = message;
        for end in ends {
            self.end(end, kick.as_ref());
        }
        if let Some(status) = status {
            if let Some(ledger) = &self.ledger {
                ledger.heard(user, status.version, self.clock.now());
            }
            self.push_status(user, status);
        }
        if *is_recovered {
            self.note_doubt(user);
        }
    }
}
