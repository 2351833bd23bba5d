//! The kinds of servers and stores, and the processors that processes are pinned to.

use std::fmt;

use clap::ValueEnum;

/// The hub's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    Embedded,
    Memory,
    /// In a `redis-server` that the benchmark starts.
    Redis,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Redis => "redis",
        })
    }
}

/// The kind of server under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hub(Store),
    Floor,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(store) => write!(f, "hub ({store})"),
            Self::Floor => f.write_str("floor"),
        }
    }
}

/// The processors that servers and generators are pinned to; `None` for any.
pub(super) struct Pins {
    pub(super) server: Option<usize>,
    pub(super) generator: Option<usize>,
}
