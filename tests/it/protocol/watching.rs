//! Subscriptions, queries, custom status, own sessions and background, from outside.

use serde_json::{Value, json};

use crate::support::{Client, Heard, Server, now_secs, token_with};

async fn watcher(server: &Server, watch: Value) -> Client {
    let mut client = server.connect().await;
    let token = token_with(json!({ "sub": "eve", "exp": now_secs() + 3600, "watch": watch }));
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    client.ok(login).await;
    client
}

fn subscribe(users: &[&str]) -> Value {
    json!({ "type": "subscribe", "users": users })
}

fn query(users: &[&str]) -> Value {
    json!({ "type": "query", "users": users })
}

fn users_of(statuses: &Value) -> Vec<&str> {
    let statuses = statuses.as_array().expect("a list");
    statuses.iter().map(|status| status["user"].as_str().expect("a user")).collect()
}

fn version(status: &Value) -> u64 {
    status["version"].as_u64().unwrap_or_else(|| panic!("{status}"))
}

async fn pushed(client: &mut Client) -> Value {
    let push = client.message().await;
    assert_eq!(push["type"], "status", "{push}");
    push
}

/// Asserts that nothing was pushed: the next message answers a ping.
async fn nothing_pushed(client: &mut Client) {
    client.send(&json!({ "type": "ping", "id": 77 })).await;
    assert_eq!(client.message().await["id"], 77);
}

#[tokio::test]
async fn statuses_have_the_order_of_the_request() {
    let server = Server::start(&[]);
    server.login("bob", "web").await;
    let (mut client, _) = server.login("eve", "web").await;
    let names = ["zoe", "bob", "eve", "amy", "bob"];
    for request in [query(&names), subscribe(&names), subscribe(&names)] {
        let ok = client.ok(request).await;
        assert_eq!(users_of(&ok["statuses"]), names);
        assert_eq!(ok["errors"], json!([]));
    }
    let ok = client.ok(json!({ "type": "unsubscribe", "users": ["nobody"] })).await;
    assert_eq!(ok, json!({ "count": 4 }), "each counts once");
    let ok = client.ok(json!({ "type": "unsubscribe", "users": ["bob", "bob", "", "amy"] })).await;
    assert_eq!(ok, json!({ "count": 2 }));
    let ok = client.ok(json!({ "type": "unsubscribe", "all": true })).await;
    assert_eq!(ok, json!({ "count": 0 }));
}

#[tokio::test]
async fn an_unknown_user_is_offline_with_version_0() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("eve", "web").await;
    let expected = json!({
        "user": "nobody", "state": "Offline", "platforms": [], "custom": null, "since": null,
        "last_seen": null, "version": 0, "away": false,
    });
    for request in [query(&["nobody"]), subscribe(&["nobody"])] {
        assert_eq!(client.ok(request).await["statuses"], json!([expected]));
    }
}

#[tokio::test]
async fn subscription_errors_distinguish_invalid_forbidden_and_too_many() {
    let server = Server::start(&[("limits.subscriptions", "3")]);
    let mut client = watcher(&server, json!(["bob", "team:*"])).await;
    let invalid = "x".repeat(129);
    let names = ["bob", "bobby", "team:1", "", "team:", "team", "eve", &invalid, " bob", "Bob"];
    let errors = |too_many: &[&str]| {
        let forbidden = ["bobby", "team", "Bob"];
        let code = |user: &str| match user {
            user if too_many.contains(&user) => Some("too_many"),
            user if forbidden.contains(&user) => Some("forbidden"),
            "" | " bob" => Some("invalid_user"),
            user => (user.len() > 128).then_some("invalid_user"),
        };
        let errors = names.iter().filter_map(|user| Some((user, code(user)?)));
        errors.map(|(user, code)| json!({ "user": user, "code": code })).collect::<Value>()
    };
    let ok = client.ok(query(&names)).await;
    assert_eq!(users_of(&ok["statuses"]), ["bob", "team:1", "team:", "eve"]);
    assert_eq!(ok["errors"], errors(&[]));

    let ok = client.ok(subscribe(&names)).await;
    assert_eq!(users_of(&ok["statuses"]), ["bob", "team:1", "team:"]);
    assert_eq!(ok["errors"], errors(&["eve"]));
    let ok = client.ok(subscribe(&["team:", "team:2", "bob"])).await;
    assert_eq!(users_of(&ok["statuses"]), ["team:", "bob"], "known ones take no more room");
    assert_eq!(ok["errors"], json!([{ "user": "team:2", "code": "too_many" }]));
    assert_eq!(client.ok(query(&["team:2"])).await["errors"], json!([]));
    client.ok(json!({ "type": "unsubscribe", "users": ["bob"] })).await;
    assert_eq!(client.ok(subscribe(&["team:2"])).await["errors"], json!([]), "there is room again");
}

#[tokio::test]
async fn the_watch_claim_overrides_the_default_watch_list() {
    let server = Server::start(&[("auth.default_watch", "[\"team:*\"]")]);
    let (mut client, _) = server.login("eve", "web").await;
    let ok = client.ok(query(&["team:1", "bob", "eve"])).await;
    assert_eq!(users_of(&ok["statuses"]), ["team:1", "eve"], "the default, and oneself");
    for (watch, seen) in [
        (json!([]), vec!["eve"]),
        (json!(["*"]), vec!["team:1", "bob", "eve"]),
        (json!(["b*"]), vec!["bob", "eve"]),
        (json!(["*b"]), vec!["eve"]),
    ] {
        let mut client = watcher(&server, watch.clone()).await;
        let ok = client.ok(query(&["team:1", "bob", "eve"])).await;
        assert_eq!(users_of(&ok["statuses"]), seen, "{watch}");
    }
}

#[tokio::test]
async fn queries_and_subscriptions_take_1_to_200_users() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("eve", "web").await;
    let names: Vec<_> = (0..201).map(|n| format!("user{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for ask in [query, subscribe] {
        assert_eq!(client.error(ask(&[])).await, "bad_request");
        assert_eq!(client.error(ask(&names)).await, "bad_request");
        let ok = client.ok(ask(&names[..200])).await;
        assert_eq!(users_of(&ok["statuses"]), names[..200]);
    }
}

#[tokio::test]
async fn a_subscription_pushes_changes_until_unsubscribed() {
    let server = Server::start(&[("liveness.web_close_grace", "0s"), ("login.policy", "dual")]);
    let (mut eve, _) = server.login("eve", "web").await;
    let snapshot = eve.ok(subscribe(&["bob"])).await["statuses"][0].clone();
    assert_eq!(version(&snapshot), 0);

    let (mut phone, ok) = server.login("bob", "android").await;
    let push = pushed(&mut eve).await;
    let mut expected = ok["status"].clone();
    expected["type"] = json!("status");
    assert_eq!(push, expected, "the status in the login reply");

    let (page, _) = server.login("bob", "web").await;
    let both = pushed(&mut eve).await;
    assert!(version(&both) > version(&push));
    assert_eq!(both["platforms"], json!(["android", "web"]));
    assert_eq!(both["since"], push["since"], "the state did not change");

    drop(page);
    let one = pushed(&mut eve).await;
    assert!(version(&one) > version(&both));
    assert_eq!(one["platforms"], json!(["android"]));

    phone.ok(json!({ "type": "logout" })).await;
    let gone = pushed(&mut eve).await;
    assert!(version(&gone) > version(&one));
    assert_eq!((&gone["state"], &gone["platforms"]), (&json!("Offline"), &json!([])));
    assert!(gone["last_seen"].as_u64() >= push["since"].as_u64(), "{gone}");
    assert!(gone["since"].as_u64() >= gone["last_seen"].as_u64(), "{gone}");
    let asked = eve.ok(query(&["bob"])).await["statuses"][0].clone();
    assert_eq!(version(&asked), version(&gone));

    eve.ok(json!({ "type": "unsubscribe", "users": ["bob"] })).await;
    server.login("bob", "web").await;
    nothing_pushed(&mut eve).await;
    eve.ok(query(&["bob"])).await;
    server.login("bob", "android").await;
    nothing_pushed(&mut eve).await;
}

#[tokio::test]
async fn invisible_changes_are_not_pushed() {
    let server = Server::start(&[]);
    let (mut eve, _) = server.login("eve", "web").await;
    let (mut tab, first) = server.login("bob", "web").await;
    let seen = eve.ok(subscribe(&["bob"])).await["statuses"][0].clone();
    assert_eq!(version(&seen), version(&first["status"]));

    // Another tab of the browser: a second login of the same device.
    let (mut second, ok) = server.login("bob", "web").await;
    assert_eq!(ok["kicked"], json!([]));
    nothing_pushed(&mut eve).await;
    let asked = eve.ok(query(&["bob"])).await["statuses"][0].clone();
    assert!(version(&asked) > version(&seen), "the change was recorded");
    assert_eq!(asked["since"], seen["since"]);
    tab.ok(json!({ "type": "logout" })).await;
    second.ok(json!({ "type": "background" })).await;
    second.ok(json!({ "type": "foreground" })).await;
    nothing_pushed(&mut eve).await;
    second.ok(json!({ "type": "logout" })).await;
    assert_eq!(pushed(&mut eve).await["state"], "Offline");
}

#[tokio::test]
async fn a_custom_status_is_set_cleared_and_bounded() {
    let server = Server::start(&[]);
    let (mut eve, _) = server.login("eve", "web").await;
    let (mut bob, ok) = server.login("bob", "web").await;
    eve.ok(subscribe(&["bob"])).await;
    let mut before = version(&ok["status"]);
    let longest = "ü".repeat(128);
    for custom in [json!("lunch"), json!("\u{202e}<b>"), json!(longest), json!(""), json!(null)] {
        let set = bob.ok(json!({ "type": "set", "custom": custom })).await;
        let push = pushed(&mut eve).await;
        assert_eq!(set["status"]["custom"], custom);
        assert_eq!(push["custom"], custom);
        assert_eq!(version(&push), version(&set["status"]));
        assert!(version(&push) > before, "{push}");
        before = version(&push);

        // The same text is not a change.
        let same = bob.ok(json!({ "type": "set", "custom": custom })).await;
        assert_eq!(same, set);
        nothing_pushed(&mut eve).await;
    }
    let long = json!({ "type": "set", "custom": format!("{longest}x") });
    assert_eq!(bob.error(long).await, "bad_request");
    nothing_pushed(&mut eve).await;

    bob.ok(json!({ "type": "set", "custom": "away" })).await;
    pushed(&mut eve).await;
    bob.ok(json!({ "type": "logout" })).await;
    let gone = pushed(&mut eve).await;
    assert_eq!((&gone["state"], &gone["custom"]), (&json!("Offline"), &json!(null)));
}

#[tokio::test]
async fn users_can_watch_their_own_status() {
    let server = Server::start(&[("login.policy", "dual")]);
    let mut eve = watcher(&server, json!([])).await;
    eve.ok(subscribe(&["eve"])).await;
    eve.send(&json!({ "type": "set", "id": 9, "custom": "hi" })).await;
    // A push may come before the reply or not at all, but never after: it would not be newer.
    let mut heard = eve.message().await;
    if heard["type"] == "status" {
        assert_eq!(heard["custom"], "hi");
        heard = eve.message().await;
    }
    assert_eq!(heard["ok"]["status"]["custom"], "hi");
    nothing_pushed(&mut eve).await;
    let (_phone, _) = server.login("eve", "android").await;
    assert_eq!(pushed(&mut eve).await["platforms"], json!(["android", "web"]));
}

#[tokio::test]
async fn pushes_and_answers_never_go_back() {
    let server = Server::start(&[]);
    let (mut eve, _) = server.login("eve", "web").await;
    let (mut bob, _) = server.login("bob", "linux").await;
    let (mut last_push, mut last_seen) = (0, 0);
    let change = async {
        for n in 0..50 {
            bob.ok(json!({ "type": "set", "custom": n.to_string() })).await;
        }
        bob
    };
    let ask = async {
        eve.send(&json!({ "type": "subscribe", "id": 1000, "users": ["bob"] })).await;
        for id in 0..50 {
            eve.send(&json!({ "type": "query", "id": id, "users": ["bob"] })).await;
            loop {
                let heard = eve.message().await;
                if heard["type"] == "status" {
                    assert!(version(&heard) > last_push.max(last_seen), "{heard}");
                    last_push = version(&heard);
                } else {
                    let status = &heard["ok"]["statuses"][0];
                    assert!(version(status) >= last_push.max(last_seen), "{heard}");
                    last_seen = version(status);
                    if heard["id"] == id {
                        break;
                    }
                }
            }
        }
        eve
    };
    let (_bob, mut eve) = tokio::join!(change, ask);
    let asked = eve.ok(query(&["bob"])).await["statuses"][0].clone();
    assert_eq!(asked["custom"], "49", "the last one is not lost");
}

#[tokio::test]
async fn users_list_and_kick_their_own_sessions() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut desk = server.connect().await;
    let token = crate::support::token("ann");
    let fields = json!({ "token": token, "platform": "mac", "device": "m", "app": "shop 2" });
    let mut login = fields.clone();
    login["type"] = json!("login");
    let own = desk.ok(login).await["session"].clone();
    let (phone, ok) = server.login("ann", "android").await;
    drop(phone);
    server.until_state("ann", "Online").await;
    let phone_is_push = async {
        loop {
            let list = desk.ok(json!({ "type": "sessions" })).await["sessions"].clone();
            if list[1]["state"] == "PushOnline" {
                return list;
            }
        }
    };
    let list = tokio::time::timeout(crate::support::SOON, phone_is_push).await.expect("a change");
    let terminals = server.user("ann").await["terminals"].clone();
    assert_eq!(
        list,
        json!([
            {
                "platform": "mac", "device": "m", "session": own, "state": "Online",
                "since": terminals[0]["since"], "activity": "active",
                "active_at": terminals[0]["since"], "app": "shop 2", "current": true,
            },
            {
                "platform": "android", "device": "android", "session": ok["session"],
                "state": "PushOnline", "since": terminals[1]["since"], "activity": null,
                "active_at": null, "app": null,
                "current": false,
            },
        ])
    );
    let kick = |session: &Value| json!({ "type": "kick", "session": session });
    assert_eq!(desk.error(kick(&own)).await, "bad_request", "one logs out instead");
    let (_bob, bob) = server.login("bob", "web").await;
    desk.ok(kick(&bob["session"])).await;
    assert_eq!(server.user("bob").await["state"], "Online", "another user's session is not kicked");
    assert_eq!(desk.ok(kick(&ok["session"])).await, json!({}));
    let list = desk.ok(json!({ "type": "sessions" })).await["sessions"].clone();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn only_a_mini_program_in_background_has_a_deadline() {
    let server = Server::start(&[("login.policy", "multi")]);
    for platform in ["android", "ios", "ipad", "windows", "mac", "linux", "web"] {
        let (mut client, _) = server.login(platform, platform).await;
        let ok = client.ok(json!({ "type": "background" })).await;
        assert_eq!(ok, json!({ "deadline": null }), "{platform}");
        let background = &server.user(platform).await["terminals"][0]["background"];
        assert_eq!(background["reason"], "hide", "{platform}");
        assert_eq!(client.ok(json!({ "type": "foreground" })).await, json!({}));
        let terminal = &server.user(platform).await["terminals"][0];
        assert_eq!(terminal["background"], Value::Null, "{platform}");
    }
    let (mut mini, _) = server.login("mini", "miniprogram").await;
    let background = |reason: &str| json!({ "type": "background", "reason": reason });
    let hidden = mini.ok(background("hide")).await["deadline"].clone();
    assert_eq!(mini.ok(background("hide")).await["deadline"], hidden, "no new start");
    let left = mini.ok(background("exit")).await["deadline"].clone();
    assert!(left.as_u64() < hidden.as_u64(), "the earlier one");
    assert_eq!(mini.ok(background("hide")).await["deadline"], left);
    mini.ok(json!({ "type": "foreground" })).await;
    mini.ok(json!({ "type": "foreground" })).await;
    let again = mini.ok(background("hide")).await["deadline"].clone();
    assert!(again.as_u64() > left.as_u64());
    let now = mini.ok(json!({ "type": "ping" })).await["now"].as_u64();
    assert!(now.is_some_and(|now| now + 30_000 >= again.as_u64().expect("a time")));
    drop(mini);
    assert_eq!(server.user("mini").await["state"], "Online", "until then it may come back");
}

#[tokio::test]
async fn subscriptions_end_with_their_session() {
    let server = Server::start(&[]);
    let (mut eve, _) = server.login("eve", "linux").await;
    eve.ok(subscribe(&["a", "b", "c"])).await;
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(stats["subscriptions"], 3);
    eve.ok(json!({ "type": "logout" })).await;
    assert_eq!(eve.hear().await, Heard::Closed(1000));
    let forgotten =
        async { while server.call("GET", "/v1/stats", None).await.1["subscriptions"] != 0 {} };
    tokio::time::timeout(crate::support::SOON, forgotten).await.expect("them to be forgotten");
}
