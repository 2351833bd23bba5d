//! Handles messages from other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::presence::UserId;
use crate::store::{Message, Part, Received};

/// How often another part of the users is compared with the store, and parts for which the store failed.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

impl Hub {
    /// Handles the messages of other nodes. Never returns.
    ///
    /// Where the store may lose commits, it also compares one part of the users after another with the store:
    /// so whatever went wrong unnoticed is right after some minutes.
    pub async fn listen(self: Arc<Self>) {
        let this = &self;
        let mut subscription = self.store.listen(self.node);
        // This task may have been restarted, and have missed messages.
        let mut missed = BTreeSet::from([Part::ALL]);
        let (mut reconciling, mut under_way) = (FuturesUnordered::new(), BTreeSet::new());
        let (mut restoring, mut are_restored) = (FuturesUnordered::new(), BTreeSet::new());
        let (mut failed, mut heard) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
        let mut swept = self.store.parts().into_iter().cycle();
        let mut ticks = interval(COMPARE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A part that is missed while it is compared is compared again afterwards.
            for part in missed.extract_if(.., |part| under_way.insert(*part)) {
                reconciling.push(async move { (part, this.reconcile(part).await) });
            }
            for (part, users) in heard.extract_if(.., |part, _| are_restored.insert(*part)) {
                restoring.push(async move { (part, this.restore_heard(part, users).await) });
            }
            // Messages are handled meanwhile: their queue is bounded.
            tokio::select! {
                biased;
                received = subscription.next() => match received {
                    Received::Message(message) => self.handle(&message),
                    Received::Missed(part) => {
                        self.missed.fetch_add(1, Ordering::Relaxed);
                        missed.insert(part);
                    }
                },
                Some((part, compared)) = reconciling.next() => {
                    under_way.remove(&part);
                    if !compared.is_done {
                        failed.insert(part);
                    }
                    if !compared.heard.is_empty() {
                        heard.entry(part).or_default().extend(compared.heard);
                    }
                }
                Some((part, is_done)) = restoring.next() => {
                    are_restored.remove(&part);
                    if !is_done {
                        failed.insert(part);
                    }
                }
                _ = ticks.tick() => {
                    missed.append(&mut failed);
                    missed.append(&mut self.doubts.lock());
                    missed.extend(swept.next().filter(|_| self.ledger.is_some()));
                }
            }
        }
    }

    /// Notes who may not see a user now that another node has changed it.
    async fn learn_visibility(&self, user: &UserId) {
        match self.record(user).await {
            Ok(record) => self.note_visibility(user, &record),
            Err(error) if error.is_damage() => (),
            Err(error) => {
                self.store_failed(
                    "cannot read who may not see a user, retrying",
                    &error,
                    Some(user),
                );
                self.note_doubt(user);
            }
        }
    }

    fn handle(self: &Arc<Self>, message: &Arc<Message>) {
        let Message { user, notices, ends, is_recovered, visibility, watch_list, .. } = &**message;
        if let Some(ledger) = &self.ledger {
            ledger.heard(user, notices, self.clock.now());
            if *visibility || !ends.is_empty() && ledger.has_visibility(user) {
                let (hub, user) = (Arc::clone(self), user.clone());
                tokio::spawn(async move { hub.learn_visibility(&user).await });
            }
        }
        self.tell_watchers(user, notices);
        if *watch_list {
            let (hub, user) = (Arc::clone(self), user.clone());
            tokio::spawn(async move { hub.follow_watch_list(&user).await });
        }
        if *is_recovered {
            self.note_doubt(user);
        }
        if ends.is_empty() {
            return;
        }
        let (hub, message) = (Arc::clone(self), Arc::clone(message));
        // In the user's lane: the session may have begun with a commit whose answer is not here yet, and the
        // client must get the answer to its login first.
        tokio::spawn(async move {
            let _lane = hub.lanes.lock(&message.user).await;
            for end in &message.ends {
                hub.end(end, message.kick.as_ref());
            }
        });
    }
}
