//! Applies the deadlines of records when they have passed, and detects stalls of the hub.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{Hub, Unavailable};
use crate::clock::TICK;
use crate::presence::{EventKind, UserId};

/// The maximum number of due users in one batch.
const USERS_MAX: usize = 4096;
/// The maximum number of batches in one round.
const BATCHES_MAX: usize = 16;
/// How many ticks run concurrently.
const CONCURRENT: usize = 64;
/// How many rounds are skipped after a stall, so that sockets first report what arrived meanwhile.
const ROUNDS_AFTER_STALL: u32 = 2;

/// Runs the tasks that detect stalls, give signs of life, trim the log, and apply deadlines (T3, T6,
/// T7, T8, T10, T11). Returns only if one of them fails.
pub async fn run(hub: Arc<Hub>) {
    let mut tasks = JoinSet::new();
    // The beat has a task of its own, so that a long round does not count as a stall.
    let beat = Arc::new(Notify::new());
    tasks.spawn(tick_clock(Arc::clone(&hub), Arc::clone(&beat)));
    tasks.spawn(Arc::clone(&hub).give_signs_of_life());
    tasks.spawn(Arc::clone(&hub).trim());
    tasks.spawn(Arc::clone(&hub).take_over());
    tasks.spawn(apply_deadlines(hub, beat));
    tasks.join_next().await;
}

/// Ticks the clock, logs stalls, and wakes [`apply_deadlines`].
async fn tick_clock(hub: Arc<Hub>, beat: Arc<Notify>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(by) = hub.clock.tick() {
            tracing::warn!(
                stall_ms = by.as_millis(),
                "event loop stalled; extending all liveness deadlines"
            );
            hub.metrics.stalls.inc();
        }
        beat.notify_one();
    }
}

/// Applies due deadlines at each beat. After a stall it skips some rounds, so that the sockets first
/// report what arrived meanwhile; the rules extend each deadline by the stall (T12).
async fn apply_deadlines(hub: Arc<Hub>, beat: Arc<Notify>) {
    let (mut seen, mut rest) = (Duration::ZERO, 0);
    // Deadlines of a dead node are on that node's time until its sessions are taken over.
    hub.lost.subscribe().wait_for(Option::is_some).await.ok();
    loop {
        beat.notified().await;
        let stalled_for = hub.clock.stalled_for();
        if stalled_for > seen {
            (seen, rest) = (stalled_for, ROUNDS_AFTER_STALL);
        } else if rest > 0 {
            rest -= 1;
        } else {
            hub.tick_due(seen).await;
        }
    }
}

async fn due(hub: &Hub, most: usize) -> Vec<UserId> {
    let due = hub.store.due(hub.node, hub.clock.now(), hub.clock.wall(), most).await;
    due.unwrap_or_else(|error| {
        hub.store_failed("cannot read which users are due, retrying", &error.into(), None);
        Vec::new()
    })
}

/// Ticks users, each in a task of its own; returns whether all succeeded.
async fn tick_all(hub: &Arc<Hub>, users: Vec<UserId>) -> bool {
    let apply = |user: UserId| {
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            match hub.tick(&user).await {
                Err(error) if !error.is_damage() => {
                    let what = "store unavailable; deadline postponed";
                    hub.store_failed(what, &error, Some(&user));
                    false
                }
                // `note_damaged` has set when to replace it.
                Ok(()) | Err(_) => true,
            }
        })
    };
    let ticked = stream::iter(users).map(apply).buffer_unordered(CONCURRENT);
    ticked.fold(true, async |all, ticked| all & ticked.unwrap_or(false)).await
}

impl Hub {
    /// Ticks all users who are due; stops if the hub has stalled for longer than `seen`.
    pub(super) async fn tick_due(self: &Arc<Self>, seen: Duration) {
        for _ in 0..BATCHES_MAX {
            if self.clock.stalled_for() > seen {
                return;
            }
            // Users with damaged records stay due, and must not fill the batch.
            let most = USERS_MAX + self.damaged_users();
            let mut users = due(self, most).await;
            let may_be_more = users.len() == most;
            users.retain(|user| !self.awaits_replacement(user));
            users.extend(self.replaceable_users());
            let all_succeeded = tick_all(self, users).await;
            if !may_be_more || !all_succeeded {
                return;
            }
        }
    }

    /// Applies a user's deadlines that have passed. Takes the user over first, because only a terminal's own
    /// node applies its deadlines.
    async fn tick(&self, user: &UserId) -> Result<(), Unavailable> {
        self.take_over_all_of(user).await?;
        self.apply(user, EventKind::Tick).await?;
        // The record is readable now. A query that started before its replacement may have noted it again.
        self.damaged.lock().remove(user);
        Ok(())
    }
}
