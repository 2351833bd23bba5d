//! The input of a step beside record and event: clocks, stalls, and when connections were heard.

use std::sync::Arc;

use super::{ConnectionId, NodeId, Stall, Timestamp};

/// The clocks at a step, and what connection actors know that the record does not.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The node that applies the event. It judges only the windows of its own connections: those of another
    /// node are on that node's time.
    pub node: NodeId,
    /// That node's own time, for windows.
    pub now: Timestamp,
    /// The wall clock, for times that people read and for what lasts days: push and tokens.
    pub wall: Timestamp,
    /// That node's stalls, the earliest first (T12).
    pub stalls: Arc<[Stall]>,
    /// When that node's connections were last heard, on the wall clock.
    pub heard: Vec<(ConnectionId, Timestamp)>,
}
