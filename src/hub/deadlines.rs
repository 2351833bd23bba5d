use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::clock::TICK;
use crate::presence::{EventKind, UserId};

/// How many users are asked for at once.
const USERS_MAX: usize = 4096;
/// How often it is asked for more in one round.
const BATCHES_MAX: usize = 16;
/// How many of them are applied to at once.
const CONCURRENT: usize = 64;
/// How many rounds a hub that stood still leaves its sockets to say what they heard meanwhile.
const ROUNDS_AFTER_STALL: u32 = 2;

/// Marks that the hub runs, and brings about what the records have come due for (T3, T6 to T8,
/// T10, T11). Returns only when one of its tasks has failed.
pub async fn run(hub: Arc<Hub>) {
    let mut tasks = JoinSet::new();
    // Apart, so that much to do is not taken for a stall.
    let beat = Arc::new(Notify::new());
    tasks.spawn(mark(Arc::clone(&hub), Arc::clone(&beat)));
    tasks.spawn(Arc::clone(&hub).live());
    tasks.spawn(Arc::clone(&hub).trim());
    tasks.spawn(keep(hub, beat));
    tasks.join_next().await;
}

/// Marks each tick, and passes it on.
async fn mark(hub: Arc<Hub>, beat: Arc<Notify>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(by) = hub.clock.tick() {
            tracing::warn!(ms = by.as_millis(), "the hub stood still");
            hub.metrics.stalls.inc();
        }
        beat.notify_one();
    }
}

/// A time in which the hub stood still moves every open window by as long (T12) before the next of
/// them is looked at.
async fn keep(hub: Arc<Hub>, beat: Arc<Notify>) {
    // Until then the deadlines of an earlier run are in the time of that run.
    hub.take_over().await;
    let (mut moved, mut rest) = (Duration::ZERO, 0);
    loop {
        beat.notified().await;
        let stood_still = hub.clock.stood_still();
        if stood_still.total > moved {
            let by = stood_still.total - moved;
            moved = stood_still.total;
            let users = due(&hub, hub.policy().windows.longest_in_record(), usize::MAX).await;
            apply_all(&hub, users, &EventKind::StoodStill { from: stood_still.from, by }).await;
            rest = ROUNDS_AFTER_STALL;
        } else if rest > 0 {
            rest -= 1;
        } else {
            round(&hub, moved).await;
        }
    }
}

/// Applies to everybody who is due, unless the hub stands still meanwhile.
async fn round(hub: &Arc<Hub>, moved: Duration) {
    for _ in 0..BATCHES_MAX {
        if hub.clock.stood_still().total > moved {
            return;
        }
        let users = due(hub, Duration::ZERO, USERS_MAX).await;
        let may_be_more = users.len() == USERS_MAX;
        let all_landed = apply_all(hub, users, &EventKind::Tick).await;
        if !may_be_more || !all_landed {
            return;
        }
    }
}

async fn due(hub: &Hub, ahead: Duration, limit: usize) -> Vec<UserId> {
    let now = hub.clock.now() + ahead;
    hub.store.due(now, hub.clock.wall(), limit).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the store cannot say what is due");
        Vec::new()
    })
}

/// Applies an event to many users, each in a task of its own; returns whether all took it.
async fn apply_all(hub: &Arc<Hub>, users: Vec<UserId>, kind: &EventKind) -> bool {
    let apply = |user: UserId| {
        let (hub, kind) = (Arc::clone(hub), kind.clone());
        tokio::spawn(async move {
            let applied = hub.apply(&user, kind).await;
            applied
                .inspect_err(|error| tracing::warn!(%user, %error, "a deadline must wait"))
                .is_ok()
        })
    };
    let landed = stream::iter(users).map(apply).buffer_unordered(CONCURRENT);
    landed.fold(true, async |all, landed| all & landed.unwrap_or(false)).await
}
