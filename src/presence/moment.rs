//! When a step happens, and what is known of that moment beside the record.

use std::sync::Arc;

use super::{ConnectionId, Stall, Timestamp};

/// When a step happens, and what the actors know that the record does not.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The process's own time, for the windows.
    pub now: Timestamp,
    /// The wall clock, for times that people read, and for what lasts days: push, tokens.
    pub wall: Timestamp,
    /// When this hub stood still, the earliest first (T12).
    pub stalls: Arc<[Stall]>,
    /// When connections were last heard, as far as this node knows, on the wall clock.
    pub heard: Vec<(ConnectionId, Timestamp)>,
}
