//! Login and resume: replies, refusals, timeouts and conflicts.

use serde_json::{Value, json};

use super::raw::{Raw, TEXT, frame};
use crate::support::{
    Client, Heard, Server, lies_between, now_millis, now_secs, token, token_with,
};

fn login(user: &str, platform: &str, device: &str) -> Value {
    json!({ "type": "login", "token": token(user), "platform": platform, "device": device })
}

/// A login with changed fields; null removes a field.
fn changed(mut login: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("fields") {
        login[name] = value.clone();
    }
    login.as_object_mut().expect("fields").retain(|_, value| !value.is_null());
    login
}

async fn refused(server: &Server, login: Value) -> (String, u16) {
    let mut client = server.connect().await;
    let code = client.error(login).await;
    (code, end(&mut client).await)
}

async fn end(client: &mut Client) -> u16 {
    let (messages, code) = client.until_closed().await;
    assert_eq!(messages, Vec::<Value>::new());
    code.expect("a Close frame")
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_login_reply_has_all_documented_fields() {
    let server = Server::start(&[("login.policy", "multi")]);
    let rows = [
        ("web", "web", 20_000, 60_000),
        ("miniprogram", "miniprogram", 20_000, 60_000),
        ("android", "android", 120_000, 400_000),
        ("iphone", "ios", 120_000, 400_000),
        ("ipad", "ipad", 120_000, 400_000),
        ("windows", "windows", 120_000, 400_000),
        ("mac", "mac", 120_000, 400_000),
        ("linux", "linux", 120_000, 400_000),
    ];
    for (platform, read_as, ping_ms, silence_ms) in rows {
        let user = format!("user of {platform}");
        let exp = now_secs() + 1800;
        let before = now_millis();
        let token = token_with(json!({ "sub": user, "iat": now_secs(), "exp": exp }));
        let fields = json!({ "token": token, "custom": "hi", "app": "shop 1.2", "unknown": {} });
        let mut client = server.connect().await;
        let ok = client.ok(changed(login(&user, platform, "d1"), &fields)).await;
        let expected = [
            "expires_at",
            "kicked",
            "now",
            "ping_ms",
            "resumed",
            "session",
            "silence_ms",
            "status",
            "user",
        ];
        assert_eq!(keys(&ok), expected);
        assert_eq!(ok["user"], user);
        assert_eq!(ok["resumed"], false);
        assert_eq!(ok["ping_ms"], ping_ms, "{platform}");
        assert_eq!(ok["silence_ms"], silence_ms, "{platform}");
        assert_eq!(ok["expires_at"], exp * 1000);
        assert_eq!(ok["kicked"], json!([]));
        assert_eq!(ok["session"].as_str().map(str::len), Some(32));
        assert!(lies_between(&ok["now"], before, 0), "{ok}");
        let status = &ok["status"];
        assert!(lies_between(&status["since"], before, 0), "{ok}");
        let version = status["version"].as_u64().expect("a number");
        assert!(version > 0);
        assert_eq!(
            *status,
            json!({
                "user": user, "state": "Online", "platforms": [read_as], "custom": "hi",
                "since": status["since"], "last_seen": null, "version": version,
                "away": false,
            })
        );
        let terminal = &server.user(&user).await["terminals"][0];
        assert_eq!(terminal["app"], "shop 1.2");
        assert_eq!(terminal["platform"], read_as);
    }
}

#[tokio::test]
async fn invalid_logins_are_answered_and_closed() {
    let server = Server::start(&[]);
    let long = "x".repeat(129);
    let text = "ü".repeat(129);
    let rows = [
        ("no device", json!({ "device": null }), "invalid_device", 4502),
        ("an empty device", json!({ "device": "" }), "invalid_device", 4502),
        ("129 bytes of device", json!({ "device": long }), "invalid_device", 4502),
        (
            "no device and a bad token",
            json!({ "device": null, "token": "x" }),
            "invalid_device",
            4502,
        ),
        ("no token", json!({ "token": null }), "bad_request", 4504),
        ("a number for the token", json!({ "token": 7 }), "bad_request", 4504),
        ("no platform", json!({ "platform": null }), "bad_request", 4504),
        ("an unknown platform", json!({ "platform": "toaster" }), "bad_request", 4504),
        ("another case", json!({ "platform": "Web" }), "bad_request", 4504),
        ("a number for resume", json!({ "resume": 7 }), "bad_request", 4504),
        ("258 bytes of custom", json!({ "custom": text }), "bad_request", 4504),
        ("258 bytes of app", json!({ "app": text }), "bad_request", 4504),
        ("a bad token", json!({ "token": "x" }), "invalid_token", 4502),
    ];
    for (name, changes, code, close) in rows {
        let outcome = refused(&server, changed(login("ann", "web", "d"), &changes)).await;
        assert_eq!(outcome, (code.to_owned(), close), "{name}");
    }
    assert_eq!(server.user("ann").await["version"], 0, "nobody was logged in");
    let most =
        json!({ "device": "x".repeat(128), "custom": "ü".repeat(128), "app": "x".repeat(256) });
    let mut client = server.connect().await;
    client.ok(changed(login("ann", "web", ""), &most)).await;
}

#[tokio::test]
async fn requests_before_login_are_refused() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    let rows = [
        json!({ "type": "subscribe", "users": ["bob"] }),
        json!({ "type": "unsubscribe", "all": true }),
        json!({ "type": "query", "users": ["bob"] }),
        json!({ "type": "background" }),
        json!({ "type": "foreground" }),
        json!({ "type": "idle", "for_ms": 300_000 }),
        json!({ "type": "active" }),
        json!({ "type": "set", "custom": null }),
        json!({ "type": "refresh", "token": token("ann") }),
        json!({ "type": "ping" }),
        json!({ "type": "sessions" }),
        json!({ "type": "kick", "session": "0".repeat(32) }),
        json!({ "type": "logout" }),
    ];
    for request in rows {
        assert_eq!(client.error(request.clone()).await, "not_logged_in", "{request}");
    }
    let session = client.login("ann", "web", "d").await["session"].clone();

    for user in ["ann", "bob"] {
        assert_eq!(client.error(login(user, "web", "d")).await, "already_logged_in");
    }
    assert_eq!(server.user("ann").await["terminals"][0]["session"], session);
    assert_eq!(server.user("bob").await["version"], 0);
}

/// The hub reads them while the first is still being applied.
#[tokio::test]
async fn of_a_hundred_logins_in_one_write_only_the_first_counts() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut raw = Raw::upgrade(&server).await;
    let mut bytes = Vec::new();
    for n in 0..100 {
        let user = if n % 3 == 1 { "bob" } else { "ann" };
        let platform = ["web", "mac", "android", "linux"][n % 4];
        let id = json!({ "id": n + 1 });
        let message = changed(login(user, platform, &format!("d{n}")), &id);
        bytes.extend(frame(TEXT, message.to_string().as_bytes()));
    }
    raw.send(&bytes).await;

    let mut replies = Vec::new();
    while replies.len() < 100 {
        let message = raw.message().await;
        if message["type"] == "reply" {
            replies.push(message);
        }
    }
    let session = &replies[0]["ok"]["session"];
    assert_eq!((&replies[0]["id"], session.is_string()), (&json!(1), true), "{}", replies[0]);
    for (n, reply) in (2..).zip(&replies[1..]) {
        assert_eq!(reply["id"], n, "{reply}");
        assert_eq!(reply["error"]["code"], "already_logged_in", "{reply}");
    }
    let terminals = server.user("ann").await["terminals"].clone();
    assert_eq!(terminals.as_array().map(Vec::len), Some(1), "{terminals}");
    assert_eq!((&terminals[0]["device"], &terminals[0]["session"]), (&json!("d0"), session));
    assert_eq!(server.user("bob").await["version"], 0, "never logged in");
}

#[tokio::test]
async fn connections_without_login_time_out() {
    let server = Server::start(&[("login.timeout", "300ms")]);
    let silent = async { server.connect().await.until_closed().await.1 };
    let chatty = async {
        let mut client = server.connect().await;
        client.send(&json!({ "type": "ping", "id": 1 })).await;
        let (messages, code) = client.until_closed().await;
        assert_eq!(messages[0]["error"]["code"], "not_logged_in");
        code
    };
    assert_eq!(tokio::join!(silent, chatty), (Some(4000), Some(4000)));
}

#[tokio::test]
async fn changes_are_rate_limited_per_user() {
    let server = Server::start(&[("limits.changes_per_user_per_minute", "4")]);
    let (mut client, _) = server.login("ann", "linux").await;
    client.ok(json!({ "type": "set", "custom": "one" })).await;
    client.ok(json!({ "type": "background" })).await;
    client.ok(json!({ "type": "refresh", "token": token("ann") })).await;
    for request in [
        json!({ "type": "set", "custom": "two" }),
        json!({ "type": "background" }),
        json!({ "type": "refresh", "token": token("ann") }),
    ] {
        assert_eq!(client.error(request.clone()).await, "rate_limited", "{request}");
    }
    client.ok(json!({ "type": "ping" })).await;
    assert_eq!(
        client.ok(json!({ "type": "query", "users": ["ann"] })).await["statuses"][0]["custom"],
        "one"
    );
    let outcome = refused(&server, login("ann", "web", "d")).await;
    assert_eq!(outcome, ("rate_limited".to_owned(), 4004));
    server.login("bob", "web").await;
}

#[tokio::test]
async fn a_resumed_session_keeps_its_id_on_a_new_connection() {
    let server = Server::start(&[]);
    let (mut first, ok) = server.login("ann", "android").await;
    let session = ok["session"].clone();
    let resume = changed(login("ann", "android", "android"), &json!({ "resume": session }));

    let mut second = server.connect().await;
    let resumed = second.ok(resume.clone()).await;
    assert_eq!(resumed["resumed"], true);
    assert_eq!(resumed["session"], session);
    assert_eq!(resumed["kicked"], json!([]));
    assert_eq!(resumed["status"]["version"], ok["status"]["version"], "nobody could see it");
    assert_eq!(end(&mut first).await, 4007);
    server.until_logged(&["session ended", "moved"]).await;

    drop(second);
    server.until_state("ann", "PushOnline").await;
    let mut third = server.connect().await;
    let resumed = third.ok(resume).await;
    assert_eq!((&resumed["resumed"], &resumed["session"]), (&json!(true), &session));
    assert_eq!(resumed["status"]["state"], "Online");
}

#[tokio::test]
async fn a_resume_never_kicks_another_session() {
    let server = Server::start(&[("login.policy", "single")]);
    let resume = |platform, session: &str| {
        changed(login("ann", platform, platform), &json!({ "resume": session }))
    };
    let unknown = "0".repeat(32);
    // Without a conflict, a resume of an unknown session is a login.
    let mut phone = server.connect().await;
    let ok = phone.ok(resume("android", &unknown)).await;
    assert_eq!(ok["resumed"], false);
    let session = ok["session"].as_str().expect("a session");
    for gone in [&unknown, "", "no such thing"] {
        let outcome = refused(&server, resume("mac", gone)).await;
        assert_eq!(outcome, ("superseded".to_owned(), 4503), "{gone}");
    }
    // The session of another device counts as unknown.
    let outcome = refused(&server, resume("mac", session)).await;
    assert_eq!(outcome, ("superseded".to_owned(), 4503));

    let (_mac, ok) = server.login("ann", "mac").await;
    assert_eq!(ok["kicked"][0]["session"], session);
    let outcome = refused(&server, resume("android", session)).await;
    assert_eq!(outcome, ("kicked".to_owned(), 4501));
    assert!(matches!(phone.hear().await, Heard::Message(kicked) if kicked["type"] == "kicked"));
    assert_eq!(server.user("ann").await["platforms"], json!(["mac"]));
}

#[tokio::test]
async fn reject_new_refuses_a_login_and_names_the_conflicting_devices() {
    let server = Server::start(&[("login.policy", "single"), ("login.on_conflict", "reject_new")]);
    let (mut phone, _) = server.login("ann", "android").await;
    let mut client = server.connect().await;
    let reply = client.request(login("ann", "mac", "m1")).await;
    assert_eq!(reply["error"]["code"], "login_conflict");
    let devices = json!([{ "platform": "android", "device": "android" }]);
    assert_eq!(reply["error"]["devices"], devices);
    assert_eq!(end(&mut client).await, 4505);
    phone.ok(json!({ "type": "ping" })).await;
}
