//! Replaces damaged records, so that a damaged record blocks no other user.

use std::sync::Arc;

use super::apply::to_store;
use super::{Hub, Unavailable};
use crate::presence::{
    Event, EventKind, Record, Rescued, State, Status, Timestamp, Transition, UserId,
};
use crate::store::{Commit, HistoryPart, Revision, StoreError, Stored};
use crate::wire::Close;

/// How many of a user's latest log entries are searched for a readable one.
const ENTRIES_MAX: usize = 10;

impl Hub {
    /// Loads a user's record for an event, and replaces it first if it is damaged. A tick replaces it
    /// only after the longest silence window: until then its sessions may still be alive.
    pub(super) async fn load_for(
        &self,
        user: &UserId,
        kind: &EventKind,
    ) -> Result<Stored, StoreError> {
        let loaded = self.store.load(user).await;
        let Err(StoreError::Damaged { revision, rescued }) = &loaded else { return loaded };
        let may_replace = match kind {
            EventKind::Tick => self.is_replaceable(user),
            EventKind::NodeLost { .. } => false,
            EventKind::Login(_)
            | EventKind::Logout(_)
            | EventKind::Closed { .. }
            | EventKind::Unanswered { .. }
            | EventKind::Silent { .. }
            | EventKind::Background { .. }
            | EventKind::Foreground(_)
            | EventKind::Idle { .. }
            | EventKind::Active(_)
            | EventKind::Refresh { .. }
            | EventKind::Set { .. }
            | EventKind::Visibility { .. }
            | EventKind::Erase
            | EventKind::Kick { .. }
            | EventKind::Recovered { .. }
            | EventKind::Recall { .. } => true,
        };
        if !may_replace {
            self.note_damaged(user);
            return loaded;
        }
        self.replace_damaged(user, *revision, rescued.clone()).await?;
        self.store.load(user).await
    }

    /// Replaces a damaged record with a new one: `Offline` until the next login, with a version above
    /// every version in the log.
    async fn replace_damaged(
        &self,
        user: &UserId,
        revision: Revision,
        rescued: Rescued,
    ) -> Result<(), StoreError> {
        let last = self.last_logged(user).await?;
        let (was, version) = last.map_or((State::Offline, 0), |last| (last.to, last.version));
        let sync = rescued.revoked.is_some();
        let kind = EventKind::Recovered { was, version, rescued };
        let event = Event { id: self.new_event(), kind };
        let (nothing, policy) = (Record::default(), self.policy());
        let outcome = self.decide(&nothing, &event, &policy, None);
        let record = to_store(outcome.record);
        let causes: Vec<_> = outcome.transitions.iter().map(|t| (t.cause, None)).collect();
        let notices =
            self.notices(user, [&nothing, &record], &outcome.effects, &outcome.transitions);
        let message = self.message(user, &outcome.effects, &outcome.transitions, &notices);
        let commit = Commit {
            node: self.node,
            record: Arc::clone(&record),
            wall_deadline: record.wall_deadline(&policy),
            transitions: outcome.transitions,
            sync,
            message,
        };
        self.store.commit(user, &Stored::damaged(revision), commit).await?;
        self.damaged.lock().remove(user);
        tracing::warn!(
            user = user.as_str(),
            was = was.name(),
            "damaged record replaced; the user is Offline"
        );
        self.count(&causes);
        // The new record knows none of the user's sessions: their clients must log in again.
        for mailbox in self.registry.all().iter().filter(|mailbox| mailbox.user() == Some(user)) {
            mailbox.end(Close::Unavailable, None);
        }
        self.tell_watchers(user, &notices);
        Ok(())
    }

    /// The last readable entry of a user in the log.
    async fn last_logged(&self, user: &UserId) -> Result<Option<Transition>, StoreError> {
        let entries = self.store.history(user, HistoryPart::Before(None), ENTRIES_MAX).await?;
        Ok(entries.iter().find_map(|entry| entry.transition().ok()))
    }

    /// The status that watchers see while a user's record is damaged: the last one in the log.
    pub(super) async fn last_logged_status(&self, user: &UserId) -> Result<Status, Unavailable> {
        let last = self.last_logged(user).await?;
        // Whom the user blocks is not known here.
        Ok(last.map(|last| last.status).filter(|status| !status.hidden).unwrap_or_default())
    }

    /// Notes a damaged record and the time from which a tick may replace it.
    pub(super) fn note_damaged(&self, user: &UserId) {
        let until = self.clock.running() + self.policy().windows.longest_silence();
        self.damaged.lock().entry(user.clone()).or_insert(until);
    }

    /// The users whose damaged records a tick may replace now.
    pub(super) fn replaceable_users(&self) -> Vec<UserId> {
        let running = self.clock.running();
        let damaged = self.damaged.lock();
        let over = damaged.iter().filter(|(_, until): &(_, &Timestamp)| **until <= running);
        over.map(|(user, _)| user.clone()).collect()
    }

    pub(super) fn damaged_users(&self) -> usize {
        self.damaged.lock().len()
    }

    fn is_replaceable(&self, user: &UserId) -> bool {
        self.damaged.lock().get(user).is_some_and(|until| *until <= self.clock.running())
    }

    /// Whether a user's record is damaged, and a tick may not replace it yet.
    pub(super) fn awaits_replacement(&self, user: &UserId) -> bool {
        self.damaged.lock().get(user).is_some_and(|until| *until > self.clock.running())
    }
}
