//! For development: moves the clock as if the machine had slept and then run on.
//!
//! ```text
//!   ask every client for a sign of life
//!   ┌▶ settle: timers of connections, ends of sessions, deadlines of users
//!   │    │ nothing is due now
//!   │    ▼
//!   └─ move the clock to what is due next, or to the end
//! ```
//!
//! So windows come due one after another, each at its own time. A client that answers counts as heard all
//! the time; otherwise seven days would take a ping every 20 s.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Hub, Mailbox, Unavailable};
use crate::presence::{ConnectionId, Timestamp};
use crate::wire::ping_frame;

/// The interval at which it is checked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long clients may take to answer. Who does not counts as silent since the last sign of life.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long clients may take to show a new token after they were told that theirs expires.
const TOKEN_MAX: Duration = Duration::from_secs(1);
/// How long connections may take to handle their timers, and the hub to store what follows.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// The moves of the clock.
#[derive(Default)]
pub(super) struct Advances {
    /// Held while the clock is moved: one call at a time.
    turn: tokio::sync::Mutex<()>,
    /// The connections that have handled the present move, by serial.
    noticed: Mutex<BTreeMap<u64, Noticed>>,
}

/// What a connection says after it has handled a move of the clock.
#[derive(Debug, Clone, Copy)]
pub struct Noticed {
    /// When the clock must stop for it next, if ever.
    pub next: Option<Timestamp>,
    /// Whether the client was told that its token expires, and has not shown another.
    pub awaits_token: bool,
}

/// Why the clock was not moved, or not as far as it should.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The clock's file cannot be written, or the clock cannot be moved.
    #[error("cannot move the clock: {0}")]
    Clock(#[from] io::Error),
    /// Something is due, and is not done after some seconds.
    #[error("what is due was not done within {SETTLE_MAX:?}: the hub's log says why")]
    Unsettled,
}

/// One move of the clock.
struct Move {
    /// Whoever was heard since then answers.
    asked_at: Timestamp,
    /// The connections that were waited for in vain, or that were told before.
    without_token: BTreeSet<u64>,
}

impl Hub {
    /// Moves the clock, and returns when everything that follows has been done: the number of changes in the
    /// transition log. A second call waits for the first.
    ///
    /// # Errors
    ///
    /// If the clock cannot be moved, or the store fails; the clock then stays where it is.
    pub async fn advance(self: &Arc<Self>, by: Duration) -> Result<u64, AdvanceFault> {
        let _turn = self.advances.turn.lock().await;
        let before = self.transitions();
        // Deadlines of a dead run are on its own time until its sessions are taken over.
        within(SETTLE_MAX, || self.lost.borrow().as_ref().is_some_and(|lost| lost.is_empty()))
            .await;
        let mut this = Move { asked_at: self.clock.now(), without_token: BTreeSet::new() };
        self.ask_all(this.asked_at).await;
        let told = self.tell_connections(&this).await;
        this.without_token.extend(awaiting(&told));
        let mut left = Duration::from_millis(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        loop {
            let next = self.settle(&mut this).await?;
            // It is at most a second old, also on this clock: a later run counts windows from it (T11).
            self.give_sign_of_life().await?;
            if left.is_zero() {
                break;
            }
            let most = next.map_or(left, |next| left.min(next - self.clock.now()));
            let step = self.until_due(most).await?;
            self.clock.advance(step)?;
            left -= step;
        }
        let is_flushed = || !self.registry.all().iter().any(|mailbox| mailbox.is_corked());
        within(SETTLE_MAX, is_flushed).await;
        Ok(self.transitions().saturating_sub(before))
    }

    /// Notes that a connection has handled a move of the clock.
    pub fn clock_noticed(&self, connection: ConnectionId, noticed: Noticed) {
        self.advances.noticed.lock().insert(connection.serial, noticed);
    }

    /// Pings every client, and waits until all have answered or may not any more.
    async fn ask_all(&self, asked_at: Timestamp) {
        let asked = self.registry.all();
        let asked = asked.into_iter().filter(|mailbox| mailbox.user().is_some());
        let asked: Vec<_> = asked.filter(|mailbox| !mailbox.is_cut()).collect();
        asked.iter().for_each(|mailbox| mailbox.post(ping_frame()));
        let has_answered = |mailbox: &Arc<Mailbox>| {
            mailbox.heard() >= asked_at || mailbox.is_cut() || self.has_left(mailbox)
        };
        within(ANSWER_MAX, || asked.iter().all(has_answered)).await;
    }

    fn has_left(&self, mailbox: &Mailbox) -> bool {
        !mailbox.is_open() || self.registry.get(mailbox.id()).is_none()
    }

    /// Does everything that is due now; returns when the next connection needs the clock to stop.
    async fn settle(self: &Arc<Self>, this: &mut Move) -> Result<Option<Timestamp>, AdvanceFault> {
        let begun = self.clock.instant();
        loop {
            let noticed = self.tell_connections(this).await;
            within(SETTLE_MAX, || self.ending.lock().is_empty()).await;
            self.tick_due(self.clock.stalled_for()).await;
            let next = noticed.values().filter_map(|it| it.next).min();
            let is_done = next.is_none_or(|next| next > self.clock.now())
                && !self.is_anyone_due(Duration::ZERO).await?;
            let mut awaiting = awaiting(&noticed);
            awaiting.retain(|serial| !this.without_token.contains(serial));
            let took = self.clock.instant() - begun;
            if is_done && awaiting.is_empty() {
                return Ok(next);
            }
            if took > TOKEN_MAX {
                this.without_token.extend(awaiting);
            }
            if took > SETTLE_MAX {
                return Err(AdvanceFault::Unsettled);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Has every connection handle the timers that are due; returns what they say.
    async fn tell_connections(&self, this: &Move) -> BTreeMap<u64, Noticed> {
        self.advances.noticed.lock().clear();
        let told = self.registry.all();
        for mailbox in &told {
            mailbox.clock_moved(!mailbox.is_cut() && mailbox.heard() >= this.asked_at);
        }
        let has_noticed = |mailbox: &Arc<Mailbox>| {
            self.advances.noticed.lock().contains_key(&mailbox.id().serial)
                || self.has_left(mailbox)
        };
        within(SETTLE_MAX, || told.iter().all(has_noticed)).await;
        self.advances.noticed.lock().clone()
    }

    /// The time until somebody has a deadline, at most `most`. Nobody has one now.
    async fn until_due(&self, most: Duration) -> Result<Duration, Unavailable> {
        if !self.is_anyone_due(most).await? {
            return Ok(most);
        }
        let (mut early, mut late) = (Duration::ZERO, most);
        while late - early > LOOK_EVERY {
            let middle = early + (late - early) / 2;
            if self.is_anyone_due(middle).await? {
                late = middle;
            } else {
                early = middle;
            }
        }
        Ok(late)
    }

    /// Whether somebody will have a deadline after this time.
    async fn is_anyone_due(&self, after: Duration) -> Result<bool, Unavailable> {
        let (now, wall) = (self.clock.now() + after, self.clock.wall() + after);
        // Users with damaged records stay due, and must not hide others.
        let most = self.damaged_users() + 1;
        let due = self.store.due(self.node, now, wall, most).await?;
        Ok(due.iter().any(|user| !self.awaits_replacement(user)))
    }

    /// The number of entries that this run has written into the transition log.
    fn transitions(&self) -> u64 {
        self.metrics.counts().transitions.values().sum()
    }
}

/// The connections whose clients have been told that their tokens expire.
fn awaiting(noticed: &BTreeMap<u64, Noticed>) -> BTreeSet<u64> {
    let awaiting = noticed.iter().filter(|(_, it)| it.awaits_token);
    awaiting.map(|(serial, _)| *serial).collect()
}

/// Waits until something is so, but no longer than `most`.
async fn within(most: Duration, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(most, wait).await.ok();
}
