//! Why a simulation did not succeed.

/// Why a simulation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The scenario is invalid; each line names its place.
    #[error("{0}")]
    Scenario(String),
    /// An expectation did not hold, or a step cannot be played.
    #[error("{0}")]
    Step(String),
    /// The simulation itself failed.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// The exit code of the process.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Step(_) | Self::Other(_) => 1,
            Self::Scenario(_) => 2,
        }
    }
}

/// A fault of the simulation itself.
pub(super) fn other(what: &str, error: &impl ToString) -> Fault {
    Fault::Other(format!("{what}: {}", error.to_string()))
}
