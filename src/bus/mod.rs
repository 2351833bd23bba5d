//! Word to sessions and watchers on other nodes: the port, and its adapters.

mod local;

pub use self::local::LocalBus;
use crate::presence::{End, Kicker, NodeId, Status, Timestamp, UserId};

/// Carries word between the nodes of one hub.
///
/// Word may be lost or late, never wrong: whoever misses some is told, and reads the store again.
pub trait Bus: Send + Sync + 'static {
    /// Passes word on to the other nodes; never waits.
    fn publish(&self, from: NodeId, word: Word);

    /// Starts listening.
    fn listen(&self) -> Ear;
}

/// Something that other nodes must hear.
#[derive(Debug, Clone)]
pub enum Word {
    /// A user's status changed: for the watchers.
    Status {
        /// Whose.
        user: UserId,
        /// The new one.
        status: Status,
    },
    /// A connection is to be ended: for the node that holds it.
    End {
        /// Which, and why.
        end: End,
        /// Who is behind a kick, and when.
        kick: Option<(Kicker, Timestamp)>,
    },
}

/// Hears what other nodes say.
#[derive(Debug)]
pub struct Ear(tokio::sync::broadcast::Receiver<(NodeId, Word)>);

/// What an [`Ear`] hears next.
#[derive(Debug)]
pub enum Heard {
    /// Word, and from whom.
    Word(NodeId, Word),
    /// Some was missed: whoever watches anybody must read the store again.
    Missed,
    /// The bus is gone.
    Silence,
}

impl Ear {
    /// Waits for word.
    pub async fn next(&mut self) -> Heard {
        use tokio::sync::broadcast::error::RecvError;
        match self.0.recv().await {
            Ok((from, word)) => Heard::Word(from, word),
            Err(RecvError::Lagged(_)) => Heard::Missed,
            Err(RecvError::Closed) => Heard::Silence,
        }
    }
}
