//! Hands what the feed receives to the node's subscriptions.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use futures::stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{Message, Part, Received, Subscription};

/// The maximum number of messages that a subscription has not taken.
const PENDING_MAX: usize = 1024;

/// The open subscriptions of this node.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Weak<Queue>>>);

/// What one subscription has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<Pending>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    messages: VecDeque<Arc<Message>>,
    /// The parts of which something was missed. Messages about them are not queued: they are read again.
    missed: BTreeSet<Part>,
}

impl Listeners {
    pub(super) fn subscribe(&self) -> Subscription {
        let queue = Arc::new(Queue::default());
        self.0.lock().push(Arc::downgrade(&queue));
        Subscription::of(stream::unfold(queue, |queue| async move {
            let received = queue.next().await;
            Some((received, queue))
        }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().iter().all(|queue| queue.strong_count() == 0)
    }

    /// Queues a message about a user of a part.
    pub(super) fn tell(&self, part: Part, message: &Arc<Message>) {
        self.each(|pending| {
            if pending.missed.contains(&part) {
                return;
            }
            if pending.messages.len() == PENDING_MAX {
                pending.missed.insert(part);
            } else {
                pending.messages.push_back(Arc::clone(message));
            }
        });
    }

    /// Queues that messages about users of a part were missed.
    pub(super) fn missed(&self, part: Part) {
        self.each(|pending| {
            pending.missed.insert(part);
        });
    }

    fn each(&self, add: impl Fn(&mut Pending)) {
        self.0.lock().retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            add(&mut queue.pending.lock());
            queue.added.notify_one();
            true
        });
    }
}

impl Queue {
    async fn next(&self) -> Received {
        loop {
            if let Some(received) = self.pending.lock().pop() {
                return received;
            }
            self.added.notified().await;
        }
    }
}

impl Pending {
    fn pop(&mut self) -> Option<Received> {
        let message = self.messages.pop_front().map(Received::Message);
        message.or_else(|| self.missed.pop_first().map(Received::Missed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::{Listeners, PENDING_MAX};
    use crate::store::{Message, Part, Received};

    #[test]
    fn what_does_not_fit_in_the_queue_is_missed() {
        let (listeners, part) = (Listeners::default(), Part::new(3, 64));
        let mut subscription = listeners.subscribe();
        let user = "ana".parse().expect("a user");
        let message = Arc::new(Message::about(user));
        for _ in 0..PENDING_MAX + 10 {
            listeners.tell(part, &message);
        }
        for _ in 0..PENDING_MAX {
            let Some(Received::Message(_)) = subscription.next().now_or_never() else {
                panic!("the queue holds {PENDING_MAX} messages")
            };
        }
        let Some(Received::Missed(missed)) = subscription.next().now_or_never() else {
            panic!("the rest was missed")
        };
        assert_eq!(missed, part);
        assert!(subscription.next().now_or_never().is_none());
        listeners.tell(part, &message);
        assert!(subscription.next().now_or_never().is_some(), "it goes on");
        drop(subscription);
        assert!(listeners.is_empty());
    }
}
