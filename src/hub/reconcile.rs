//! Compares what this node knows with the store: after missed messages, and after the store may have lost
//! commits.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::ledger::Remembered;
use super::{Hub, Mailbox, Unavailable};
use crate::presence::{
    Audience, Edition, Event, EventKind, Link, LostCommit, Notice, Origin, Record, UserId,
};
use crate::store::{Part, Stored};
use crate::wire::Close;

/// How many users are compared at once.
const AT_ONCE: usize = 64;
/// How many users are listed at once.
const LISTED_AT_ONCE: usize = 1024;
/// How long a node that only heard of a lost commit waits before it raises the version. The node that made the
/// commit knows the record, and can restore it only while the store's version is less. It may reach the server
/// later than this node, by some timeouts and retries.
const AFTER_ITS_NODE: Duration = Duration::from_secs(5);

/// Into how many parts the users are split for [`Hub::note_doubt`], and how many of these are compared one by one.
const DOUBT_PARTS: u32 = 4096;
const DOUBTS_MAX: usize = 16;

/// What came of comparing a part.
pub(super) struct Compared {
    /// Whether all was compared. If the store failed, the caller repeats it.
    pub(super) is_done: bool,
    /// The users of whom this node has heard a version, but may not know the record.
    pub(super) heard: BTreeSet<UserId>,
}

/// What came of an act for each of several users.
struct Each {
    /// The users for whom it answered `true`.
    users: Vec<UserId>,
    /// Whether the store did not fail.
    is_done: bool,
}

impl Hub {
    /// Compares what this node knows of the users of a part with the store.
    ///
    /// 1. What the store lost of this node's own commits is committed again.
    /// 2. A session that the store holds on a connection which this node does not have is ended.
    /// 3. A session here that the store does not know is ended for the reason that was missed, or is logged in
    ///    again on its connection.
    ///    A session that watches by its user's watch list follows the list as it is now.
    /// 4. Watchers are told the present statuses.
    ///
    /// [`restore_heard`](Self::restore_heard) must follow.
    pub(super) async fn reconcile(&self, part: Part) -> Compared {
        let mut is_done = true;
        if let Some(ledger) = &self.ledger {
            let own = ledger.own(part, self.clock.now());
            is_done &= self.each(own, |hub, user| hub.recall_lost(user).boxed()).await.is_done;
            is_done &= self.end_ghosts(part).await;
        }
        is_done &= self.check_sessions(part).await;
        let watched = self.watchers.all().into_iter().filter(|user| part.has(user)).collect();
        let told = self.each(watched, |hub, user| hub.tell_present(user).boxed()).await;
        let heard = self.ledger.as_ref().map(|ledger| ledger.all(part, self.clock.now()));
        let heard = told.users.into_iter().chain(heard.unwrap_or_default()).collect();
        Compared { is_done: is_done & told.is_done, heard }
    }

    /// Raises the versions of users of a part above those that this node heard of, where the store has lost them
    /// and the node that committed them has not restored them for a while. Returns whether the store did not fail.
    pub(super) async fn restore_heard(&self, part: Part, users: BTreeSet<UserId>) -> bool {
        tokio::time::sleep(AFTER_ITS_NODE).await;
        let users = users.into_iter().collect();
        let is_done = self.each(users, |hub, user| hub.recall_heard(user).boxed()).await.is_done;
        // A late message may have closed a connection after its session was restored.
        is_done & (self.ledger.is_none() || self.end_ghosts(part).await)
    }

    /// Does something for each user, some at once, and logs what fails.
    async fn each(
        &self,
        users: Vec<UserId>,
        act: for<'a> fn(&'a Self, &'a UserId) -> BoxFuture<'a, Result<bool, Unavailable>>,
    ) -> Each {
        let acts = users.into_iter().map(|user| async move {
            let acted = act(self, &user).await;
            (user, acted)
        });
        let mut acted = stream::iter(acts.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut each = Each { users: Vec::new(), is_done: true };
        while let Some((user, acted)) = acted.next().await {
            match acted {
                Ok(true) => each.users.push(user),
                Ok(false) => (),
                Err(error) => each.is_done &= self.is_damage(&error, &user),
            }
        }
        each
    }

    /// Has a user compared with the store: a commit may have been written although it failed, so its effects on this
    /// node were not done; another node has recovered the record, which may lack sessions of this node; or a
    /// session that the store has lost could not be logged in again.
    pub fn note_doubt(&self, user: &UserId) {
        let mut doubts = self.doubts.lock();
        doubts.insert(Part::of_user(user, DOUBT_PARTS));
        if doubts.len() > DOUBTS_MAX {
            *doubts = BTreeSet::from([Part::ALL]);
        }
    }

    /// Whether a user cannot be compared because the record is damaged; logs another failure.
    fn is_damage(&self, error: &Unavailable, user: &UserId) -> bool {
        if !error.is_damage() {
            self.store_failed("cannot compare a user with the store", error, Some(user));
        }
        error.is_damage()
    }

    /// The event that must come before another one, because the store has lost what this node knows of the
    /// user: a version must never be less than one that somebody has seen (V2).
    pub(super) fn recall_before(
        &self,
        user: &UserId,
        stored: &Stored,
        event: &Event,
    ) -> Option<Event> {
        if matches!(event.kind, EventKind::Recall { .. }) {
            return None;
        }
        let lost = self.lost(user, stored.record.edition())?;
        Some(Event { id: self.new_event(), kind: lost.recall() })
    }

    /// What this node knows of a user beyond what is stored.
    fn lost(&self, user: &UserId, stored: Edition) -> Option<Remembered> {
        self.ledger.as_ref()?.beyond(user, stored, self.clock.now())
    }

    /// Commits again what the store lost of a user, if this node knows the record.
    async fn recall_lost(&self, user: &UserId) -> Result<bool, Unavailable> {
        let stored = self.record(user).await?;
        let lost = self.lost(user, stored.edition());
        if let Some(lost) = lost.filter(Remembered::is_own) {
            self.apply(user, lost.recall()).await?;
        }
        Ok(false)
    }

    /// Raises the version of a user above the greatest that this node or one of its watchers knows.
    async fn recall_heard(&self, user: &UserId) -> Result<bool, Unavailable> {
        let stored = self.record(user).await?.edition();
        let seen = self.watchers.get(user).map(|watched| watched.seen()).unwrap_or_default();
        let lost = self.lost(user, stored).filter(|lost| lost.edition.version >= seen);
        if let Some(lost) = lost {
            self.apply(user, lost.recall()).await?;
        } else if seen > stored.version {
            self.apply(user, EventKind::Recall { version: seen, lost: LostCommit::Version })
                .await?;
        }
        Ok(false)
    }

    /// Pushes a user's present status to its watchers; returns whether they have seen a newer one.
    async fn tell_present(&self, user: &UserId) -> Result<bool, Unavailable> {
        let version = match self.record(user).await {
            Ok(record) => {
                let (policy, wall) = (self.policy(), self.clock.wall());
                self.tell_watchers(user, &Notice::present(user, &record, &policy, wall));
                record.version
            }
            Err(error) if error.is_damage() => {
                let status = self.last_logged_status(user).await?;
                let version = status.version;
                self.tell_watchers(user, &[Notice { status, to: Audience::Everyone }]);
                version
            }
            Err(error) => return Err(error),
        };
        let seen = self.watchers.get(user).map(|watched| watched.seen());
        Ok(seen.is_some_and(|seen| seen > version))
    }

    /// Ends the sessions of a part that the store holds on connections which this node does not have.
    async fn end_ghosts(&self, part: Part) -> bool {
        let (mut after, mut is_done) = (None, true);
        // A drain leaves its sessions to the next node (T11).
        while !self.is_draining() {
            let listed = self.store.held(self.node, part, after.as_ref(), LISTED_AT_ONCE).await;
            let users = match listed {
                Ok(users) => users,
                Err(error) => {
                    self.store_failed("cannot list this node's sessions", &error.into(), None);
                    return false;
                }
            };
            let Some((last, _)) = users.last() else { return is_done };
            after = Some(last.clone());
            let readable =
                users.into_iter().filter_map(|(user, record)| Some((user, record.ok()?)));
            let haunted: Vec<_> = readable
                .flat_map(|(user, record)| self.ghosts(&record).map(move |it| (user.clone(), it)))
                .collect();
            for (user, origin) in haunted {
                let closed = EventKind::Closed { origin, close_code: None };
                if let Err(error) = self.apply(&user, closed).await {
                    is_done &= self.is_damage(&error, &user);
                }
            }
        }
        is_done
    }

    /// The sessions of a record on connections of this node that are gone, and whose end is not under way.
    fn ghosts(&self, record: &Record) -> impl Iterator<Item = Origin> + use<> {
        let here = record.terminals.iter().filter(|terminal| {
            let connection = terminal.connection;
            terminal.link == Link::Connected
                && connection.node == self.node
                && self.registry.get(connection).is_none()
                && !self.ending.lock().contains(&connection.serial)
        });
        let origins = here.map(|it| Origin { session: it.session, connection: it.connection });
        origins.collect::<Vec<_>>().into_iter()
    }

    /// Ends the connections of a part whose sessions have ended or moved, and has the sessions that the store
    /// lost logged in again.
    async fn check_sessions(&self, part: Part) -> bool {
        let sessions = self.registry.all().into_iter().filter_map(|mailbox| {
            let user = mailbox.user().filter(|user| part.has(user))?.clone();
            Some((user, mailbox))
        });
        let checks = sessions.map(|(user, mailbox)| async move {
            match self.record(&user).await {
                Ok(record) => {
                    self.note_visibility(&user, &record);
                    self.check_session(&mailbox, &record);
                    let is_unknown = record.version == 0;
                    self.follow_list_after(&mailbox, is_unknown).await;
                    true
                }
                Err(error) => self.is_damage(&error, &user),
            }
        });
        let mut checked = stream::iter(checks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut is_done = true;
        while let Some(is_checked) = checked.next().await {
            is_done &= is_checked;
        }
        is_done
    }

    /// Notes who may not see a user, unless the store has lost the user.
    pub(super) fn note_visibility(&self, user: &UserId, record: &Record) {
        if let Some(ledger) = self.ledger.as_ref().filter(|_| record.version > 0) {
            ledger.note_visibility(user, record, self.node);
        }
    }

    fn check_session(&self, mailbox: &Mailbox, record: &Record) {
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
            // Its actor knows the session. If it lives elsewhere or was replaced, the login is refused.
            None if self.ledger.is_some() => mailbox.forgotten(),
            // The reason is unknown. The client resumes and then gets the right error.
            None => mailbox.end(Close::Unavailable, None),
        }
    }
}
