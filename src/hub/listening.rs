//! What other nodes say.

use std::sync::Arc;

use super::{Ending, Hub, Mailbox};
use crate::bus::{Heard, Word};
use crate::presence::Record;
use crate::wire::Close;

/// What other nodes say, and what is done when some of it was missed.
impl Hub {
    /// Passes on what other nodes say, until the bus is gone.
    pub async fn listen(self: Arc<Self>) {
        let mut ear = self.bus.listen();
        loop {
            match ear.next().await {
                Heard::Word(from, _) if from == self.node => (),
                Heard::Word(_, Word::Status { user, status }) => self.announce(&user, &status),
                Heard::Word(_, Word::End { end, kick }) => self.end(&end, kick.as_ref()),
                Heard::Missed => self.catch_up().await,
                Heard::Silence => return,
            }
        }
    }

    /// Reads again everybody who is watched or logged in here, after word was missed.
    async fn catch_up(&self) {
        for user in self.watchers.all() {
            match self.status(&user).await {
                Ok(status) => self.announce(&user, &status),
                Err(error) => self.store_failed("cannot read a watched user", &error, Some(&user)),
            }
        }
        for mailbox in self.registry.all() {
            let Some(user) = mailbox.user() else { continue };
            match self.record(user).await {
                Ok(record) => self.end_if_astray(&mailbox, &record),
                Err(error) => self.store_failed("cannot read a user", &error, Some(user)),
            }
        }
    }

    /// Ends a connection whose session does not live on it any more, though nobody said so.
    fn end_if_astray(&self, mailbox: &Mailbox, record: &Record) {
        let connection = mailbox.id();
        if record.terminals.iter().any(|terminal| terminal.is_on(connection)) {
            return;
        }
        let said = record.recent.iter().find_map(|applied| {
            let end = applied.effects.ends.iter().find(|end| end.connection == connection)?;
            Some((end, applied.effects.kick.as_deref()))
        });
        match said {
            Some((end, kick)) => self.end(end, kick),
            // What became of the session, its resume will be told.
            None => mailbox.end(Ending { close: Close::Unavailable }, None),
        }
    }
}
