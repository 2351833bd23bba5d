//! Applies events to users: the one place that calls the rules and commits what they decide.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::{Mutex, MutexGuard};

use super::{Hub, Mailbox, Unavailable};
use crate::presence::{
    Answer, Cause, Event, EventId, EventKind, Link, Moment, Outcome, Policy, Record, Timestamp,
    UserId, step,
};
use crate::store::{Commit, StoreError};

/// How many lanes there are: users share them by hash, at the cost of a wait now and then.
const LANES: usize = 4096;
/// How often a step is decided again after a lost race before the caller hears of it.
const COMMIT_ATTEMPTS_MAX: u32 = 64;

/// What became of an event.
#[derive(Debug, Clone)]
pub struct Processed {
    /// What its sender is told.
    pub answer: Answer,
    /// The user's record after it.
    pub record: Arc<Record>,
}

/// The locks that make one user's events go one after another: the only ones that are held over an
/// await, on purpose.
pub(super) struct Lanes {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Lanes {
    fn default() -> Self {
        let locks = (0..LANES).map(|_| Mutex::new(())).collect();
        Self { locks, hasher: RandomState::new() }
    }
}

impl Lanes {
    async fn lock(&self, user: &UserId) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(user);
        let lane = usize::try_from(hash % LANES as u64).unwrap_or_default();
        self.locks[lane].lock().await
    }
}

impl Hub {
    /// Applies an event to a user; what follows from it has been done, on this node, on return.
    ///
    /// # Errors
    ///
    /// Where the store did not take it; then nobody was told anything.
    pub async fn apply(&self, user: &UserId, kind: EventKind) -> Result<Processed, Unavailable> {
        self.apply_then(user, kind, |_| ()).await
    }

    /// As [`apply`](Self::apply), and does something more before the user's next event: so a login
    /// is answered before whatever ends it is told.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_then(
        &self,
        user: &UserId,
        kind: EventKind,
        then: impl FnOnce(&Processed),
    ) -> Result<Processed, Unavailable> {
        let event = Event { id: EventId(rand::random()), kind };
        self.apply_event(user, &event, None, then).await
    }

    pub(super) async fn apply_event(
        &self,
        user: &UserId,
        event: &Event,
        from: Option<&Mailbox>,
        then: impl FnOnce(&Processed),
    ) -> Result<Processed, Unavailable> {
        let _lane = self.lanes.lock(user).await;
        let policy = self.policy();
        let (mut attempts, mut is_sent_again) = (0, false);
        loop {
            let failed = |cause| Unavailable { cause, is_in_doubt: is_sent_again };
            let stored = match self.load_for(user, &event.kind).await {
                Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                    attempts += 1;
                    continue;
                }
                loaded => loaded.map_err(failed)?,
            };
            let outcome = self.decide(&stored.record, event, &policy, from);
            let record = to_store(outcome.record);
            let due = record.due(&policy);
            let reasons: SmallVec<[_; 1]> =
                outcome.transitions.iter().map(|t| (t.cause, t.evidence.deadline)).collect();
            // Another policy may make the same record due at another time.
            if record != stored.record || due != stored.due {
                let transitions = outcome.transitions;
                let sync = record.revoked != stored.record.revoked;
                let commit = Commit { record: Arc::clone(&record), due, transitions, sync };
                let begun = self.clock.instant();
                let committed = self.store.commit(user, stored.revision, commit).await;
                if let Err(StoreError::Unavailable { .. }) = committed {
                    self.metrics.commit_failures.inc();
                }
                match committed {
                    Ok(()) => self.metrics.committed(self.clock.instant() - begun),
                    Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                        attempts += 1;
                        continue;
                    }
                    // The answer may be lost and the commit not: then the record holds the event.
                    Err(StoreError::Unavailable { .. }) if !is_sent_again => {
                        is_sent_again = true;
                        continue;
                    }
                    Err(cause) => return Err(failed(cause)),
                }
            } else if is_sent_again {
                // It was written, and its answer may be that it cannot be relied on.
                self.store.check().await.map_err(failed)?;
            }
            // From here to the end nothing waits: what was committed is told whoever gives up.
            self.count(&reasons);
            let applied = Processed { answer: outcome.answer, record };
            self.end_all(&outcome.effects);
            then(&applied);
            if outcome.effects.announce {
                self.tell(user, applied.record.status());
            }
            return Ok(applied);
        }
    }

    /// What the rules make of an event now.
    pub(super) fn decide(
        &self,
        record: &Record,
        event: &Event,
        policy: &Policy,
        from: Option<&Mailbox>,
    ) -> Outcome {
        step(record, event, policy, &self.moment(record, from))
    }

    /// The present, with what is known of the user's connections here; the one that an event comes
    /// from may have given up its place already.
    fn moment(&self, record: &Record, from: Option<&Mailbox>) -> Moment {
        let connected = record.terminals.iter().filter(|t| t.link == Link::Connected);
        let others = connected.filter(|t| from.is_none_or(|from| from.id() != t.connection));
        let here = others.filter_map(|terminal| self.registry.get(terminal.connection));
        let heard = here.map(|mailbox| (mailbox.id(), mailbox.heard()));
        let heard = heard.chain(from.map(|from| (from.id(), from.heard())));
        let heard = heard.map(|(id, at)| (id, self.clock.shown(at))).collect();
        let (now, stalls) = self.clock.present();
        Moment { now, wall: self.clock.shown(now), stalls, heard }
    }

    /// Counts transitions by their causes, and how late those were that a deadline brought.
    pub(super) fn count(&self, reasons: &[(Cause, Option<Timestamp>)]) {
        for (cause, deadline) in reasons {
            self.metrics.logged(*cause);
            if let Some(deadline) = *deadline {
                let late = self.clock.wall() - deadline;
                self.metrics.lateness.observe(late.as_secs_f64());
            }
        }
    }
}

/// A record as it is stored. There is one for each user, and most stay as they are for long: it keeps
/// no room to grow.
pub(super) fn to_store(mut record: Record) -> Arc<Record> {
    record.terminals.shrink_to_fit();
    record.ended.shrink_to_fit();
    record.recent.shrink_to_fit();
    Arc::new(record)
}
