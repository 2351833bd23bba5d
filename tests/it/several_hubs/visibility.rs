//! P5, P7, P8 between hubs: what one hub changes counts on the others.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Hubs;
use crate::support::{Client, RedisServer, now_secs, token_with, until};
use crate::visibility::churn::{self, churn};
use crate::visibility::twin::{Eye, live, part};

const SETTINGS: [(&str, &str); 4] = [
    ("liveness.push_online_ttl", "300ms"),
    ("limits.lookups_per_user_per_minute", "1000000"),
    ("limits.messages_per_second", "100000"),
    ("limits.message_burst", "100000"),
];
/// How soon a change counts on another hub.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn p5_viewers_at_every_hub_cannot_tell_a_hidden_user_from_an_offline_one() {
    let hubs = Hubs::start(RedisServer::start(), &["nobody"], &SETTINGS).await;
    let _there = part(&hubs.hubs[0], json!({ "hidden": true })).await;
    let all: Vec<_> = hubs.hubs.iter().collect();
    let mut eyes = Vec::new();
    for (hub, viewer) in all.iter().zip(["vic", "wen", "xia"]) {
        eyes.push(Eye::open(hub, viewer).await);
    }
    live(&all, &mut eyes).await;
}

async fn viewer(hubs: &Hubs, hub: usize, watch: Value) -> Client {
    let mut client = hubs.hubs[hub].connect().await;
    let token = token_with(json!({ "sub": "vic", "exp": now_secs() + 3600, "watch": watch }));
    let device = format!("d{hub}");
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": device });
    client.ok(login).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_p8_a_change_of_a_list_counts_on_every_hub() {
    let hubs =
        Hubs::start(RedisServer::start(), &["nobody"], &[("login.max_instances.web", "3")]).await;
    let path = "/v1/users/vic/watch-list";
    let change = async |hub: usize, body: Value| {
        let (status, answer) = hubs.hubs[hub].call("PATCH", path, Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    };
    change(0, json!({ "add": ["ana"] })).await;
    let (mut ana, _) = hubs.login(1, "ana", "web").await;
    let mut viewers = Vec::new();
    for hub in 0..3 {
        let mut vic = viewer(&hubs, hub, json!([])).await;
        let page = vic.ok(json!({ "type": "subscribe", "watch_list": true })).await;
        assert_eq!(page["statuses"][0]["user"], "ana", "hub {hub}");
        viewers.push(vic);
    }
    change(0, json!({ "remove": ["ana"], "add": ["bo"] })).await;
    for vic in &mut viewers {
        let told = timeout(SOON, vic.message()).await.expect("the change in time");
        assert_eq!((&told["type"], &told["removed"]), (&json!("watch_list"), &json!(["ana"])));
        assert_eq!(told["added"][0]["user"], "bo");
    }
    ana.ok(json!({ "type": "set", "custom": "unseen" })).await;
    let (_bo, _) = hubs.login(2, "bo", "web").await;
    for vic in &mut viewers {
        let told = timeout(SOON, vic.message()).await.expect("the login in time");
        assert_eq!(told["user"], "bo", "{told}");
    }
}

/// Asserts that every hub hides `hides` from everybody, and `blocks` from vic only, whose sessions both are Online.
async fn assert_unseen(hubs: &Hubs, views: &[(&str, Value)], after: &str) {
    for (n, hub) in hubs.hubs.iter().enumerate() {
        for (user, view) in views {
            let (_, now) = hub.call("GET", &format!("/v1/users/{user}/visibility"), None).await;
            assert_eq!(now, *view, "{user} at hub {n} after {after}");
            assert_eq!(hub.user(user).await["state"], "Online", "{user} after {after}");
        }
        for (viewer, expected) in [("vic", ["Offline", "Offline"]), ("wen", ["Offline", "Online"])]
        {
            let (mut client, _) = hubs.login(n, viewer, "web").await;
            let asked = client.ok(json!({ "type": "query", "users": ["hides", "blocks"] })).await;
            let seen = [0, 1].map(|user| asked["statuses"][user]["state"].clone());
            assert_eq!(json!(seen), json!(expected), "{viewer} at hub {n} after {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p3_hidden_and_blocked_outlive_a_move_a_restart_a_kill_and_being_forgotten() {
    const USERS: [&str; 2] = ["hides", "blocks"];
    let settings =
        [("store.record_ttl", "2s"), ("liveness.web_silence", "60s"), ("server.drain", "200ms")];
    let mut hubs = Hubs::start(RedisServer::start(), &["nobody"], &settings).await;
    let mut views = Vec::new();
    for (hub, (user, body)) in USERS
        .into_iter()
        .zip([json!({ "hidden": true }), json!({ "blocked": ["vic"] })])
        .enumerate()
    {
        let path = format!("/v1/users/{user}/visibility");
        let (status, view) = hubs.hubs[hub].call("PUT", &path, Some(body)).await;
        assert_eq!(status, 200, "{view}");
        views.push((user, view));
    }
    let mut sessions = Vec::new();
    for user in USERS {
        sessions.push(hubs.login(0, user, "web").await);
    }
    assert_unseen(&hubs, &views, "a login").await;
    let resume = async |hubs: &Hubs, hub: usize, sessions: &mut [(Client, Value)]| {
        for (user, session) in USERS.iter().zip(sessions) {
            let again = hubs.resume(hub, user, "web", &session.1).await;
            assert_eq!(again.1["resumed"], json!(true), "{user}: {}", again.1);
            *session = again;
        }
    };
    resume(&hubs, 1, &mut sessions).await;
    assert_unseen(&hubs, &views, "a move").await;

    let mut stopped = hubs.remove(1);
    stopped.signal(Signal::TERM);
    assert!(stopped.until_exit().await.success());
    hubs.add().await;
    resume(&hubs, 2, &mut sessions).await;
    assert_unseen(&hubs, &views, "a restart").await;

    let mut killed = hubs.remove(2);
    killed.signal(Signal::KILL);
    killed.wait();
    resume(&hubs, 0, &mut sessions).await;
    assert_unseen(&hubs, &views, "a kill").await;

    for (client, _) in &mut sessions {
        client.ok(json!({ "type": "logout" })).await;
    }
    for user in USERS {
        until(&format!("{user} to be forgotten"), async || {
            hubs.hubs[1].user(user).await["version"] == 0
        })
        .await;
    }
    let _sessions = [hubs.login(1, "hides", "web").await, hubs.login(0, "blocks", "web").await];
    assert_unseen(&hubs, &views, "the end of `record_ttl`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_p8_nothing_is_lost_or_extra_between_hubs_while_many_lists_change_at_once() {
    let hubs = Hubs::start(RedisServer::start(), &["nobody"], &churn::SETTINGS).await;
    eprintln!("{}", churn(&hubs.hubs.iter().collect::<Vec<_>>()).await);
}
