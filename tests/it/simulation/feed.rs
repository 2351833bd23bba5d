//! The messages to a hub: numbered for each part, so that a hub notices when one is missing.

use std::collections::BTreeMap;
use std::fmt;

use futures::channel::mpsc;
use presence_hub::presence::NodeId;
use presence_hub::store::{Cursor, Part, Received};

use super::server::Published;
use super::switch::Switch;

/// What the server tells a link.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// What a commit tells the other nodes.
    Message(Published),
    /// The number of each part's last message, and the end of the log, which the server sends four times a second.
    Numbers(BTreeMap<Part, u64>, Cursor),
    /// Another server serves the part, and counts on from this number.
    FailedOver(Part, u64),
    /// The connection was lost and is back, and the numbers are these.
    Connected(BTreeMap<Part, u64>),
}

/// Listens for one hub.
pub(super) struct Ear {
    node: NodeId,
    /// The number of the last message of each part.
    heard: BTreeMap<Part, u64>,
    hub: mpsc::Sender<Received>,
}

impl Ear {
    pub(super) const fn new(
        node: NodeId,
        heard: BTreeMap<Part, u64>,
        hub: mpsc::Sender<Received>,
    ) -> Self {
        Self { node, heard, hub }
    }

    /// Decides what the hub is told.
    pub(super) fn hear(&mut self, word: Word, broken: Option<Switch>) -> Vec<Received> {
        match word {
            Word::Message(published) => self.hear_message(&published, broken),
            Word::Numbers(numbers, _) => {
                let gaps = numbers.into_iter().filter(|(part, number)| self.is_gap(*part, *number));
                let gaps: Vec<_> = gaps.collect();
                self.heard.extend(gaps.iter().copied());
                let missed = gaps.into_iter().map(|(part, _)| Received::Missed(part));
                missed.filter(|_| broken != Some(Switch::NoGapCheck)).collect()
            }
            Word::FailedOver(part, number) => {
                self.heard.insert(part, number);
                match broken {
                    Some(Switch::NoReconcile) => Vec::new(),
                    _ => vec![Received::Missed(part)],
                }
            }
            Word::Connected(numbers) => {
                self.heard = numbers;
                vec![Received::Missed(Part::ALL)]
            }
        }
    }

    fn hear_message(&mut self, published: &Published, broken: Option<Switch>) -> Vec<Received> {
        let Published { from, part, number, message } = published;
        let last = self.heard.get(part).copied().unwrap_or_default();
        if *number <= last {
            return Vec::new();
        }
        let is_gap = self.is_gap(*part, number - 1);
        self.heard.insert(*part, *number);
        let missed = (is_gap && broken != Some(Switch::NoGapCheck)).then_some(*part);
        let message = (*from != self.node).then(|| Received::Message(message.clone()));
        missed.map(Received::Missed).into_iter().chain(message).collect()
    }

    fn is_gap(&self, part: Part, number: u64) -> bool {
        number > self.heard.get(&part).copied().unwrap_or_default()
    }

    /// Tells the hub. A hub that was killed hears nothing.
    pub(super) fn pass_on(&mut self, received: Received) {
        if let Err(error) = self.hub.try_send(received) {
            assert!(error.is_disconnected(), "a hub's queue of messages is full");
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(published) => {
                write!(f, "message {} about {}", published.number, published.message.user)
            }
            Self::Numbers(..) => f.write_str("the numbers"),
            Self::FailedOver(part, _) => write!(f, "the failover of {part:?}"),
            Self::Connected(_) => f.write_str("the new connection"),
        }
    }
}
