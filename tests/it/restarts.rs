//! Kills and orderly restarts of the hub process.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Server, lies_between, now_millis, now_secs, token_with};

const WINDOWS: [(&str, &str); 3] = [
    ("liveness.web_ping", "900ms"),
    ("liveness.web_silence", "2s"),
    ("liveness.web_close_grace", "100ms"),
];

async fn resume(server: &Server, user: &str, platform: &str, session: &Value) -> (Client, Value) {
    let mut client = server.connect().await;
    let token = crate::support::token(user);
    let ok = client
        .ok(json!({
            "type": "login", "token": token, "platform": platform, "device": platform,
            "resume": session,
        }))
        .await;
    (client, ok)
}

async fn causes(server: &Server, user: &str) -> Vec<String> {
    let (_, page) = server.call("GET", &format!("/v1/users/{user}/history"), None).await;
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["cause"].as_str().expect("a cause").to_owned()).collect()
}

#[tokio::test]
async fn t11_after_a_kill_resumed_sessions_stay_online_and_others_end_on_time() {
    let mut server = Server::start(&WINDOWS);
    let (_stays, ok) = server.login("stays", "web").await;
    let (_goes, _) = server.login("goes", "web").await;
    let (_phone, _) = server.login("phone", "ios").await;
    let since = server.user("stays").await["since"].clone();
    let killed = now_millis();
    server.restart(&WINDOWS);
    for user in ["stays", "goes", "phone"] {
        assert_eq!(server.user(user).await["state"], "Online", "{user} is held");
    }
    let (_stays, again) = resume(&server, "stays", "web", &ok["session"]).await;
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &ok["session"]));
    let status = server.until_state("goes", "Offline").await;
    let ended = status["since"].as_u64().expect("a time");
    // The last sign of life was at most 1 s old at the kill, and an end is at most 1 s late.
    assert!(ended >= killed + 1000 - 100, "{} ms after the kill", ended - killed);
    assert!(lies_between(&status["since"], killed + 900, 0));
    assert_eq!(causes(&server, "goes").await, ["node_lost", "login"]);
    assert_eq!(causes(&server, "stays").await, ["login"]);
    let stays = server.user("stays").await;
    assert_eq!((&stays["state"], &stays["since"]), (&json!("Online"), &since));
    assert_eq!(server.user("phone").await["state"], "Online", "its window is longer");
}

#[tokio::test]
async fn t8_t9_l7_l9_v2_states_kicks_and_revocations_survive_a_restart() {
    let mut server = Server::start(&WINDOWS);
    let (phone, _) = server.login("phone", "android").await;
    drop(phone);
    server.until_state("phone", "PushOnline").await;
    let (_kicked, ok) = server.login("kicked", "mac").await;
    let (_other, _) = server.login("kicked", "windows").await;
    let (mut texter, _) = server.login("texter", "mac").await;
    texter.ok(json!({ "type": "set", "custom": "busy" })).await;
    let before = [server.user("phone").await, server.user("texter").await];
    let (_, kick) =
        server.call("POST", "/v1/users/revoked/kick", Some(json!({ "all": true }))).await;
    assert_eq!(kick["revoked"], true);
    server.restart(&WINDOWS);

    for (user, before) in ["phone", "texter"].iter().zip(before) {
        let after = server.user(user).await;
        for field in ["state", "custom", "since", "version", "platforms"] {
            assert_eq!(after[field], before[field], "{field} of {user}");
        }
    }
    let mut client = server.connect().await;
    let claims = json!({ "sub": "revoked", "iat": now_secs() - 60, "exp": now_secs() + 3600 });
    let login = json!({
        "type": "login", "token": token_with(claims), "platform": "mac", "device": "d",
    });
    assert_eq!(client.error(login).await, "token_revoked");
    let mut client = server.connect().await;
    let resume = json!({
        "type": "login", "token": crate::support::token("kicked"), "platform": "mac",
        "device": "mac", "resume": ok["session"],
    });
    assert_eq!(client.error(resume).await, "kicked");
    let version = server.user("phone").await["version"].as_u64();
    server.login("phone", "android").await;
    assert!(server.user("phone").await["version"].as_u64() > version);
}

#[tokio::test]
async fn t11_orderly_restart_keeps_all_sessions_online() {
    let mut server = Server::start(&[("server.drain", "200ms")]);
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(server.login(&format!("user-{n}"), "mac").await);
    }
    server.signal(Signal::TERM);
    for (client, _) in &mut clients {
        let (messages, code) = client.until_closed().await;
        assert_eq!((messages[0]["type"].as_str(), code), (Some("closing"), Some(1001)));
    }
    assert!(server.until_exit().await.success());
    server.restart_dead(&[]);
    for (n, (_, ok)) in clients.iter().enumerate() {
        let user = format!("user-{n}");
        assert_eq!(server.user(&user).await["state"], "Online");
        let (_client, again) = resume(&server, &user, "mac", &ok["session"]).await;
        assert_eq!(again["resumed"], true);
        assert_eq!(causes(&server, &user).await, ["login"]);
    }
}

#[tokio::test]
async fn t11_session_whose_window_ended_before_the_restart_ends_at_once() {
    let mut server = Server::start(&WINDOWS);
    let (_gone, _) = server.login("gone", "web").await;
    server.signal(Signal::KILL);
    server.wait();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let restarted = now_millis();
    server.restart_dead(&WINDOWS);
    let status = server.until_state("gone", "Offline").await;
    assert!(lies_between(&status["since"], restarted, 0));
    assert_eq!(causes(&server, "gone").await, ["node_lost", "login"]);
}

#[tokio::test]
async fn t11_t12_stall_after_a_restart_extends_held_sessions() {
    let windows = [("liveness.web_silence", "4s"), ("liveness.web_ping", "1900ms")];
    let mut server = Server::start(&windows);
    let (_gone, _) = server.login("gone", "web").await;
    let killed = now_millis();
    server.restart(&windows);
    assert_eq!(server.user("gone").await["state"], "Online", "it is held");
    server.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.signal(Signal::CONT);
    let status = server.until_state("gone", "Offline").await;
    let held = status["since"].as_u64().expect("a time") - killed;
    // The last sign of life was at most 1 s old at the kill, and the stop extends the window.
    assert!(held >= 4000 - 1000 + 6000 - 300, "ended {held} ms after the kill");
    assert_eq!(causes(&server, "gone").await, ["node_lost", "login"]);
}
