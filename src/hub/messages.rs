//! Handles messages from other nodes.

use std::sync::Arc;

use super::{Hub, Mailbox};
use crate::bus::{Message, Received};
use crate::presence::Record;
use crate::wire::Close;

impl Hub {
    /// Handles messages from other nodes until the bus is closed.
    pub async fn listen(self: Arc<Self>) {
        let mut subscriber = self.bus.subscribe();
        loop {
            match subscriber.next().await {
                Received::Message(from, _) if from == self.node => (),
                Received::Message(_, Message::Status { user, status }) => {
                    self.push_status(&user, &status);
                }
                Received::Message(_, Message::End { end, kick }) => self.end(&end, kick.as_ref()),
                Received::Missed => self.catch_up().await,
                Received::Closed => return,
            }
        }
    }

    /// After missed messages: reads all users who are watched or logged in on this node again.
    async fn catch_up(&self) {
        for user in self.watchers.all() {
            match self.status(&user).await {
                Ok(status) => self.push_status(&user, &status),
                Err(error) => self.store_failed("cannot read a watched user", &error, Some(&user)),
            }
        }
        for mailbox in self.registry.all() {
            let Some(user) = mailbox.user() else { continue };
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
