//! Moves the clocks of the logs of idle partitions on, four times a second.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{MissedTickBehavior, interval};

use super::router::At;
use super::scripts::TICK;
use super::state::{State, place_of};
use crate::clock::monotonic;
use crate::presence::Timestamp;
use crate::store::StoreError;

const EVERY: Duration = Duration::from_millis(250);
/// A partition that its keeper has not moved on for so long is moved on by every node.
const KEEPER_SILENT: Duration = Duration::from_secs(1);

impl State {
    /// Moves on the clocks of the partitions that this node keeps, and of those whose keeper does not. Never
    /// returns.
    pub(super) async fn keep_ticking(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let kept = self.kept();
            let parts =
                self.grid.parts().filter(|part| kept.contains(part) || self.is_silent(*part));
            // The next tick tries again, and failures show in `check`.
            join_all(parts.map(|part| self.tick(part))).await;
        }
    }

    /// Moves on all clocks once, so that a log exists and has a head.
    pub(super) async fn tick_all(&self) -> Result<(), StoreError> {
        try_join_all(self.grid.parts().map(|part| self.tick(part))).await.map(drop)
    }

    fn is_silent(&self, part: u32) -> bool {
        let since = monotonic().checked_sub(KEEPER_SILENT);
        since.is_none_or(|since| !self.places.lock().was_heard_since(part, since))
    }

    async fn tick(&self, part: u32) -> Result<(), StoreError> {
        let (keys, sent) = (self.keys(part), monotonic());
        let mut call = TICK.prepare_invoke();
        call.key(&keys.place).key(&keys.feed).key(&keys.wall);
        let (clock, wall_commits) = self.places.lock().before_tick(part);
        call.arg(clock.ms);
        let (place, wall, server_ms): (String, String, u64) =
            self.call(At::Part(part), &call).await?;
        self.router.link(At::Part(part)).clock.note(sent, monotonic(), server_ms);
        let wall = wall.parse::<f64>().ok().map(|at| Timestamp::from_millis(at as u64));
        self.places.lock().set_wall(part, wall_commits, wall);
        self.note_place(part, place_of(&place)?);
        Ok(())
    }
}
