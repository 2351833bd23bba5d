//! A connection as the hub sees it, and the end of its session.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Applied, Hub, Mailbox, Unavailable};
use crate::panics::caught;
use crate::presence::{Event, EventKind, Policy, UserId};

/// The first and the longest delay between retries of a session's end on a store that failed.
const END_RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// The grace of a page whose close could not be stored (T3): it could not come back meanwhile, and tries again
/// only now and then.
const GRACE_AFTER_OUTAGE: Duration = Duration::from_secs(20);

/// A connection in the registry; dropping it removes it and all its subscriptions.
pub struct Connection {
    pub(super) hub: Arc<Hub>,
    pub(super) mailbox: Arc<Mailbox>,
    /// A drain waits until this is dropped.
    pub(super) _unfinished: TaskTrackerToken,
}

impl Connection {
    /// The mailbox of the connection.
    pub const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The hub of the connection.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Applies an event that comes from this connection, like [`Hub::apply`].
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn apply(&self, user: &UserId, kind: EventKind) -> Result<Applied, Unavailable> {
        let event = Event { id: self.hub.new_event(), kind };
        let policy = self.hub.policy();
        self.hub.apply_event(user, &event, Some(&self.mailbox), &policy, |_| ()).await
    }
}

impl Hub {
    /// The policy for the end of a session that the store could not take at first.
    fn policy_after_outage(&self) -> Arc<Policy> {
        let mut policy = self.policy();
        let grace = policy.windows.web_close_grace;
        if !grace.is_zero() && grace < GRACE_AFTER_OUTAGE {
            Arc::make_mut(&mut policy).windows.web_close_grace = GRACE_AFTER_OUTAGE;
        }
        policy
    }

    /// Ends the session of a connection in a background task, which retries until the store commits it.
    /// The end has no effect if the session was resumed on another connection meanwhile.
    pub fn end_session(self: &Arc<Self>, user: UserId, kind: EventKind, left: Arc<Mailbox>) {
        let hub = Arc::clone(self);
        let event = Event { id: self.new_event(), kind };
        // Before the connection leaves the registry: a session that is in neither would be ended as a ghost.
        self.ending.lock().insert(left.id().serial);
        self.unfinished.spawn(async move {
            let [mut pause, longest] = END_RETRY;
            let mut policy = hub.policy();
            loop {
                // Without a retry the user would stay Online forever.
                match caught(hub.apply_event(&user, &event, Some(&left), &policy, |_| ())).await {
                    Ok(Ok(_)) => break,
                    // The session is another node's now.
                    Ok(Err(error)) if error.is_retired() => break,
                    Ok(Err(error)) => {
                        let what = "cannot store the end of a session, retrying";
                        hub.store_failed(what, &error, Some(&user));
                        policy = hub.policy_after_outage();
                    }
                    Err(panic) => {
                        tracing::error!(user = user.as_str(), %panic, "end of a session panicked, retrying");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            hub.ending.lock().remove(&left.id().serial);
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.unwatch_all();
        self.hub.registry.remove(self.mailbox.id());
        self.hub.metrics.connections.dec();
    }
}
