//! The only reader of time.
//!
//! It rides on tokio's clock, so a test that pauses tokio's time drives every window of the hub.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::presence::{Sign, Stall, Timestamp};

/// How often the hub marks that it runs.
pub const TICK: Duration = Duration::from_millis(100);
/// Where Linux names the time that the machine has been up, and says for how long that is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// See [`BOOT_ID`].
const UPTIME: &str = "/proc/uptime";
/// How far the wall clock may drift from the process's own time before it counts as set:
/// smaller corrections would only make the times that are shown jump.
const DRIFT_MAX_MS: i64 = 20;
/// How many stalls are remembered one by one; each is longer than a second.
const STALLS_MAX: usize = 1000;
/// How late a tick may be before the hub counts as having stood still (T12).
const STILL: Duration = Duration::from_secs(1);

/// The process's own time, the wall clock, and the time in which the hub was running.
#[derive(Debug, Clone)]
pub struct Clock {
    epoch: Timestamp,
    started: Instant,
    /// How many milliseconds the wall clock is ahead of the process's own time, as of the last time
    /// that it was set; `None` in simulations, where the two are the same.
    ahead_ms: Option<Arc<AtomicI64>>,
    /// Names the time that the machine has been up.
    boot: Arc<str>,
    pulse: Arc<Mutex<Pulse>>,
}

#[derive(Debug)]
struct Pulse {
    last_tick: Timestamp,
    stood_still: Duration,
    /// The earliest first.
    stalls: Arc<[Stall]>,
}

#[expect(clippy::disallowed_methods, reason = "this is the one module that reads time")]
impl Clock {
    /// Anchors the clock at the system's present time.
    pub fn system() -> Self {
        Self::anchored(wall(), Some(Arc::default()))
    }

    /// The same clock, but it begins no earlier than `floor`, the latest time of an earlier run: times
    /// and versions grow even after the wall clock was set back (V2). To be called before anything
    /// reads the clock.
    #[must_use]
    pub fn not_before(self, floor: Timestamp) -> Self {
        let ahead = floor - self.now();
        Self::anchored(self.epoch + ahead + self.started.elapsed(), self.ahead_ms)
    }

    /// A clock for tests on paused time: it starts at `epoch`, and the wall clock follows it.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self::anchored(epoch, None)
    }

    fn anchored(epoch: Timestamp, ahead_ms: Option<Arc<AtomicI64>>) -> Self {
        let pulse = Pulse { last_tick: epoch, stood_still: Duration::ZERO, stalls: Arc::default() };
        let pulse = Arc::new(Mutex::new(pulse));
        let boot = if ahead_ms.is_none() { None } else { fs::read_to_string(BOOT_ID).ok() };
        let boot = boot.unwrap_or_default().trim().into();
        Self { epoch, started: Instant::now(), ahead_ms, boot, pulse }
    }

    /// The process's own time: the wall clock at its start plus the monotonic clock, so no jump of
    /// the wall clock moves a window.
    pub fn now(&self) -> Timestamp {
        self.epoch + self.started.elapsed()
    }

    /// The wall clock: for tokens, for push, and for times that people read.
    pub fn wall(&self) -> Timestamp {
        self.shown(self.now())
    }

    /// How far the wall clock is ahead: as before, unless it was set.
    fn ahead_ms(&self) -> i64 {
        let Some(known) = &self.ahead_ms else { return 0 };
        let [wall, now] = [wall(), self.now()].map(|at| at.as_millis().cast_signed());
        let (ahead, before) = (wall - now, known.load(Ordering::Relaxed));
        if (ahead - before).abs() <= DRIFT_MAX_MS {
            return before;
        }
        known.store(ahead, Ordering::Relaxed);
        ahead
    }

    /// The present on every clock, for a later run to count from.
    pub fn sign(&self) -> Sign {
        let up_ms = if self.boot.is_empty() { None } else { up_ms() };
        let boot = if up_ms.is_some() { (*self.boot).into() } else { Box::default() };
        let (now, stalls) = self.present();
        Sign { boot, up_ms: up_ms.unwrap_or_default(), wall: self.wall(), now, stalls }
    }

    /// The process's own time less the time in which the hub stood still: what silence is measured
    /// in. A stall is left out as soon as it is over, even before its late tick has come.
    pub fn running(&self) -> Timestamp {
        let (now, stood_still) = self.look();
        now - stood_still
    }

    /// For how long the hub has stood still in all.
    pub fn stood_still(&self) -> Duration {
        self.look().1
    }

    /// The process's own time, and for how long the hub has stood still in all: both of one moment.
    pub fn look(&self) -> (Timestamp, Duration) {
        let pulse = self.pulse.lock();
        let now = self.now();
        let by = stall_of(now - pulse.last_tick).unwrap_or_default();
        (now, pulse.stood_still + by)
    }

    /// The process's own time, and when the hub stood still before: a stall is there as soon as it
    /// is over, even before its late tick has come.
    pub fn present(&self) -> (Timestamp, Arc<[Stall]>) {
        let pulse = self.pulse.lock();
        let now = self.now();
        let stalls = match stall_of(now - pulse.last_tick) {
            Some(by) => pulse.with(by),
            None => Arc::clone(&pulse.stalls),
        };
        (now, stalls)
    }

    /// How long from now until the hub will have run until `running`.
    pub fn until(&self, running: Timestamp) -> Duration {
        running - self.running()
    }

    /// The present on the clock that timers sleep by, to measure what takes less than a millisecond.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The moment that long from now, on the clock that timers sleep by.
    pub fn after(&self, duration: Duration) -> Instant {
        Instant::now() + duration
    }

    /// When the wall clock will show that, on the process's own time; jumps of the wall clock from
    /// here on do not count.
    pub fn from_wall(&self, at: Timestamp) -> Timestamp {
        at.moved(-self.ahead_ms())
    }

    /// What the wall clock shows at a time on the process's own time.
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        at.moved(self.ahead_ms())
    }

    /// Marks that the hub runs; to be called each [`TICK`]. Returns for how long it did not.
    pub fn tick(&self) -> Option<Duration> {
        let mut pulse = self.pulse.lock();
        let now = self.now();
        let by = stall_of(now - pulse.last_tick);
        if let Some(by) = by {
            pulse.stood_still += by;
            pulse.stalls = pulse.with(by);
        }
        pulse.last_tick = now;
        by
    }
}

impl Pulse {
    /// The stalls with one more, which began at the last tick. Where there are more than
    /// [`STALLS_MAX`], the two earliest are joined.
    fn with(&self, by: Duration) -> Arc<[Stall]> {
        let last = Stall { from: self.last_tick, until: self.last_tick + by };
        let mut stalls = self.stalls.to_vec();
        stalls.push(last);
        if stalls.len() > STALLS_MAX {
            let first = stalls.remove(0);
            // The next begins as much earlier as the first took.
            stalls[0].from = stalls[0].from - (first.until - first.from);
        }
        stalls.into()
    }
}

/// For how long the machine has been up, suspended or not, where the system says so.
fn up_ms() -> Option<u64> {
    let uptime = fs::read_to_string(UPTIME).ok()?;
    let (secs, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let (secs, hundredths): (u64, u64) = (secs.parse().ok()?, hundredths.parse().ok()?);
    Some(secs * 1000 + hundredths * 10)
}

fn stall_of(since_tick: Duration) -> Option<Duration> {
    // All of it, the tick included: a window must not end early, and may end a little late (T14).
    (since_tick > STILL + TICK).then_some(since_tick)
}

#[expect(clippy::disallowed_methods, reason = "this is the one module that reads time")]
fn wall() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A time of the system's.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
