//! Several hubs, each a process of its own, on one redis-server or one Redis Cluster.

mod churn;
mod clocks;
mod cluster;
mod cost;
mod cut_off;
mod dashboard;
mod failover;
mod faults;
mod leaving;
mod together;
mod versions;
mod visibility;
mod watcher;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use self::watcher::Watcher;
use crate::receiver::{Act, Receiver};
use crate::support::{
    Client, RedisCluster, RedisServer, Server, WEBHOOK_SECRET, now_secs, token_with, until,
};

/// How soon all hubs must agree after a fault is over.
const AGREED: Duration = Duration::from_secs(30);

/// What hubs share as their store.
trait Redis {
    /// What `store.redis_url` is set to.
    fn redis_url(&self) -> String;
}

impl Redis for RedisServer {
    fn redis_url(&self) -> String {
        self.url()
    }
}

impl Redis for RedisCluster {
    fn redis_url(&self) -> String {
        self.seeds()
    }
}

/// Hubs on one store, with a webhook receiver. Each has a session that watches some users.
struct Hubs<R = RedisServer> {
    redis: R,
    hubs: Vec<Server>,
    receiver: Receiver,
    watchers: Vec<Watcher>,
    settings: Vec<(&'static str, String)>,
    watched: Vec<String>,
}

impl<R: Redis> Hubs<R> {
    /// Starts three hubs.
    async fn start(redis: R, watched: &[&str], settings: &[(&'static str, &str)]) -> Self {
        let mut all = Self::none(redis, watched, settings).await;
        for _ in 0..3 {
            all.add().await;
        }
        all
    }

    /// Starts no hub yet.
    async fn none(redis: R, watched: &[&str], settings: &[(&'static str, &str)]) -> Self {
        let receiver = Receiver::start(|_| Act::Take(200)).await;
        let common = [
            ("store.kind", "redis".to_owned()),
            ("store.redis_url", redis.redis_url()),
            ("webhook.url", receiver.url()),
            ("webhook.secrets", format!("[\"{WEBHOOK_SECRET}\"]")),
            ("liveness.web_ping", "1s".to_owned()),
            ("liveness.web_silence", "5s".to_owned()),
            ("liveness.web_close_grace", "2s".to_owned()),
            ("limits.changes_per_user_per_minute", "100000".to_owned()),
        ];
        let own = settings.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let settings = common.into_iter().chain(own).collect();
        let watched = watched.iter().map(|user| (*user).to_owned()).collect();
        let (hubs, watchers) = (Vec::new(), Vec::new());
        Self { redis, hubs, receiver, watchers, settings, watched }
    }

    /// Starts another hub.
    async fn add(&mut self) {
        self.add_with(&[], &[]).await;
    }

    /// Starts another hub with settings of its own, through a command that executes it.
    async fn add_with(&mut self, wrapper: &[&str], own: &[(&str, &str)]) {
        let settings = self.settings.iter().map(|(key, value)| (*key, value.as_str()));
        let settings: Vec<_> = settings.chain(own.iter().copied()).collect();
        let hub = Server::under(wrapper, &settings);
        let name = format!("watcher-{}", self.watchers.len());
        self.watchers.push(Watcher::start(&hub, &name, &self.watched).await);
        self.hubs.push(hub);
    }

    /// Removes a hub, with its watcher, before or after its process is ended.
    fn remove(&mut self, index: usize) -> Server {
        self.watchers.remove(index);
        self.hubs.remove(index)
    }

    /// Logs in at a hub; the device is named like the platform.
    async fn login(&self, hub: usize, user: &str, platform: &str) -> (Client, Value) {
        enter(&self.hubs[hub], user, platform, None).await
    }

    /// Resumes the session of a login at a hub.
    async fn resume(&self, hub: usize, user: &str, platform: &str, ok: &Value) -> (Client, Value) {
        enter(&self.hubs[hub], user, platform, Some(ok)).await
    }

    /// The statuses of the watched users, as a hub answers.
    async fn statuses(&self, hub: &Server) -> Option<BTreeMap<String, Value>> {
        let asked = self.watched.iter().map(async |user| {
            let (status, mut body) = hub.call("GET", &format!("/v1/users/{user}"), None).await;
            body.as_object_mut().map(|fields| fields.remove("terminals"));
            (status == 200 && body["version"] != 0).then_some((user.clone(), body))
        });
        let found = join_all(asked).await;
        Some(found.into_iter().flatten().collect())
    }

    /// The last status of each watched user, as the log of a hub says. `None` if a cursor has expired, as it may
    /// while the log begins anew after a FLUSHALL.
    async fn folded(&self, hub: &Server) -> Option<BTreeMap<String, Value>> {
        let (mut statuses, mut after) = (BTreeMap::new(), String::new());
        loop {
            let (status, page) =
                hub.call("GET", &format!("/v1/events?limit=1000{after}"), None).await;
            if status == 410 {
                return None;
            }
            assert_eq!(status, 200, "{page}");
            let events = page["events"].as_array().expect("events");
            if events.is_empty() {
                return Some(statuses);
            }
            self.fold(&mut statuses, events);
            after = format!("&after={}", page["next"].as_str().expect("a cursor"));
        }
    }

    fn fold(&self, statuses: &mut BTreeMap<String, Value>, events: &[Value]) {
        for event in events {
            let user = event["user"].as_str().expect("a user").to_owned();
            if self.watched.contains(&user) {
                statuses.insert(user, event["status"].clone());
            }
        }
    }

    /// What differs: statuses as each hub answers them, as each watcher was told, and as the log and the
    /// webhook say (C7). Empty if nothing does.
    async fn differences(&self) -> String {
        let mut views = Vec::new();
        for (index, (hub, watcher)) in self.hubs.iter().zip(&self.watchers).enumerate() {
            let statuses = self.statuses(hub).await;
            views.push((format!("hub {index}"), statuses.unwrap_or_default()));
            let known = views[0].1.keys().cloned().collect();
            views.push((format!("watcher {index}"), watcher.told(&known)));
            views.push((format!("log of hub {index}"), self.folded(hub).await.unwrap_or_default()));
        }
        let mut posted = BTreeMap::new();
        self.fold(&mut posted, &self.receiver.taken());
        // Users of before a FLUSHALL, whom the store does not know any more.
        posted.retain(|user, _| views.iter().any(|(_, view)| view.contains_key(user)));
        views.push(("webhook".to_owned(), posted));
        // A takeover by a device of the same platform has a new version, and nothing to tell watchers.
        for status in views.iter_mut().flat_map(|(_, view)| view.values_mut()) {
            status.as_object_mut().map(|fields| fields.remove("version"));
        }
        let (_, expected) = &views[0];
        let others = views.iter().filter(|(_, view)| view != expected);
        others.map(|(name, view)| format!("{name}: {view:#?}\nhub 0: {expected:#?}\n")).collect()
    }

    /// Waits until all views of the watched users agree (C7).
    async fn agree(&self) {
        let agreed = async {
            loop {
                let differences = self.differences().await;
                if differences.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(AGREED, agreed).await.is_err() {
            let logs: String = self.hubs.iter().map(last_lines).collect();
            panic!("they do not agree:\n{}{logs}", self.differences().await);
        }
    }

    /// Waits until all hubs are ready.
    async fn until_all_ready(&self) {
        for hub in 0..self.hubs.len() {
            self.until_ready(hub, 200).await;
        }
    }

    /// Waits until a hub answers `/ready` with this status.
    async fn until_ready(&self, hub: usize, status: u16) {
        until(&format!("/ready to be {status}"), async || {
            let answer = self.hubs[hub].http("GET", "/ready").send().await.expect("an answer");
            answer.status().as_u16() == status
        })
        .await;
    }
}

/// The end of a hub's log.
fn last_lines(hub: &Server) -> String {
    let log = hub.log();
    let lines: Vec<_> = log.lines().rev().take(30).collect();
    let lines = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
    format!("the log of {}:\n{lines}\n", hub.address)
}

/// The login of a device that is named like its platform, or the resume of its session.
fn login_of(user: &str, platform: &str, session: Option<&Value>) -> Value {
    // Without `iat`, so that a hub whose clock is slow accepts it, too.
    let token = token_with(json!({ "sub": user, "exp": now_secs() + 3600 }));
    let mut login =
        json!({ "type": "login", "token": token, "platform": platform, "device": platform });
    if let Some(session) = session {
        login["resume"] = session.clone();
    }
    login
}

/// Logs in at a hub, or resumes the session that an earlier login was answered.
async fn enter(
    hub: &Server,
    user: &str,
    platform: &str,
    earlier: Option<&Value>,
) -> (Client, Value) {
    let mut client = hub.connect().await;
    let ok = client.ok(login_of(user, platform, earlier.map(|ok| &ok["session"]))).await;
    (client, ok)
}

/// What a hub lists in `/v1/nodes`: the address and the state of each hub.
async fn nodes(hub: &Server) -> BTreeMap<String, String> {
    let (status, body) = hub.call("GET", "/v1/nodes", None).await;
    assert_eq!(status, 200, "{body}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let nodes = body["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| (text(&node["address"]), text(&node["state"]))).collect()
}
