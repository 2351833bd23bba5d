//! What a node did with the server that holds its store.

use std::time::Duration;

/// What this node has done so far with the server of its store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// The commands and scripts that were sent.
    pub commands: u64,
    /// Those that failed.
    pub failures: u64,
    /// How long all of them took together.
    pub busy: Duration,
    /// How often a lost connection was made again.
    pub reconnects: u64,
    /// How often messages of other nodes were missed.
    pub missed: u64,
    /// This node's wall clock minus that of the server, in milliseconds.
    pub clock_ms: i64,
}
