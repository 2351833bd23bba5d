//! The input of a step beside record and event: clocks, stalls, and when connections were heard.

use std::sync::Arc;

use super::{ConnectionId, Stall, Timestamp};

/// The clocks at a step, and what connection actors know that the record does not.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The process's own time, for windows.
    pub now: Timestamp,
    /// The wall clock, for times that people read and for what lasts days: push and tokens.
    pub wall: Timestamp,
    /// The stalls of this hub, the earliest first (T12).
    pub stalls: Arc<[Stall]>,
    /// When this node's connections were last heard, on the wall clock.
    pub heard: Vec<(ConnectionId, Timestamp)>,
}
