//! Handles messages from other nodes.

use std::sync::Arc;

use super::{Hub, Mailbox};
use crate::presence::Record;
use crate::store::{Message, Part, Received};
use crate::wire::Close;

impl Hub {
    /// Handles the messages of other nodes. Never returns.
    pub async fn listen(self: Arc<Self>) {
        let mut subscription = self.store.listen(self.node);
        // This task may have been restarted, and have missed messages.
        self.catch_up(Part::ALL).await;
        loop {
            match subscription.next().await {
                Received::Message(message) => {
                    let Message { user, status, ends, kick } = &*message;
                    for end in ends {
                        self.end(end, kick.as_ref());
                    }
                    if let Some(status) = status {
                        self.push_status(user, status);
                    }
                }
                Received::Missed(part) => self.catch_up(part).await,
            }
        }
    }

    /// After missed messages: reads the users of a part who are watched or logged in on this node again.
    async fn catch_up(&self, part: Part) {
        for user in self.watchers.all().into_iter().filter(|user| part.has(user)) {
            match self.status(&user).await {
                Ok(status) => self.push_status(&user, &status),
                Err(error) => self.store_failed("cannot read a watched user", &error, Some(&user)),
            }
        }
        for mailbox in self.registry.all() {
            let Some(user) = mailbox.user().filter(|user| part.has(user)) else { continue };
            match self.record(user).await {
                Ok(record) => self.end_if_stale(&mailbox, &record),
                Err(error) => self.store_failed("cannot read a user", &error, Some(user)),
            }
        }
    }

    /// Ends a connection whose session has ended or moved, if the message about it was missed.
    fn end_if_stale(&self, mailbox: &Mailbox, record: &Record) {
        let connection = mailbox.id();
        if record.terminals.iter().any(|terminal| terminal.is_on(connection)) {
            return;
        }
        let missed = record.recent.iter().find_map(|applied| {
            let end = applied.effects.ends.iter().find(|end| end.connection == connection)?;
            Some((end, applied.effects.kick.as_deref()))
        });
        match missed {
            Some((end, kick)) => self.end(end, kick),
            // The reason is unknown. The client resumes and then gets the right error.
            None => mailbox.end(Close::Unavailable, None),
        }
    }
}
