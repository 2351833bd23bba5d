//! P5, P7, P8 between hubs: what one hub changes counts on the others.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Hubs;
use crate::support::{Client, RedisServer, now_secs, token_with};
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
