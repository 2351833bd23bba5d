//! Several hubs, each a process of its own, on one redis-server.

mod cost;
mod dashboard;
mod faults;
mod together;
mod versions;
mod watcher;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use self::watcher::Watcher;
use crate::receiver::{Act, Receiver};
use crate::support::{Client, RedisServer, Server, WEBHOOK_SECRET, token, until};

/// How soon all hubs must agree after a fault is over.
const AGREED: Duration = Duration::from_secs(30);

/// Hubs on one redis-server, with a webhook receiver. Each has a session that watches some users.
struct Hubs {
    redis: RedisServer,
    hubs: Vec<Server>,
    receiver: Receiver,
    watchers: Vec<Watcher>,
    settings: Vec<(&'static str, String)>,
    watched: Vec<String>,
}

impl Hubs {
    /// Starts three hubs.
    async fn start(
        redis: RedisServer,
        watched: &[&str],
        settings: &[(&'static str, &str)],
    ) -> Self {
        let receiver = Receiver::start(|_| Act::Take(200)).await;
        let common = [
            ("store.kind", "redis".to_owned()),
            ("store.redis_url", redis.url()),
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
        let mut all = Self { redis, hubs, receiver, watchers, settings, watched };
        for _ in 0..3 {
            all.add().await;
        }
        all
    }

    /// Starts another hub.
    async fn add(&mut self) {
        let settings: Vec<_> = self.settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let hub = Server::start(&settings);
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
        self.hubs[hub].login(user, platform).await
    }

    /// Resumes the session of a login at a hub.
    async fn resume(&self, hub: usize, user: &str, platform: &str, ok: &Value) -> (Client, Value) {
        let mut client = self.hubs[hub].connect().await;
        let login = json!({
            "type": "login", "token": token(user), "platform": platform, "device": platform,
            "resume": ok["session"],
        });
        let ok = client.ok(login).await;
        (client, ok)
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

    /// The last status of each watched user, as the log of a hub says.
    async fn folded(&self, hub: &Server) -> BTreeMap<String, Value> {
        let (mut statuses, mut after) = (BTreeMap::new(), String::new());
        loop {
            let (status, page) =
                hub.call("GET", &format!("/v1/events?limit=1000{after}"), None).await;
            assert_eq!(status, 200, "{page}");
            let events = page["events"].as_array().expect("events");
            if events.is_empty() {
                return statuses;
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
            views.push((format!("log of hub {index}"), self.folded(hub).await));
        }
        let mut posted = BTreeMap::new();
        self.fold(&mut posted, &self.receiver.taken());
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
            panic!("they do not agree:\n{}", self.differences().await);
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
