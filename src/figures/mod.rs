//! Figures of each day, which outlast the log: peaks, users, logins, kicks, session length, blinks.
//!
//! ```text
//!   log ───────▶ Count ──every 10 s, with the cursor──▶ store: one row for each day
//!   totals ────▶   (of the present day)
//! ```
//!
//! Counts come from the transition log, so each event counts once: counts and cursor are saved together, and after a crash
//! the events since then are read again. Peaks and online time come from a sample every 5 s, and miss the time in which no
//! hub runs. Of several hubs with one store, one counts at a time.

mod day;
mod sketch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

pub use self::day::{Count, DAY, DayFigures};
pub use self::sketch::{NotASketch, Sketch};
use crate::clock::Clock;
use crate::presence::Timestamp;
use crate::store::{Days, Store, StoreError};
use crate::throttle::Throttle;

/// How many days are kept.
pub const DAYS_KEPT: u32 = 400;
/// The interval of samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The number of samples between two saves.
const SAMPLES_PER_SAVE: u32 = 2;
/// The longest time that a sample stands for: longer ones were not taken, because the hub stood still.
const SAMPLE_MAX: Duration = Duration::from_secs(15);
/// How many entries are read at once.
const ENTRIES: usize = 1000;

/// Counts the figures of each day.
pub struct Figures {
    store: Arc<dyn Store>,
    days: Arc<dyn Days>,
    clock: Clock,
}

impl Figures {
    /// Counts events and sessions of a store.
    pub fn new(store: Arc<dyn Store>, days: Arc<dyn Days>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { store, days, clock })
    }

    /// The last days with figures, up to a number, oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn last(&self, days: u32) -> Result<Vec<DayFigures>, StoreError> {
        let today = self.clock.wall().round_down(DAY);
        let first = today - DAY * days.saturating_sub(1);
        let saved = self.days.days(number_of(first)).await?;
        let read = saved.iter().filter_map(|(_, json)| serde_json::from_str::<Count>(json).ok());
        Ok(read.map(|count| count.figures).collect())
    }

    /// Counts for ever, while it is this hub's turn.
    pub async fn run(self: Arc<Self>) {
        let mut turn = self.days.days_turn();
        let mut throttle = Throttle::default();
        loop {
            if turn.wait_for(|is_ours| *is_ours).await.is_err() {
                return;
            }
            let Err(error) = self.count(&turn).await else { continue };
            if let Some(suppressed) = throttle.admit(self.clock.now()) {
                tracing::warn!(%error, suppressed, "figures of the day cannot be counted, retrying");
            }
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }

    /// Counts until it is another hub's turn.
    async fn count(&self, turn: &watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut count = self.begin().await?;
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut taken, mut last) = (0_u32, self.clock.now());
        while *turn.borrow() {
            samples.tick().await;
            self.read(&mut count).await?;
            let (now, wall) = (self.clock.now(), self.clock.wall());
            if count.is_over_at(wall) {
                self.next_day(&mut count, wall).await?;
            }
            let totals = self.store.totals().await?;
            count.sample(&totals, (now - last).min(SAMPLE_MAX));
            last = now;
            taken = taken.wrapping_add(1);
            if taken.is_multiple_of(SAMPLES_PER_SAVE) {
                self.save(&count).await?;
            }
        }
        Ok(())
    }

    /// Continues what was saved last, or begins with the oldest event in the log.
    async fn begin(&self) -> Result<Count, StoreError> {
        let saved = self.days.days(0).await?;
        let last = saved.iter().rev().find_map(|(_, json)| serde_json::from_str(json).ok());
        Ok(last.unwrap_or_else(|| Count::of_day(Timestamp::default(), None)))
    }

    /// Counts all entries of the log that are not counted yet.
    async fn read(&self, count: &mut Count) -> Result<(), StoreError> {
        let mut after = count.cursor;
        loop {
            let read = self.store.entries(after, ENTRIES).await;
            let entries = match read {
                // The log no longer has the entries after it, or lost the last ones to a power cut.
                Err(StoreError::CursorExpired) if after.is_some() => {
                    after = None;
                    continue;
                }
                read => read?,
            };
            let counted = count.cursor;
            for entry in entries.iter().filter(|entry| Some(entry.cursor) > counted) {
                if let Ok(transition) = entry.transition()
                    && count.is_over_at(transition.at)
                {
                    self.next_day(count, transition.at).await?;
                }
                count.add(entry);
            }
            after = entries.last().map(|entry| entry.cursor).or(after);
            if entries.len() < ENTRIES {
                count.cursor = after.or(count.cursor);
                count.forget_gone(self.clock.wall());
                return Ok(());
            }
        }
    }

    async fn next_day(&self, count: &mut Count, at: Timestamp) -> Result<(), StoreError> {
        let next = count.next_day(at);
        if count.figures.day > Timestamp::default() {
            self.save(count).await?;
        }
        *count = next;
        Ok(())
    }

    async fn save(&self, count: &Count) -> Result<(), StoreError> {
        let json = serde_json::to_string(count);
        let json = json.unwrap_or_else(|error| unreachable!("a count makes JSON: {error}"));
        let day = number_of(count.figures.day);
        self.days.save_day(day, json.into(), day.saturating_sub(DAYS_KEPT - 1)).await
    }
}

/// The number of a day since 1970.
fn number_of(day: Timestamp) -> u32 {
    u32::try_from(day.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX)
}
