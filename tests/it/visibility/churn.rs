//! P7, P8 under load: watch lists change up to 1,000 times a second, while the users on them change, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{done, viewer};
use crate::support::{Client, SOON, Server, now_millis, until};

/// The users who change, and who are put on the lists and taken off.
const TARGETS: usize = 24;
const VIEWERS: usize = 4;
/// How many callers of the server API change one list at once. Each has targets of its own, so that it knows which of
/// them are on the list.
const CALLERS: usize = 2;
/// How many users one call adds or removes.
const NAMED: usize = 10;
const CALLS: usize = 60;
/// The pause of one caller between two calls: all together make 1,000 changes a second, if the machine is not too busy.
const EVERY: Duration = Duration::from_millis(80);
/// The pause of one target between two changes.
const TARGET_EVERY: Duration = Duration::from_millis(100);

pub(crate) const SETTINGS: [(&str, &str); 6] = [
    // At the end the targets read no more.
    ("liveness.web_silence", "300s"),
    ("limits.requests_per_key_per_second", "1000000"),
    ("limits.request_burst", "1000000"),
    ("limits.changes_per_user_per_minute", "100000"),
    ("limits.messages_per_second", "100000"),
    ("limits.message_burst", "100000"),
];

fn target(n: usize) -> String {
    format!("target-{n}")
}

/// What a viewer was told.
#[derive(Default)]
struct View {
    /// Who is on the list, with the latest status.
    listed: BTreeMap<String, Value>,
    /// The latest version of everybody who was ever on it.
    versions: BTreeMap<String, u64>,
    /// What must not come.
    faults: Vec<String>,
}

impl View {
    fn hear(&mut self, message: &Value) {
        let user_of = |status: &Value| status["user"].as_str().expect("a user").to_owned();
        match message["type"].as_str() {
            Some("watch_list") => {
                for status in message["added"].as_array().expect("a list") {
                    let user = user_of(status);
                    self.note_version(&user, status, "added", |known, new| new >= known);
                    if self.listed.insert(user, status.clone()).is_some() {
                        self.faults.push(format!("added twice: {message}"));
                    }
                }
                for user in message["removed"].as_array().expect("a list") {
                    if self.listed.remove(user.as_str().expect("a user")).is_none() {
                        self.faults.push(format!("removed twice: {message}"));
                    }
                }
            }
            Some("status") => {
                let user = user_of(message);
                self.note_version(&user, message, "pushed", |known, new| new > known);
                match self.listed.get_mut(&user) {
                    Some(status) => *status = message.clone(),
                    None => self.faults.push(format!("not on the list: {message}")),
                }
            }
            _ => self.faults.push(format!("not expected: {message}")),
        }
    }

    fn note_version(&mut self, user: &str, status: &Value, how: &str, fits: fn(u64, u64) -> bool) {
        let version = status["version"].as_u64().expect("a version");
        let known = self.versions.insert(user.to_owned(), version);
        if let Some(known) = known.filter(|known| !fits(*known, version)) {
            self.faults.push(format!("{how} after the version {known}: {status}"));
        }
    }
}

/// A session that follows its watch list and reads all the time.
struct Viewer {
    name: String,
    hub: usize,
    view: Arc<Mutex<View>>,
    /// The number of pings, and the socket that they are sent on.
    pings: tokio::sync::Mutex<(u64, SplitSink<WebSocketStream<TcpStream>, Message>)>,
    /// The last ping that was answered.
    answered: watch::Receiver<u64>,
}

impl Viewer {
    /// Follows a list that is still empty.
    async fn start(hubs: &[&Server], n: usize) -> Self {
        let (name, hub) = (format!("viewer-{n}"), n % hubs.len());
        let mut client = viewer(hubs[hub], &name, json!([])).await;
        let page = client.ok(json!({ "type": "subscribe", "watch_list": true })).await;
        assert_eq!(page["count"], 0, "{page}");
        let (sink, stream) = client.socket.split();
        let (answers, answered) = watch::channel(0);
        let view = Arc::<Mutex<View>>::default();
        tokio::spawn(read(stream, Arc::clone(&view), answers));
        Self { name, hub, view, pings: tokio::sync::Mutex::new((0, sink)), answered }
    }

    /// Reads all that the hub has sent until now.
    async fn catch_up(&self) {
        let mut pings = self.pings.lock().await;
        pings.0 += 1;
        let number = pings.0;
        let ping = json!({ "type": "ping", "id": number }).to_string();
        pings.1.send(Message::text(ping)).await.expect("to send");
        drop(pings);
        let mut answered = self.answered.clone();
        let answer = timeout(SOON, answered.wait_for(|last| *last >= number)).await;
        answer.expect("an answer in time").expect("a session that is open");
    }

    fn list(&self) -> String {
        format!("/v1/users/{}/watch-list", self.name)
    }

    /// Changes some of a caller's targets again and again. After each answer of the session's own hub, the session
    /// must know of the change.
    async fn change_list(&self, hubs: &[&Server], caller: usize) -> usize {
        let own: Vec<_> = (0..TARGETS).filter(|n| n % CALLERS == caller).map(target).collect();
        let (mut on, mut changes) = (BTreeSet::new(), 0);
        let mut pause = tokio::time::interval(EVERY);
        for call in 0..CALLS {
            pause.tick().await;
            let some: Vec<_> = own.sample(&mut rand::rng(), NAMED).cloned().collect();
            let (remove, add): (Vec<_>, Vec<_>) = some.into_iter().partition(|it| on.contains(it));
            changes += NAMED;
            on.extend(add.iter().cloned());
            on.retain(|user| !remove.contains(user));
            let hub = (self.hub + call) % hubs.len();
            let body = json!({ "add": add, "remove": remove });
            done(hubs[hub], "PATCH", &self.list(), body).await;
            if hub != self.hub {
                continue;
            }
            self.catch_up().await;
            let mut view = self.view.lock();
            let late: Vec<_> = own
                .iter()
                .filter(|user| view.listed.contains_key(*user) != on.contains(*user))
                .collect();
            if !late.is_empty() {
                let fault = format!("not told before the answer of call {call}: {late:?}");
                view.faults.push(fault);
            }
        }
        changes
    }

    /// Whether the session knows the list, and of everybody on it what is true.
    async fn knows(&self, hub: &Server, truth: &BTreeMap<String, Value>) -> bool {
        self.catch_up().await;
        let (_, list) = hub.call("GET", &self.list(), None).await;
        let view = self.view.lock();
        let is_true = |(user, status): (&String, &Value)| {
            ["state", "platforms", "custom", "since", "last_seen"]
                .iter()
                .all(|field| status[*field] == truth[user][*field])
        };
        list["users"] == json!(view.listed.keys().collect::<Vec<_>>())
            && view.listed.iter().all(is_true)
    }
}

async fn read(
    mut stream: SplitStream<WebSocketStream<TcpStream>>,
    view: Arc<Mutex<View>>,
    answers: watch::Sender<u64>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match message["id"].as_u64() {
            Some(id) if message["type"] == "reply" => drop(answers.send_replace(id)),
            _ => view.lock().hear(&message),
        }
    }
}

/// Changes a target until it is told to stop: its custom status, and at times it leaves and comes back. The first
/// one also hides, and shows itself at the end.
async fn change_target(hubs: &[&Server], n: usize, stop: &AtomicBool) -> Client {
    let (user, hub) = (target(n), hubs[n % hubs.len()]);
    let path = format!("/v1/users/{user}/visibility");
    let (mut client, _) = hub.login(&user, "web").await;
    let mut pause = tokio::time::interval(TARGET_EVERY);
    for round in 1_u64.. {
        pause.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if n == 0 {
            done(hub, "PUT", &path, json!({ "hidden": round % 2 == 1 })).await;
        } else if round.is_multiple_of(8) {
            client.ok(json!({ "type": "logout" })).await;
            client = hub.login(&user, "web").await.0;
        } else {
            client.ok(json!({ "type": "set", "custom": round.to_string() })).await;
        }
    }
    if n == 0 {
        done(hub, "PUT", &path, json!({ "hidden": false })).await;
    }
    client.ok(json!({ "type": "set", "custom": "at the end" })).await;
    if n % 3 == 1 {
        client.ok(json!({ "type": "logout" })).await;
    }
    client
}

/// How many users all sessions watch, as the hubs count it.
async fn watched(hubs: &[&Server]) -> u64 {
    let count = async |hub: &Server| {
        let metrics = hub.http("GET", "/metrics").send().await.expect("an answer");
        let metrics = metrics.text().await.expect("a text");
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("presence_hub_subscriptions "));
        line.expect("the metric").parse::<u64>().expect("a number")
    };
    join_all(hubs.iter().map(|hub| count(hub))).await.into_iter().sum()
}

/// Changes lists and those who are on them, at hubs in turn. Then asserts that no session missed anything, and that
/// none was told of anybody who was not on its list. Returns how fast it was.
pub(crate) async fn churn(hubs: &[&Server]) -> String {
    let before = watched(hubs).await;
    let viewers = join_all((0..VIEWERS).map(|n| Viewer::start(hubs, n))).await;
    let stop = AtomicBool::new(false);
    let targets = join_all((0..TARGETS).map(|n| change_target(hubs, n, &stop)));
    let begun = now_millis();
    let lists = async {
        let callers = viewers.iter().flat_map(|it| (0..CALLERS).map(move |n| (it, n)));
        let changes = join_all(callers.map(|(viewer, n)| viewer.change_list(hubs, n))).await;
        stop.store(true, Ordering::Relaxed);
        (changes.into_iter().sum::<usize>(), now_millis() - begun)
    };
    let (_targets, (changes, ms)) = tokio::join!(targets, lists);

    let mut truth = BTreeMap::new();
    for user in (0..TARGETS).map(target) {
        truth.insert(user.clone(), hubs[0].user(&user).await);
    }
    for viewer in &viewers {
        until(&format!("{} to know all", viewer.name), async || {
            viewer.knows(hubs[viewer.hub], &truth).await
        })
        .await;
    }
    for viewer in &viewers {
        viewer.catch_up().await;
        assert_eq!(viewer.view.lock().faults, [""; 0], "{}", viewer.name);
    }
    let listed: usize = viewers.iter().map(|viewer| viewer.view.lock().listed.len()).sum();
    assert!(listed > 0, "the lists ended empty");
    assert_eq!(watched(hubs).await, before + listed as u64, "nobody else is watched");
    format!("{changes} changes of watch lists in {ms} ms")
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_p8_nothing_is_lost_or_extra_while_many_lists_change_at_once() {
    let hub = Server::start(&SETTINGS);
    eprintln!("{}", churn(&[&hub]).await);
}
