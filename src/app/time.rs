//! The clock that a run begins with.

use std::io;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, DEVELOPMENT_CLOCK, StoreKind};
use crate::presence::Timestamp;

/// How far the wall clock may be behind the last run before the hub warns.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(3);

/// The machine's clock; in development mode it can be moved. Hubs that share a store cannot move theirs alone.
///
/// # Errors
///
/// The file and the error, if how far it was moved cannot be read.
pub(super) fn machine_clock(config: &Config) -> Result<Clock, (String, io::Error)> {
    if !config.is_development() || config.store.kind == StoreKind::Redis {
        return Ok(Clock::system());
    }
    let file = config.store.path.join(DEVELOPMENT_CLOCK);
    let name = file.display().to_string();
    let clock = Clock::system().movable(file).map_err(|error| (name, error))?;
    let ahead = clock.moved_by();
    if !ahead.is_zero() {
        let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
        tracing::warn!(
            %ahead,
            directory = %config.store.path.display(),
            "POST /dev/clock has moved the clock; to go back, remove the directory"
        );
    }
    Ok(clock)
}

/// Starts the clock after the latest time in the store, even if the wall clock was set back:
/// versions must only grow.
pub(super) fn begin_after(clock: Clock, latest: Timestamp) -> Clock {
    let ahead = latest - clock.wall();
    if ahead > CLOCK_BEHIND_MAX {
        tracing::warn!(
            ahead_ms = ahead.as_millis(),
            "wall clock is behind the last run; versions continue from the last run's time"
        );
    }
    clock.not_before(latest + Duration::from_millis(1))
}
