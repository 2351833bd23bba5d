//! Applies events to users: the only place that calls the rules and commits their outcome.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{Mutex, MutexGuard};

use super::random::KeyedHash;
use super::{Hub, Mailbox, Unavailable};
use crate::presence::{
    Answer, Cause, Event, EventKind, Intent, Link, Moment, Outcome, Policy, Record, Timestamp,
    UserId, step,
};
use crate::store::{Commit, StoreError, Stored};

/// The number of lanes. Users share them by hash, so two users rarely wait for each other.
pub(super) const LANES: usize = 4096;
/// The number of lanes in which sessions follow their users' watch lists.
pub(super) const LIST_LANES: usize = 64;
/// How often an event is retried after a revision conflict before the caller gets an error.
const COMMIT_ATTEMPTS_MAX: u32 = 64;
/// How long a resume may wait before its commit is sent: less than any client waits for the answer. Later, the
/// client may have resumed on another node, and this one would take the session from it.
pub const RESUME_PATIENCE: Duration = Duration::from_secs(4);

/// The result of an event.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The answer to the sender of the event.
    pub answer: Answer,
    /// The user's record after the event.
    pub record: Arc<Record>,
}

/// The locks under which one user's events are applied one after another, or one user's sessions follow the watch
/// list. They are the only locks that are held over an await.
pub(super) struct Lanes {
    locks: Vec<Mutex<()>>,
    hash: KeyedHash,
}

impl Lanes {
    pub(super) fn new(hash: KeyedHash, count: usize) -> Self {
        let locks = (0..count).map(|_| Mutex::new(())).collect();
        Self { locks, hash }
    }

    pub(super) async fn lock(&self, user: &UserId) -> MutexGuard<'_, ()> {
        let hash = self.hash.hash_one(user);
        let lane = usize::try_from(hash % self.locks.len() as u64).unwrap_or_default();
        self.locks[lane].lock().await
    }
}

impl Hub {
    /// Applies an event to a user. On return, its effects on this node are done.
    ///
    /// # Errors
    ///
    /// If the store fails. Then there were no effects, but the commit may have been written.
    pub async fn apply(&self, user: &UserId, kind: EventKind) -> Result<Applied, Unavailable> {
        self.apply_then(user, kind, |_| ()).await
    }

    /// Like [`apply`](Self::apply), but calls `then` before the user's next event. So a client gets the
    /// answer to its login before any message that ends the session.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_then(
        &self,
        user: &UserId,
        kind: EventKind,
        then: impl FnOnce(&Applied),
    ) -> Result<Applied, Unavailable> {
        let event = Event { id: self.new_event(), kind };
        self.apply_event(user, &event, None, &self.policy(), then).await
    }

    pub(super) async fn apply_event(
        &self,
        user: &UserId,
        event: &Event,
        from: Option<&Mailbox>,
        policy: &Policy,
        then: impl FnOnce(&Applied),
    ) -> Result<Applied, Unavailable> {
        let _lane = self.lanes.lock(user).await;
        let applied = self.apply_in_lane(user, event, from, policy, then).await;
        if applied.as_ref().is_err_and(|error| error.is_in_doubt) {
            self.note_doubt(user);
        }
        applied
    }

    async fn apply_in_lane(
        &self,
        user: &UserId,
        event: &Event,
        from: Option<&Mailbox>,
        policy: &Policy,
        then: impl FnOnce(&Applied),
    ) -> Result<Applied, Unavailable> {
        let (mut attempts, mut is_retried, mut is_at_risk) = (0, false, false);
        loop {
            // Also after a conflict: if a network delivers a commit twice, the second one meets the first.
            let is_in_doubt = is_retried || attempts > 0;
            let failed = |cause| Unavailable { cause, is_in_doubt };
            let stored = match self.load_in_time(user, event).await {
                Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                    attempts += 1;
                    continue;
                }
                loaded => loaded.map_err(failed)?,
            };
            // What the store has lost of the user comes first.
            let recall = self.recall_before(user, &stored, event);
            let outcome =
                self.decide(&stored.record, recall.as_ref().unwrap_or(event), policy, from);
            let record = to_store(outcome.record);
            let wall_deadline = record.wall_deadline(policy);
            let records = [&*stored.record, &*record];
            let notices = self.notices(user, records, &outcome.effects, &outcome.transitions);
            let message = self.message(user, &outcome.effects, &outcome.transitions, &notices);
            let reasons: SmallVec<[_; 1]> =
                outcome.transitions.iter().map(|t| (t.cause, t.evidence.deadline)).collect();
            // A new policy can change the deadline of an unchanged record.
            if record != stored.record || wall_deadline != stored.wall_deadline {
                let commit = Commit {
                    node: self.node,
                    record: Arc::clone(&record),
                    wall_deadline,
                    transitions: outcome.transitions,
                    sync: record.revoked != stored.record.revoked
                        || record.visibility != stored.record.visibility,
                    message,
                };
                let missed = self.missed.load(Ordering::Relaxed);
                let committed = self.commit(user, &stored, commit).await;
                is_at_risk |= self.missed.load(Ordering::Relaxed) != missed;
                match committed {
                    Ok(()) => (),
                    Err(StoreError::Conflict) if attempts < COMMIT_ATTEMPTS_MAX => {
                        attempts += 1;
                        continue;
                    }
                    // The commit may have succeeded. A retry is safe: the record then has the event.
                    Err(StoreError::Unavailable { .. }) if !is_retried => {
                        is_retried = true;
                        continue;
                    }
                    Err(cause) => {
                        self.note_retired(&cause);
                        return Err(failed(cause));
                    }
                }
            } else if is_retried {
                // The first commit was written, but the store may have lost the ability to keep it.
                self.store.check().await.map_err(failed)?;
            }
            self.remember(user, &stored.record, &record);
            // No await from here on: even if the caller is cancelled, the effects of the commit are done.
            self.count(&reasons);
            let applied = Applied { answer: outcome.answer, record };
            self.end_all(&outcome.effects);
            if recall.is_some() {
                self.tell_watchers(user, &notices);
                is_retried = false;
                continue;
            }
            then(&applied);
            self.tell_watchers(user, &notices);
            if is_at_risk {
                // The store may have lost this commit after it answered, and this node may have compared what it
                // knows with the store before the answer came.
                self.note_doubt(user);
            }
            return Ok(applied);
        }
    }

    async fn commit(&self, user: &UserId, base: &Stored, commit: Commit) -> Result<(), StoreError> {
        let begun = self.clock.instant();
        let committed = self.store.commit(user, base, commit).await;
        if committed.is_ok() {
            self.metrics.committed(self.clock.instant() - begun);
        } else if let Err(StoreError::Unavailable { .. }) = committed {
            self.metrics.commit_failures.inc();
        }
        committed
    }

    /// Loads a record for an event, unless it is a resume whose client may have given up.
    async fn load_in_time(&self, user: &UserId, event: &Event) -> Result<Stored, StoreError> {
        let stored = self.load_for(user, &event.kind).await?;
        match self.may_be_given_up(event) {
            true => Err(StoreError::Unavailable {
                cause: "the resume waited longer than a client may wait".to_owned(),
            }),
            false => Ok(stored),
        }
    }

    /// Whether the client of a resume may have given up. Its connection is not read meanwhile, so it was last heard
    /// when the resume came. A session that logs in again on its own connection has no client that waits.
    fn may_be_given_up(&self, event: &Event) -> bool {
        let EventKind::Login(login) = &event.kind else { return false };
        login.intent != Intent::New
            && self.registry.get(login.connection).is_some_and(|mailbox| {
                mailbox.user().is_none() && self.clock.now() - mailbox.heard() > RESUME_PATIENCE
            })
    }

    /// Remembers a committed record, in case the store loses it.
    fn remember(&self, user: &UserId, before: &Record, record: &Arc<Record>) {
        if let Some(ledger) = &self.ledger
            && record.edition() != before.edition()
        {
            ledger.committed(user, record, self.node, self.clock.now());
        }
    }

    pub(super) fn decide(
        &self,
        record: &Record,
        event: &Event,
        policy: &Policy,
        from: Option<&Mailbox>,
    ) -> Outcome {
        step(record, event, policy, &self.moment(record, from))
    }

    /// The present, with the time when each of the user's connections on this node was last heard; of those on
    /// dead nodes, what the record says. `from`, the connection that the event comes from, may have left the
    /// registry already.
    fn moment(&self, record: &Record, from: Option<&Mailbox>) -> Moment {
        let connected = record.terminals.iter().filter(|t| t.link == Link::Connected);
        let others = connected.filter(|t| from.is_none_or(|from| from.id() != t.connection));
        let here = others.filter_map(|terminal| self.registry.get(terminal.connection));
        let heard = here.map(|mailbox| (mailbox.id(), mailbox.heard()));
        let heard = heard.chain(from.map(|from| (from.id(), from.heard())));
        let mut heard: Vec<_> = heard.map(|(id, at)| (id, self.clock.to_wall(at))).collect();
        let lost = self.lost.borrow();
        for dead in lost.iter().flat_map(|lost| &**lost) {
            let theirs = record.terminals.iter().filter(|t| t.connection.node == dead.node);
            heard.extend(theirs.map(|terminal| (terminal.connection, terminal.heard)));
        }
        drop(lost);
        let (now, stalls) = self.clock.present();
        Moment { node: self.node, now, wall: self.clock.to_wall(now), stalls, heard }
    }

    /// Counts transitions by cause, and measures how late the deadlines were applied.
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

/// Frees a record's spare capacity: there is one record for each user, and most change rarely.
pub(super) fn to_store(mut record: Record) -> Arc<Record> {
    record.terminals.shrink_to_fit();
    record.ended.shrink_to_fit();
    record.recent.shrink_to_fit();
    Arc::new(record)
}
