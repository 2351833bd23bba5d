//! `presence-hub simulate`: plays users, devices and networks, and shows what the hub makes of it.
//!
//! ```text
//!   scenario ──▶ Play ──WebSockets, /dev/clock, /dev/ignore──▶ hub, a process of its own
//!                  │                                            │
//!                  └──▶ timeline ◀── /v1/events, webhooks ◀──────┘
//! ```
//!
//! The hub's clock is moved from step to step, so that seven days take a second.

mod device;
mod fault;
mod hub;
mod play;
mod receiver;
mod scenario;
mod timeline;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

pub use self::fault::Fault;
use self::fault::other;
use self::play::Play;
use self::scenario::Scenario;
use self::timeline::Timeline;

/// The options of the command.
#[derive(Debug, Args)]
pub struct Options {
    /// The scenario: see deploy/scenarios/README.md.
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Write one JSON object for each step, event and webhook request.
    #[arg(long)]
    json: bool,
}

/// Plays a scenario.
///
/// # Errors
///
/// If the scenario is invalid, or an expectation does not hold.
pub async fn run(options: &Options, out: impl Write) -> Result<(), Fault> {
    let scenario = Scenario::read(&options.scenario)?;
    let on = |kind| signal(kind).map_err(|error| other("signals", &error));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let interrupted = Err(Fault::Other("interrupted".into()));
    // Dropping the play ends its hub.
    tokio::select! {
        played = Play::all(&scenario, Timeline::new(out, options.json)) => played,
        _ = terminate.recv() => interrupted,
        _ = interrupt.recv() => interrupted,
    }
}
