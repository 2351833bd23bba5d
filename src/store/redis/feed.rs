//! Receives the messages and ticks of all partitions, on a connection of its own to each primary.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use super::fault::Fault;
use super::link::Link;
use super::place::Place;
use super::sequence::{Heard, Sequence};
use super::state::State;
use crate::clock::monotonic;
use crate::presence::NodeId;
use crate::store::Message;

/// The maximum number of messages that were received and not handled. If there are more, they are missed,
/// which their numbers show.
const PENDING_MAX: usize = 65_536;
/// A partition that was not heard for this long is missed: ticks come four times a second.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How often silence is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After a partition was silent for so long, the connection is made again.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(100);

/// What one push message says.
enum Word<'a> {
    /// A message of a node: its number, and itself as JSON.
    Message {
        number: u64,
        node: NodeId,
        json: &'a str,
    },
    Tick(Place),
}

/// Reads the text of a message: `number node JSON`, or `= place`.
fn parse(text: &str) -> Option<Word<'_>> {
    if let Some(place) = text.strip_prefix("= ") {
        return Some(Word::Tick(place.parse().ok()?));
    }
    let (number, rest) = text.split_once(' ')?;
    let (node, json) = rest.split_once(' ')?;
    let node = NodeId(u64::from_str_radix(node, 16).ok()?);
    Some(Word::Message { number: number.parse().ok()?, node, json })
}

/// Why a feed connection ended.
enum Ended {
    Lost,
    Silent,
    /// The server unsubscribed this node: another one has the partition now.
    Unsubscribed,
}

/// The feed of the partitions of one primary.
struct Feed<'a> {
    state: &'a State,
    parts: &'a [u32],
    sequences: Vec<Sequence>,
    /// When each partition was last heard.
    heard: Vec<Instant>,
    /// The partitions that were silent when last looked at.
    silent: Vec<u32>,
}

impl State {
    /// Receives the feed of all partitions. Never returns.
    pub(super) async fn hear(&self) {
        let mut changes = self.router.changes();
        loop {
            changes.borrow_and_update();
            let shares = self.router.shares();
            let feeds = shares.iter().map(|(link, parts)| self.hear_from(link, parts));
            tokio::select! {
                _ = join_all(feeds) => (),
                // `changed` cannot fail: the router owns the sender.
                _ = changes.changed() => self.missed(&self.grid.parts().collect::<Vec<_>>()),
            }
        }
    }

    /// Receives the feed of one primary. Never returns.
    async fn hear_from(&self, link: &Link, parts: &[u32]) {
        loop {
            match self.subscribe(link, parts).await {
                Ok((connection, mut pushes)) => {
                    // What was published before the subscription is missed.
                    self.missed(parts);
                    let cause = match Feed::new(self, parts).receive(&mut pushes).await {
                        Ended::Lost => "the connection was lost",
                        Ended::Silent => "it was silent",
                        Ended::Unsubscribed => "another server has the partition",
                    };
                    drop(connection);
                    tracing::warn!(
                        server = link.name,
                        cause,
                        "feed of Redis ended, subscribing again"
                    );
                }
                Err(fault) => tracing::debug!(%fault, "cannot subscribe to the feed, retrying"),
            }
            sleep(PAUSE).await;
            self.router.refresh().await;
        }
    }

    async fn subscribe(
        &self,
        link: &Link,
        parts: &[u32],
    ) -> Result<(MultiplexedConnection, mpsc::Receiver<PushInfo>), Fault> {
        let (pushed, pushes) = mpsc::channel(PENDING_MAX);
        let connection = link.connect_feed(move |push| pushed.try_send(push).map_err(drop)).await?;
        // One command for each channel: a server refuses several channels of different slots in one.
        let subscriptions = parts.iter().map(|part| {
            let mut connection = connection.clone();
            async move {
                let mut subscribe = cmd("SSUBSCRIBE");
                subscribe.arg(&self.keys(*part).feed);
                let subscribed = subscribe.query_async::<Value>(&mut connection);
                match timeout(self.settings.timeout, subscribed).await {
                    Err(_) => Err(Fault::timeout(&link.name)),
                    Ok(answer) => answer.map(drop).map_err(|error| Fault::of(&link.name, &error)),
                }
            }
        });
        join_all(subscriptions).await.into_iter().collect::<Result<(), _>>()?;
        Ok((connection, pushes))
    }

    /// Notes that messages of partitions were missed.
    fn missed(&self, parts: &[u32]) {
        if self.listeners.is_empty() {
            return;
        }
        for part in parts {
            self.metrics.missed();
            self.listeners.missed(self.part(*part));
        }
    }
}

impl<'a> Feed<'a> {
    fn new(state: &'a State, parts: &'a [u32]) -> Self {
        let all = state.grid.partitions() as usize;
        let places = state.places.lock();
        // A message between the last known place and the subscription is a gap.
        let sequences = state.grid.parts().map(|part| Sequence::after(places.message(part)));
        let sequences = sequences.collect();
        drop(places);
        Self { state, parts, sequences, heard: vec![monotonic(); all], silent: Vec::new() }
    }

    async fn receive(&mut self, pushes: &mut mpsc::Receiver<PushInfo>) -> Ended {
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                push = pushes.recv() => {
                    let Some(push) = push.filter(|it| it.kind != PushKind::Disconnection) else {
                        return Ended::Lost;
                    };
                    if push.kind == PushKind::SUnsubscribe {
                        return Ended::Unsubscribed;
                    }
                    if push.kind == PushKind::SMessage {
                        self.handle(&push.data);
                    }
                }
                _ = looks.tick() => if self.is_given_up() {
                    return Ended::Silent;
                },
            }
        }
    }

    fn handle(&mut self, data: &[Value]) {
        let [Value::BulkString(channel), Value::BulkString(text)] = data else { return };
        let Some(part) = self.state.keys.part_of_feed(channel) else { return };
        let Some(word) = str::from_utf8(text).ok().and_then(parse) else {
            return self.state.missed(&[part]);
        };
        self.heard[part as usize] = monotonic();
        let sequence = &mut self.sequences[part as usize];
        match word {
            Word::Tick(place) => {
                if sequence.tick(place.message) == Heard::Missed {
                    self.state.missed(&[part]);
                }
                self.state.note_place(part, place);
            }
            Word::Message { number, node, json } => {
                if sequence.message(number) == Heard::Missed {
                    self.state.missed(&[part]);
                }
                // A node is not told of its own commits.
                if self.state.node() != Some(node) {
                    self.tell(part, json);
                }
            }
        }
    }

    fn tell(&self, part: u32, json: &str) {
        match serde_json::from_str::<Message>(json) {
            Ok(message) => self.state.listeners.tell(self.state.part(part), &Arc::new(message)),
            // It is of a newer version: the record says what it is about.
            Err(_) => self.state.missed(&[part]),
        }
    }

    /// Notes the partitions that have become silent; returns whether one was silent for too long.
    fn is_given_up(&mut self) -> bool {
        let now = monotonic();
        let silence = |part: u32| now.saturating_duration_since(self.heard[part as usize]);
        let silent: Vec<_> =
            self.parts.iter().copied().filter(|p| silence(*p) > SILENT_MAX).collect();
        let is_given_up = silent.iter().any(|part| silence(*part) > GIVE_UP_AFTER);
        let new = silent.iter().copied().filter(|part| !self.silent.contains(part));
        self.state.missed(&new.collect::<Vec<_>>());
        self.silent = silent;
        is_given_up
    }
}
