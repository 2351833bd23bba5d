//! The webhook of each hub, and the receiver that all of them post to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use presence_hub::presence::{EventId, Timestamp};
use presence_hub::webhook::{Filter, Format, PostRequest, PostResult, Settings, Transport};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::network::{LinkId, Network};
use super::server::Server;
use super::world::World;
use crate::lab::{SECOND, id};

/// The receiver's longest time for a request, in milliseconds.
const ANSWER_MS_MAX: u64 = 300;
/// How long an event may be on its way.
const DELIVERED_WITHIN: Duration = Duration::from_secs(3);

/// What the receiver got: the first delivery of each event, in order.
#[derive(Default)]
pub(super) struct Receiver {
    ids: BTreeSet<String>,
    last: BTreeMap<String, Value>,
    /// Events that came after a later one of their user.
    disordered: Vec<String>,
}

impl Receiver {
    fn receive(&mut self, event: &Value) {
        let text = |key: &str| event[key].as_str().expect("a text").to_owned();
        if !self.ids.insert(text("id")) {
            return;
        }
        let version = |event: &Value| event["version"].as_u64();
        // As back ends do: an event that is older than the last one says nothing new.
        match self.last.get(&text("user")) {
            Some(before) if version(before) >= version(event) => {
                self.disordered.push(format!("the webhook posted {event} after {before}"));
            }
            Some(_) | None => drop(self.last.insert(text("user"), event.clone())),
        }
    }
}

/// Posts for one hub.
pub(super) struct Poster {
    pub(super) link: LinkId,
    pub(super) network: Arc<Network>,
}

impl Transport for Poster {
    fn post(
        &self,
        request: PostRequest,
        _: Duration,
        _: Timestamp,
    ) -> BoxFuture<'static, PostResult> {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        let events = body["events"].as_array().expect("events");
        let answer_ms = self.network.with(|state| {
            state.note(&format_args!("link {}: posts {} events", self.link, events.len()));
            events.iter().for_each(|event| state.receiver.receive(event));
            state.random_ms(self.link, ANSWER_MS_MAX)
        });
        // A hub that is killed meanwhile does not get the answer, and another one posts again.
        sleep(Duration::from_millis(answer_ms)).map(|()| PostResult::Accepted).boxed()
    }
}

/// The settings of every hub's webhook.
pub(super) fn settings() -> Settings {
    Settings {
        filter: Filter::default(),
        url: "http://localhost/".parse().expect("a URL"),
        format: Format::Native(Vec::new()),
        timeout: 10 * SECOND,
        give_up_after: 24 * 3600 * SECOND,
        parallel: 4,
    }
}

impl World {
    /// What the receiver got is what the log has and the store holds.
    pub(super) fn check_webhook(&self) -> Vec<String> {
        self.network.with(|state| {
            let (log, receiver) = (&state.server.log, &state.receiver);
            let mut wrong = Vec::new();
            // A lost commit may have been posted, and no node may know of its version any more.
            if !self.loses_commits {
                wrong.extend(receiver.disordered.iter().cloned());
            }
            let due = log.iter().filter(|logged| logged.at + DELIVERED_WITHIN < state.server.now);
            for logged in due.clone() {
                let (id, place) = logged.transition.id;
                if !receiver.ids.contains(&format!("{id}-{place}")) {
                    wrong.push(format!("the webhook did not post {logged:?}"));
                }
            }
            for (user, event) in &receiver.last {
                let Some(last) = state.server.last_logged(&id(user)) else { continue };
                let mut status = serde_json::to_value(&last.status).expect("JSON");
                status["user"] = json!(user);
                if due.clone().any(|logged| logged.transition.id == last.id)
                    && event["status"] != status
                    && !self.is_forgotten(&state.server, event)
                {
                    wrong.push(format!("{user} is {status} in the log, and was posted as {event}"));
                }
            }
            wrong
        })
    }

    /// Whether the store has lost a posted event, and the node that could have committed it again was killed.
    fn is_forgotten(&self, server: &Server, event: &Value) -> bool {
        let is_it = |(id, place): (EventId, u8)| event["id"] == json!(format!("{id}-{place}"));
        let by = server.lost.iter().find(|(id, _)| is_it(**id)).map(|(_, node)| *node);
        by.is_some_and(|by| self.nodes.iter().flatten().all(|node| node.id() != by))
    }
}
