//! Applies what the records have come due for, and notices when the hub stood still.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::clock::TICK;
use crate::presence::UserId;

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
    // Until they are taken over, the deadlines of an earlier run are in the time of that run.
    hub.find_lost().await;
    tasks.spawn(Arc::clone(&hub).take_over());
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
            tracing::warn!(
                ms = by.as_millis(),
                "the hub stood still: all windows are moved by as much"
            );
            hub.metrics.stalls.inc();
        }
        beat.notify_one();
    }
}

/// Applies due deadlines each tick. After a stall the sockets first report what arrived meanwhile; the
/// rules extend each deadline by the stall (T12).
async fn keep(hub: Arc<Hub>, beat: Arc<Notify>) {
    let (mut seen, mut rest) = (Duration::ZERO, 0);
    loop {
        beat.notified().await;
        let stood_still = hub.clock.stood_still();
        if stood_still > seen {
            (seen, rest) = (stood_still, ROUNDS_AFTER_STALL);
        } else if rest > 0 {
            rest -= 1;
        } else {
            round(&hub, seen).await;
        }
    }
}

/// Applies to everybody who is due, unless the hub stands still meanwhile.
async fn round(hub: &Arc<Hub>, seen: Duration) {
    for _ in 0..BATCHES_MAX {
        if hub.clock.stood_still() > seen {
            return;
        }
        // Those who must wait are due all the while, and take nobody's place.
        let most = USERS_MAX + hub.damaged_users();
        let mut users = due(hub, most).await;
        let may_be_more = users.len() == most;
        users.retain(|user| !hub.must_wait(user));
        users.extend(hub.damaged_and_over());
        let all_landed = tick_all(hub, users).await;
        if !may_be_more || !all_landed {
            return;
        }
    }
}

async fn due(hub: &Hub, most: usize) -> Vec<UserId> {
    let due = hub.store.due(hub.clock.now(), hub.clock.wall(), most).await;
    due.unwrap_or_else(|error| {
        hub.store_failed("cannot read which users are due, retrying", &error.into(), None);
        Vec::new()
    })
}

/// Ticks many users' records, each in a task of its own; returns whether all succeeded.
async fn tick_all(hub: &Arc<Hub>, users: Vec<UserId>) -> bool {
    let apply = |user: UserId| {
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            match hub.tick(&user).await {
                Err(error) if !error.is_damage() => {
                    let what = "cannot store what a deadline changed, retrying";
                    hub.store_failed(what, &error, Some(&user));
                    false
                }
                // `note_damaged` has set when to replace it.
                Ok(()) | Err(_) => true,
            }
        })
    };
    let landed = stream::iter(users).map(apply).buffer_unordered(CONCURRENT);
    landed.fold(true, async |all, landed| all & landed.unwrap_or(false)).await
}
