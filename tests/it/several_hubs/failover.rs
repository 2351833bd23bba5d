//! A Redis that fails over to a replica which lacks the last writes.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Hubs, Redis};
use crate::support::{Client, Proxy, RedisServer, cut_off, until, until_replicated};

const USERS: [&str; 4] = ["stays", "phone", "leaves", "comes"];
/// Clients read only now and then.
const PATIENT: [(&str, &str); 2] = [("liveness.web_silence", "60s"), ("login.policy", "multi")];

/// A primary and its replica, behind one address.
struct Pair {
    primary: RedisServer,
    replica: RedisServer,
    proxy: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let primary = RedisServer::start();
        let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
        until_replicated(&replica, &primary).await;
        let proxy = Proxy::start(primary.port()).await;
        Self { primary, replica, proxy }
    }

    /// The replica takes the place of the primary, which stands still.
    fn fail_over(&self) {
        self.primary.signal(Signal::STOP);
        let () = self.replica.run("REPLICAOF NO ONE");
        self.proxy.lead_to(self.replica.port());
    }
}

impl Redis for Pair {
    fn redis_url(&self) -> String {
        self.proxy.url()
    }
}

/// The last version of each user that any watcher was told.
pub(super) fn versions<R: Redis>(hubs: &Hubs<R>, users: &[&str]) -> BTreeMap<String, u64> {
    let version = |user: &str| {
        let told = hubs.watchers.iter().filter_map(|watcher| watcher.last(user));
        told.filter_map(|(_, status)| status["version"].as_u64()).max().unwrap_or_default()
    };
    users.iter().map(|user| ((*user).to_owned(), version(user))).collect()
}

/// Asserts that the hubs have said again, with greater versions, what was lost of these users.
pub(super) async fn assert_said_again<R: Redis>(hubs: &Hubs<R>, lost: &BTreeMap<String, u64>) {
    for (user, version) in lost {
        let path = format!("/v1/users/{user}/history?limit=100");
        let (_, history) = hubs.hubs[0].call("GET", &path, None).await;
        let events = history["events"].as_array().expect("events");
        let recovered = events.iter().find(|event| event["cause"] == "recovered");
        let again = recovered.unwrap_or_else(|| panic!("{user}: {events:#?}"));
        assert!(again["status"]["version"].as_u64() > Some(*version), "{user}: {again}");
        for hub in &hubs.hubs {
            assert!(hub.user(user).await["version"].as_u64() > Some(*version), "{user}");
        }
    }
}

/// Sets a custom status as soon as the store accepts it.
pub(super) async fn set_when_possible(client: &mut Client, custom: &str) {
    until("a change to be accepted", async || {
        let reply = client.request(json!({ "type": "set", "custom": custom })).await;
        reply.get("ok").is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_that_loses_the_last_writes_is_healed_by_the_hubs() {
    let hubs = Hubs::start(Pair::start().await, &USERS, &PATIENT).await;
    let (mut stays, _) = hubs.login(0, "stays", "web").await;
    let (mut phone, _) = hubs.login(1, "phone", "ios").await;
    let (leaves, _) = hubs.login(2, "leaves", "linux").await;
    stays.ok(json!({ "type": "set", "custom": "kept" })).await;
    hubs.agree().await;

    cut_off(&hubs.redis.replica, &hubs.redis.primary);
    stays.ok(json!({ "type": "set", "custom": "lost" })).await;
    phone.ok(json!({ "type": "set", "custom": "away" })).await;
    drop((phone, leaves));
    let (mut comes, _) = hubs.login(2, "comes", "mac").await;
    hubs.hubs[0].until_state("phone", "PushOnline").await;
    hubs.hubs[0].until_state("leaves", "Offline").await;
    hubs.agree().await;
    let lost = versions(&hubs, &USERS);
    let told: Vec<_> = hubs.watchers.iter().map(|watcher| watcher.all().len()).collect();
    hubs.redis.fail_over();

    hubs.until_all_ready().await;
    for (user, field, wanted) in [
        ("stays", "custom", json!("lost")),
        ("phone", "state", json!("PushOnline")),
        ("phone", "custom", json!("away")),
        ("leaves", "state", json!("Offline")),
        ("comes", "state", json!("Online")),
    ] {
        until(&format!("{user} to be as before"), async || {
            let statuses = futures::future::join_all(hubs.hubs.iter().map(|hub| hub.user(user)));
            statuses.await.iter().all(|status| {
                status[field] == wanted && status["version"].as_u64() > lost.get(user).copied()
            })
        })
        .await;
    }
    hubs.agree().await;
    assert_said_again(&hubs, &lost).await;
    for (watcher, before) in hubs.watchers.iter().zip(told) {
        let later = watcher.all().split_off(before);
        let stays_online = |status: &Value| status["state"] == "Online";
        let of = |user: &str| later.iter().filter(|it| it["user"] == user).collect::<Vec<_>>();
        assert!(of("stays").into_iter().all(stays_online), "{later:#?}");
        assert!(of("comes").into_iter().all(stays_online), "{later:#?}");
    }
    for client in [&mut stays, &mut comes] {
        set_when_possible(client, "after").await;
    }
    hubs.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p3_hide_and_block_that_were_answered_survive_a_failover_that_loses_them() {
    const USERS: [&str; 2] = ["hides", "blocks"];
    let hubs = Hubs::start(Pair::start().await, &USERS, &PATIENT).await;
    let (mut hides, _) = hubs.login(0, "hides", "web").await;
    let (mut blocks, _) = hubs.login(1, "blocks", "web").await;
    hubs.agree().await;

    cut_off(&hubs.redis.replica, &hubs.redis.primary);
    let see = async |hub: usize, user: &str, body: Value| {
        let path = format!("/v1/users/{user}/visibility");
        let (status, view) = hubs.hubs[hub].call("PUT", &path, Some(body)).await;
        assert_eq!(status, 200, "{view}");
        (path, view)
    };
    // Neither at the hub of the user's session.
    let hidden = see(1, "hides", json!({ "hidden": true })).await;
    let blocked = see(2, "blocks", json!({ "blocked": ["watcher-1"] })).await;
    for watcher in &hubs.watchers {
        watcher.until_told("hides", "state", &json!("Offline")).await;
    }
    hubs.watchers[1].until_told("blocks", "state", &json!("Offline")).await;
    let lost = versions(&hubs, &USERS);
    hubs.redis.fail_over();

    hubs.until_all_ready().await;
    for (user, (path, view)) in USERS.iter().zip([hidden, blocked]) {
        until(&format!("{user} to be as before"), async || {
            for hub in &hubs.hubs {
                let (status, now) = hub.call("GET", &path, None).await;
                let version = hub.user(user).await["version"].as_u64();
                if status != 200 || now != view || version <= lost.get(*user).copied() {
                    return false;
                }
            }
            true
        })
        .await;
    }
    assert_said_again(&hubs, &lost).await;
    set_when_possible(&mut hides, "unseen").await;
    set_when_possible(&mut blocks, "seen").await;
    for watcher in [0, 2] {
        hubs.watchers[watcher].until_told("blocks", "custom", &json!("seen")).await;
    }
    let seen_once = ["Offline", "Online", "Offline"];
    for (n, watcher) in hubs.watchers.iter().enumerate() {
        assert_eq!(watcher.states("hides"), seen_once, "watcher {n}");
    }
    assert_eq!(hubs.watchers[1].states("blocks"), seen_once);
}
