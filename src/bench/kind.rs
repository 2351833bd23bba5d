//! What is measured: the servers, their stores, and the processors they keep to.

use std::fmt;

use clap::ValueEnum;

/// A store of the hub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    Embedded,
    Memory,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
        })
    }
}

/// A server under load.
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

/// Which processors servers and generators keep to; `None` for any.
pub(super) struct Pins {
    pub(super) server: Option<usize>,
    pub(super) generator: Option<usize>,
}
