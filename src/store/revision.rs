//! The revision of a record.

/// The revision of a record; changed by each commit. Optimistic lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);
