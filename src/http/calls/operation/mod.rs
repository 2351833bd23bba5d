//! What operators ask of the hub itself: counts, hubs, settings, the audit log, client addresses.

pub(crate) mod nodes;
pub(crate) mod series;
pub(crate) mod stats;
