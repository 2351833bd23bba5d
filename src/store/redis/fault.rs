//! Why a command failed, in plain words.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) cause: String,
}

/// What a failed command says about the connection and the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The connection is lost.
    Disconnected,
    /// Another server has the partition; this one has done nothing.
    Moved,
    /// This server cannot serve the partition now; another one may.
    Misplaced,
    /// No answer came in time.
    Timeout,
    /// The server refused the command.
    Refused,
}

impl Fault {
    pub(super) fn not_connected(server: &str, cause: &str) -> Self {
        let cause = format!("not connected to Redis at {server}: {cause}");
        Self { kind: FaultKind::Disconnected, cause }
    }

    pub(super) fn timeout(server: &str) -> Self {
        let cause = format!("Redis at {server} did not answer within store.timeout");
        Self { kind: FaultKind::Timeout, cause }
    }

    pub(super) fn of(server: &str, error: &RedisError) -> Self {
        Self { kind: kind(error), cause: format!("Redis at {server}: {error}") }
    }
}

fn kind(error: &RedisError) -> FaultKind {
    if error.is_unrecoverable_error() || error.is_connection_dropped() {
        return FaultKind::Disconnected;
    }
    let ErrorKind::Server(kind) = error.kind() else { return FaultKind::Refused };
    let is_misplaced = matches!(
        kind,
        ServerErrorKind::Ask
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
    );
    if kind == ServerErrorKind::Moved {
        FaultKind::Moved
    } else if is_misplaced {
        FaultKind::Misplaced
    } else {
        FaultKind::Refused
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::Unavailable { cause: fault.cause }
    }
}
