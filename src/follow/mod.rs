//! `presence-hub follow`: writes the events of a hub to standard output, as lines of JSON.
//!
//! ```text
//!   /v1/events ──▶ Frames ──▶ standard output, or a command ──taken──▶ cursor file
//! ```
//!
//! The cursor moves only after the output was flushed, or the command has succeeded. So an event may be
//! written again after a crash, but none is skipped.

mod cursor_file;
mod fault;
mod follower;
mod frames;
mod key;
mod output;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::cursor_file::CursorFile;
pub use self::fault::Fault;
use self::fault::other;
use self::follower::Follower;
pub use self::frames::{Frames, NotEvents, Part};
pub use self::key::KEY_VARIABLE;
use self::key::KeySource;
use self::output::Output;
use crate::outgoing::{self, Outgoing};

/// The call that streams events.
const PATH: &str = "v1/events";

/// How long events are collected for one run of a command.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// The options of the command.
#[derive(Debug, Args)]
pub struct Options {
    /// The address of a hub, such as http://127.0.0.1:7800. Repeat it for hubs that share a store: if
    /// one cannot be reached, the next one is used.
    #[arg(long = "url", required = true, value_name = "URL")]
    urls: Vec<Url>,
    /// The file that keeps the position in the log. Each command that runs needs its own.
    #[arg(long, value_name = "FILE")]
    cursor: PathBuf,
    /// The file that contains an API key. Default: the key in the variable PRESENCE_HUB_KEY.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// If there is no cursor file yet, begin with the next event instead of the oldest in the log.
    #[arg(long)]
    from_now: bool,
    /// If the cursor has expired, continue with the oldest event in the log instead of ending with an
    /// error. The events in between are lost.
    #[arg(long)]
    from_start: bool,
    /// Instead of writing to standard output, run this command for each batch of events, with the events
    /// as its standard input. The cursor moves only if it exits with 0; otherwise it runs again with the
    /// same events.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Writes events until the reader of standard output ends, or the process is told to stop; `key` is
/// the value of [`KEY_VARIABLE`].
///
/// # Errors
///
/// What only the operator can change. A hub that cannot be reached is no error: it is tried again.
pub async fn run(options: &Options, key: Option<String>) -> Result<(), Fault> {
    let urls = options.urls.iter().map(events_url).collect::<Result<Vec<_>, _>>()?;
    let file = CursorFile::open(&options.cursor)?;
    let output = Output::open(&options.command);
    let output = output.map_err(|error| other(format!("standard output: {error}")))?;
    let client = Outgoing::new(true)
        .map_err(|error| other(format!("the system's certificates cannot be read: {error}")))?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let follower = Follower {
        client,
        urls,
        key: KeySource { file: options.key_file.clone(), variable: key },
        from_now: options.from_now,
        from_start: options.from_start,
        batch_wait: if options.command.is_empty() { Duration::ZERO } else { BATCH_WAIT },
        stop,
    };
    follower.follow(file, output).await
}

/// The URL of the events of a hub.
fn events_url(hub: &Url) -> Result<Url, Fault> {
    let fault = |what: &str| other(format!("--url {}: {what}", outgoing::without_secrets(hub)));
    outgoing::check(hub, true).map_err(|why| fault(&why))?;
    if hub.query().is_some() || hub.fragment().is_some() {
        return Err(fault("expected only the hub's address, such as http://127.0.0.1:7800"));
    }
    let mut url = hub.clone();
    url.set_path(&format!("{}/{PATH}", hub.path().trim_end_matches('/')));
    Ok(url)
}

/// Cancels the token at SIGTERM or SIGINT.
async fn cancel_on_signal(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // The signals then end the process at once.
        return;
    };
    tokio::select! {
        _ = term.recv() => (),
        _ = int.recv() => (),
    }
    stop.cancel();
}
