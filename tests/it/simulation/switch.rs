//! The switches that break the design on purpose.

/// A part of the design that is left out, to prove that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// The store accepts commits of nodes that others have taken over.
    NoFence,
    /// A commit that arrives after its node gave it up is executed.
    NoDeadline,
    /// After a failover, versions go on from the stored one, so watchers may have seen greater ones.
    NoFloor,
    /// A node is dead when its sign of life is 4 s old by the store's clock, also if the store was away.
    LeasesByTtl,
    /// A successor takes the dead node's times for its own.
    OtherClock,
    /// A missing message is not noticed.
    NoGapCheck,
    /// The message to the other nodes is sent after the commit, so it is lost if the node dies in between.
    PublishAfterCommit,
    /// Nodes are not told that the store lost commits.
    NoReconcile,
    /// A revision is the number of the user's commits, so a rolled-back one comes back.
    CountAsRevision,
}
