//! What happens to several hubs when something fails. After each fault all views of a user agree (C7).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::{Hubs, login_of, nodes};
use crate::support::{Client, Heard, RedisServer, SOON, http, now_millis, until};

/// Users of the tests: `stays` keeps its connection, `goes` loses it, `phone` is a phone.
const USERS: [&str; 3] = ["stays", "goes", "phone"];
/// For clients that read only now and then.
const PATIENT: [(&str, &str); 1] = [("liveness.web_silence", "60s")];
/// For how long Redis stands still: longer than it takes to give up a hub.
const STANDS_STILL: Duration = Duration::from_secs(20);
/// When a page comes back that closed while Redis was away: after the web's grace, and within that of 20 s.
const BACK_AFTER: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn killed_hub_is_noticed_and_its_sessions_end_with_their_windows() {
    let mut hubs = Hubs::start(RedisServer::start(), &USERS, &[]).await;
    let (_stays, ok) = hubs.login(0, "stays", "web").await;
    let (_goes, _) = hubs.login(0, "goes", "web").await;
    hubs.agree().await;
    let mut killed = hubs.remove(0);
    let begun = now_millis();
    killed.signal(Signal::KILL);
    killed.wait();
    let (mut stays, again) = hubs.resume(1, "stays", "web", &ok).await;
    assert_eq!(again["resumed"], json!(true), "{again}");
    let pings = async {
        loop {
            stays.ok(json!({ "type": "ping" })).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        _ = hubs.hubs[0].until_state("goes", "Offline") => (),
        () = pings => (),
    }
    let took = now_millis() - begun;
    // A window of 5 s from a sign of life that was at most 1 s old; 5 s to notice the death.
    assert!(took > 4000, "{took} ms");
    hubs.agree().await;
    assert_eq!(hubs.watchers[0].states("stays"), ["Offline", "Online"], "who resumed never left");
    stays.ok(json!({ "type": "set", "custom": "here" })).await;
    hubs.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_hub_that_continues_sends_its_clients_away_and_exits() {
    let mut hubs = Hubs::start(RedisServer::start(), &USERS, &PATIENT).await;
    let (mut stays, ok) = hubs.login(0, "stays", "web").await;
    hubs.agree().await;
    let mut stopped = hubs.remove(0);
    stopped.signal(Signal::STOP);
    let (mut resumed, again) = hubs.resume(1, "stays", "web", &ok).await;
    assert_eq!(again["resumed"], json!(true), "{again}");
    // Until the others have given it up.
    until("the hub to be given up", async || {
        let (_, nodes) = hubs.hubs[0].call("GET", "/v1/nodes", None).await;
        let nodes = nodes["nodes"].as_array().expect("nodes");
        nodes.iter().any(|node| node["state"] == json!("lost"))
    })
    .await;
    stopped.signal(Signal::CONT);
    let code = stays.until_closed().await.1;
    assert!(matches!(code, Some(1001 | 4007)), "{code:?}");
    assert!(!stopped.until_exit().await.success());
    assert!(stopped.log().contains("other hubs have taken over"), "{}", stopped.log());
    resumed.ok(json!({ "type": "set", "custom": "here" })).await;
    hubs.agree().await;
    assert!(hubs.watchers[0].states("stays").iter().skip(1).all(|state| state == "Online"));
}

/// Checks what is seen while Redis does not answer, and that all is as before once it does. The outage is given
/// a page that must close meanwhile.
async fn without_redis(hubs: &mut Hubs, outage: impl AsyncFnOnce(&mut RedisServer, Client)) {
    let (mut stays, _) = hubs.login(0, "stays", "web").await;
    let (goes, ok) = hubs.login(2, "goes", "web").await;
    let (phone, _) = hubs.login(1, "phone", "ios").await;
    drop(phone);
    hubs.hubs[2].until_state("phone", "PushOnline").await;
    stays.ok(json!({ "type": "set", "custom": "before" })).await;
    hubs.agree().await;
    let told: Vec<_> = hubs.watchers.iter().map(|watcher| watcher.all().len()).collect();
    let known = nodes(&hubs.hubs[0]).await;
    assert_eq!(known.len(), 3, "{known:?}");

    let mut redis = std::mem::replace(&mut hubs.redis, RedisServer::start());
    outage(&mut redis, goes).await;
    hubs.redis = redis;
    hubs.until_all_ready().await;
    // Its grace of 2 s is over, but it could not come back before.
    tokio::time::sleep(BACK_AFTER).await;
    let (_goes, again) = hubs.resume(1, "goes", "web", &ok).await;
    assert_eq!(again["resumed"], json!(true), "{again}");
    hubs.agree().await;
    assert_none_given_up(hubs, &known).await;
    let after: Vec<_> = hubs.watchers.iter().map(|watcher| watcher.all().len()).collect();
    assert_eq!(after, told, "nobody was seen to leave or come");
    stays.ok(json!({ "type": "set", "custom": "after" })).await;
    hubs.agree().await;
    for hub in &hubs.hubs {
        assert_eq!(hub.user("stays").await["custom"], json!("after"));
        assert_eq!(hub.user("phone").await["state"], json!("PushOnline"));
    }
}

/// Asserts that each hub lists these hubs, and has taken over no sessions.
async fn assert_none_given_up(hubs: &Hubs, known: &BTreeMap<String, String>) {
    for hub in &hubs.hubs {
        assert_eq!(nodes(hub).await, *known, "no hub was given up");
        assert!(!hub.log().contains("dead node"), "{}", hub.log());
    }
}

/// Waits until none of these hubs is ready, and checks what a login is answered.
pub(super) async fn refuse_logins(hubs: &[SocketAddr]) {
    for address in hubs {
        until("/ready to be 503", async || {
            let answer = http(*address, "GET", "/ready").send().await.expect("an answer");
            answer.status().as_u16() == 503
        })
        .await;
        let stream = TcpStream::connect(address).await.expect("a connection");
        let url = format!("ws://{address}/ws");
        let (socket, _) = client_async(url, stream).await.expect("an upgrade");
        let mut client = Client::over(socket, SOON);
        assert_eq!(client.error(login_of("late", "web", None)).await, "unavailable");
        assert_eq!(client.hear().await, Heard::Closed(4006));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_stands_still_for_twenty_seconds_costs_nobody_a_session() {
    let mut hubs = Hubs::start(RedisServer::start(), &USERS, &PATIENT).await;
    let addresses: Vec<_> = hubs.hubs.iter().map(|hub| hub.address).collect();
    without_redis(&mut hubs, async move |redis, goes| {
        redis.signal(Signal::STOP);
        drop(goes);
        let stopped = tokio::time::sleep(STANDS_STILL);
        refuse_logins(&addresses).await;
        stopped.await;
        refuse_logins(&addresses).await;
        redis.signal(Signal::CONT);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_killed_and_restarted_with_its_file_loses_nothing() {
    let redis = RedisServer::with(&["--appendonly", "yes"]);
    let mut hubs = Hubs::start(redis, &USERS, &PATIENT).await;
    let addresses: Vec<_> = hubs.hubs.iter().map(|hub| hub.address).collect();
    without_redis(&mut hubs, async move |redis, goes| {
        redis.kill();
        drop(goes);
        refuse_logins(&addresses).await;
        redis.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_feeds_and_scripts_leave_no_watcher_wrong() {
    let hubs = Hubs::start(RedisServer::start(), &USERS, &PATIENT).await;
    let (mut stays, _) = hubs.login(0, "stays", "web").await;
    for round in 0..5 {
        let _: Value = redis_value(&hubs.redis.run::<redis::Value>("CLIENT KILL TYPE pubsub"));
        let _: Value = redis_value(&hubs.redis.run::<redis::Value>("SCRIPT FLUSH"));
        stays.ok(json!({ "type": "set", "custom": round.to_string() })).await;
    }
    hubs.agree().await;
    assert_eq!(hubs.hubs[1].user("stays").await["custom"], json!("4"));
}

fn redis_value(value: &redis::Value) -> Value {
    json!(format!("{value:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_gets_all_connected_sessions_back_on_their_connections() {
    let hubs = Hubs::start(RedisServer::start(), &USERS, &PATIENT).await;
    let (mut stays, ok) = hubs.login(0, "stays", "web").await;
    let (phone, _) = hubs.login(1, "phone", "ios").await;
    drop(phone);
    // Who may not see a user is changed by another hub than that of the session.
    let (_shy, _) = hubs.login(0, "shy", "web").await;
    let visibility = json!({ "hidden": true, "blocked": ["vic"] });
    let path = "/v1/users/shy/visibility";
    let (status, shown) = hubs.hubs[1].call("PUT", path, Some(visibility)).await;
    assert_eq!(status, 200, "{shown}");
    let list = json!({ "users": ["stays"] });
    hubs.hubs[1].call("PUT", "/v1/users/vic/watch-list", Some(list)).await;
    let (mut vic, _) = hubs.login(2, "vic", "web").await;
    vic.ok(json!({ "type": "subscribe", "watch_list": true })).await;
    hubs.hubs[2].until_state("phone", "PushOnline").await;
    hubs.agree().await;
    let (_, page) = hubs.hubs[0].call("GET", "/v1/events?limit=1", None).await;
    let old = page["next"].as_str().expect("a cursor").to_owned();
    // Longer than hubs remember what they committed, which they would restore.
    tokio::time::sleep(Duration::from_secs(21)).await;
    let _: redis::Value = hubs.redis.run("FLUSHALL");
    until("the session to be written again", async || {
        let user = hubs.hubs[1].call("GET", "/v1/users/stays", None).await.1;
        user["terminals"][0]["session"] == ok["session"]
    })
    .await;
    until("the watchers to be told that the phone is gone", async || {
        hubs.watchers.iter().all(|it| it.states("phone").last().is_some_and(|it| it == "Offline"))
    })
    .await;
    until("who may not see a user to be written again", async || {
        hubs.hubs[2].call("GET", path, None).await.1 == shown
    })
    .await;
    while vic.message().await != json!({ "type": "unwatched", "users": ["stays"] }) {}
    stays.ok(json!({ "type": "set", "custom": "here" })).await;
    let (status, _) = hubs.hubs[0].call("GET", &format!("/v1/events?after={old}"), None).await;
    assert_eq!(status, 410);
    hubs.agree().await;
    for hub in &hubs.hubs {
        assert_eq!(hub.user("stays").await["custom"], json!("here"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_memory_or_right_to_write_refuses_and_heals() {
    let hubs = Hubs::start(RedisServer::start(), &USERS, &PATIENT).await;
    let (mut stays, _) = hubs.login(0, "stays", "web").await;
    for (breaks, heals) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ] {
        let _: redis::Value = hubs.redis.run(breaks);
        let error = stays.error(json!({ "type": "set", "custom": "lost" })).await;
        assert_eq!(error, "unavailable", "{breaks}");
        let _: redis::Value = hubs.redis.run(heals);
        until("a change to be accepted", async || {
            let reply = stays.request(json!({ "type": "set", "custom": heals })).await;
            reply.get("ok").is_some()
        })
        .await;
        hubs.agree().await;
    }
}
