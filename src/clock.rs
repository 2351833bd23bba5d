//! The clocks of the hub; no other module reads time.
//!
//! The process's own time follows tokio's clock, so tests with paused time can drive every window.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::presence::{SignOfLife, Stall, Timestamp};

/// The interval at which the hub calls [`Clock::tick`].
pub const TICK: Duration = Duration::from_millis(100);
/// The id of the machine's boot, on Linux.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long the machine has been up, on Linux.
const UPTIME: &str = "/proc/uptime";
/// How far the wall clock may drift from the process's own time before it counts as set: following
/// smaller corrections would only make displayed times jump.
const DRIFT_MAX_MS: i64 = 20;
/// How far the machine's clock may be from that of the store's server before the hub follows the server. Below
/// it the difference may be the time that a command takes.
const APART_MAX_MS: i64 = 1000;
/// The maximum number of stalls that are remembered separately; each is longer than a second.
const STALLS_MAX: usize = 1000;
/// How late a tick may be before it counts as a stall of the hub (T12).
const STILL: Duration = Duration::from_secs(1);

/// Three clocks: the process's own time, the wall clock, and running time without the hub's stalls.
#[derive(Debug, Clone)]
pub struct Clock {
    epoch: Timestamp,
    started: Instant,
    /// `None` in simulations, where the wall clock is the process's own time.
    wall: Option<Arc<Wall>>,
    /// How far it was moved; `None` if it cannot be moved.
    moved: Option<Arc<Moved>>,
    /// The id of the machine's boot; empty if the system has none.
    boot: Arc<str>,
    pulse: Arc<Mutex<Pulse>>,
}

/// How the wall clock differs from other clocks, in milliseconds.
#[derive(Debug, Default)]
struct Wall {
    /// How far it is ahead of the process's own time since it was last set.
    ahead: AtomicI64,
    /// How far the machine's clock is ahead of that of the store's server, if the hub follows the server.
    machine_ahead: AtomicI64,
}

/// How far [`Clock::advance`] has moved a clock, in this run and in earlier ones.
#[derive(Debug)]
struct Moved {
    /// In milliseconds.
    by: AtomicU64,
    /// Keeps it, so that a restart does not go back.
    file: PathBuf,
}

#[derive(Debug)]
struct Pulse {
    last_tick: Timestamp,
    stalled_for: Duration,
    /// The stalls so far, the earliest first.
    stalls: Arc<[Stall]>,
}

#[expect(clippy::disallowed_methods, reason = "this is the one module that reads time")]
impl Clock {
    /// Makes a clock that starts at the system's current time.
    pub fn system() -> Self {
        Self::anchored(wall(), Some(Arc::default()), None)
    }

    /// Makes this a clock that [`advance`](Self::advance) can move, for development mode. It begins where an
    /// earlier run has moved it to, which is in `file`. Must be called before anything reads the clock.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub fn movable(self, file: PathBuf) -> io::Result<Self> {
        let kept = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "0".to_owned(),
            kept => kept?,
        };
        let by = kept.trim().parse::<u64>();
        let by = by.map_err(|_| io::Error::other("expected a number of milliseconds"))?;
        let moved = Arc::new(Moved { by: by.into(), file });
        Ok(Self::anchored(self.unmoved(), self.wall, Some(moved)))
    }

    /// Makes the process's own time start no earlier than `floor`, the latest time of an earlier run,
    /// so that times and versions grow even after the wall clock was set back (V2). Must be called
    /// before anything reads the clock.
    #[must_use]
    pub fn not_before(self, floor: Timestamp) -> Self {
        let ahead = floor - self.now();
        Self::anchored(self.unmoved() + ahead, self.wall, self.moved)
    }

    /// Makes a clock for tests with paused time: it starts at `epoch`, and the wall clock follows it.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self::anchored(epoch, None, None)
    }

    fn anchored(epoch: Timestamp, wall: Option<Arc<Wall>>, moved: Option<Arc<Moved>>) -> Self {
        let pulse = Pulse { last_tick: epoch, stalled_for: Duration::ZERO, stalls: Arc::default() };
        let pulse = Arc::new(Mutex::new(pulse));
        let boot = if wall.is_none() { None } else { fs::read_to_string(BOOT_ID).ok() };
        let boot = boot.unwrap_or_default().trim().into();
        let clock = Self { epoch, started: Instant::now(), wall, moved, boot, pulse };
        clock.pulse.lock().last_tick = clock.now();
        clock
    }

    /// The process's own time: the wall clock at the start plus the monotonic clock, so that a jump
    /// of the wall clock moves no window. In development it is what [`advance`](Self::advance) has added, too.
    pub fn now(&self) -> Timestamp {
        self.unmoved() + self.moved_by()
    }

    /// The process's own time without what [`advance`](Self::advance) has added.
    fn unmoved(&self) -> Timestamp {
        self.epoch + self.started.elapsed()
    }

    /// Moves this clock forward, as if the time had passed and the hub had run: it is no stall (T12).
    ///
    /// # Errors
    ///
    /// If the clock is not [`movable`](Self::movable), or its file cannot be written; then it stays as it is.
    pub fn advance(&self, by: Duration) -> io::Result<()> {
        let Some(Moved { by: moved, file }) = self.moved.as_deref() else {
            return Err(io::Error::other("this clock cannot be moved"));
        };
        // Under the lock, so that nobody takes the step for a stall.
        let mut pulse = self.pulse.lock();
        let new = moved.load(Ordering::Relaxed).saturating_add(millis(by));
        let unfinished = file.with_extension("new");
        fs::write(&unfinished, format!("{new}\n"))?;
        fs::rename(&unfinished, file)?;
        moved.store(new, Ordering::Relaxed);
        pulse.last_tick = pulse.last_tick + by;
        Ok(())
    }

    /// Whether [`advance`](Self::advance) can move this clock.
    pub const fn is_movable(&self) -> bool {
        self.moved.is_some()
    }

    /// How far this clock was moved, by this run and by earlier ones.
    pub fn moved_by(&self) -> Duration {
        let moved = self.moved.as_ref().map(|moved| moved.by.load(Ordering::Relaxed));
        Duration::from_millis(moved.unwrap_or_default())
    }

    /// The wall clock: for tokens, for push, and for times that people read.
    pub fn wall(&self) -> Timestamp {
        self.to_wall(self.now())
    }

    /// The wall clock of other machines, whose time does not move with this clock: for requests to them.
    pub fn wall_elsewhere(&self) -> Timestamp {
        self.wall() - self.moved_by()
    }

    /// How far the wall clock is ahead; changes only when the wall clock was set.
    fn ahead_ms(&self) -> i64 {
        let Some(known) = &self.wall else { return 0 };
        // Both without the time that was added, which may change between two readings.
        let [machine, now] = [wall(), self.unmoved()].map(|at| at.as_millis().cast_signed());
        let ahead = machine - self.machine_ahead_ms() - now;
        let before = known.ahead.load(Ordering::Relaxed);
        if (ahead - before).abs() <= DRIFT_MAX_MS {
            return before;
        }
        known.ahead.store(ahead, Ordering::Relaxed);
        ahead
    }

    fn machine_ahead_ms(&self) -> i64 {
        self.wall.as_ref().map_or(0, |wall| wall.machine_ahead.load(Ordering::Relaxed))
    }

    /// Makes the wall clock follow the clock of the store's server, which all hubs share, if the machine's clock
    /// differs from it by more than 1 s. Otherwise the end of push (T8) would depend on the hub that
    /// applies it.
    pub fn follow_server(&self, machine_ahead_ms: i64) {
        let Some(wall) = &self.wall else { return };
        let known = wall.machine_ahead.load(Ordering::Relaxed);
        if (machine_ahead_ms - known).abs() > APART_MAX_MS {
            wall.machine_ahead.store(machine_ahead_ms, Ordering::Relaxed);
        }
    }

    /// Makes a sign of life: the current time on every clock, from which a later run counts.
    pub fn sign_of_life(&self) -> SignOfLife {
        let up_ms = if self.boot.is_empty() { None } else { up_ms() };
        let up_ms = up_ms.map(|up| up + millis(self.moved_by()));
        let boot = if up_ms.is_some() { (*self.boot).into() } else { Box::default() };
        let (now, stalls) = self.present();
        let wall = self.wall().shifted(self.machine_ahead_ms());
        SignOfLife { boot, up_ms: up_ms.unwrap_or_default(), wall, now, stalls }
    }

    /// Running time: the process's own time without the hub's stalls. Silence is measured in it. A
    /// stall is left out as soon as it is over, even before the late tick.
    pub fn running(&self) -> Timestamp {
        let (now, stalled_for) = self.now_and_stalled();
        now - stalled_for
    }

    /// The total length of the hub's stalls.
    pub fn stalled_for(&self) -> Duration {
        self.now_and_stalled().1
    }

    /// The process's own time, and for how long the hub has stood still in all: both of one moment.
    pub fn now_and_stalled(&self) -> (Timestamp, Duration) {
        let pulse = self.pulse.lock();
        let now = self.now();
        let by = stall_of(now - pulse.last_tick).unwrap_or_default();
        (now, pulse.stalled_for + by)
    }

    /// The process's own time, and the stalls so far. A stall is included as soon as it is over, even
    /// before the late tick.
    pub fn present(&self) -> (Timestamp, Arc<[Stall]>) {
        let pulse = self.pulse.lock();
        let now = self.now();
        let stalls = match stall_of(now - pulse.last_tick) {
            Some(by) => pulse.with(by),
            None => Arc::clone(&pulse.stalls),
        };
        (now, stalls)
    }

    /// The time from now until `running`, if no further stall comes.
    pub fn until(&self, running: Timestamp) -> Duration {
        running - self.running()
    }

    /// The current time on the clock of timers, to measure durations under a millisecond.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The time `duration` from now, on the clock of timers.
    pub fn after(&self, duration: Duration) -> Instant {
        Instant::now() + duration
    }

    /// Converts a wall-clock time to the process's own time, as the wall clock is set now.
    pub fn from_wall(&self, at: Timestamp) -> Timestamp {
        at.shifted(-self.ahead_ms())
    }

    /// Converts a time on the process's own time to the wall clock.
    pub fn to_wall(&self, at: Timestamp) -> Timestamp {
        at.shifted(self.ahead_ms())
    }

    /// Records that the hub is running; must be called every [`TICK`]. Returns the length of the
    /// stall that this call ends, if there was one.
    pub fn tick(&self) -> Option<Duration> {
        let mut pulse = self.pulse.lock();
        let now = self.now();
        let by = stall_of(now - pulse.last_tick);
        if let Some(by) = by {
            pulse.stalled_for += by;
            pulse.stalls = pulse.with(by);
        }
        pulse.last_tick = now;
        by
    }
}

impl Pulse {
    /// The stalls with one more, which began at the last tick. If there are more than
    /// [`STALLS_MAX`], the two earliest are merged.
    fn with(&self, by: Duration) -> Arc<[Stall]> {
        let last = Stall { from: self.last_tick, until: self.last_tick + by };
        let mut stalls = self.stalls.to_vec();
        stalls.push(last);
        if stalls.len() > STALLS_MAX {
            let first = stalls.remove(0);
            // The merged stall has the length of both, so no window is extended too little.
            stalls[0].from = stalls[0].from - (first.until - first.from);
        }
        stalls.into()
    }
}

/// How long the machine has been up, including suspension; `None` if the system does not say.
fn up_ms() -> Option<u64> {
    let uptime = fs::read_to_string(UPTIME).ok()?;
    let (secs, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let (secs, hundredths): (u64, u64) = (secs.parse().ok()?, hundredths.parse().ok()?);
    Some(secs * 1000 + hundredths * 10)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn stall_of(since_tick: Duration) -> Option<Duration> {
    // The usual tick is included: a window may end a little late, but never early (T14).
    (since_tick > STILL + TICK).then_some(since_tick)
}

#[expect(clippy::disallowed_methods, reason = "this is the one module that reads time")]
fn wall() -> Timestamp {
    timestamp(SystemTime::now())
}

/// The monotonic time, for pauses that no rule depends on.
#[expect(clippy::disallowed_methods, reason = "this is the one module that reads time")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// Converts a time of the system to a timestamp.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
