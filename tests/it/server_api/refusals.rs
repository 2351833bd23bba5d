//! Refused logins in the log and in `GET /v1/refusals`: user, reason and address.

use serde_json::{Value, json};

use super::VIEWER_KEY;
use crate::support::{
    API_KEY, Server, lies_between, now_millis, now_secs, token, token_with, until,
};

/// Sends this login message, which must fail; returns the close code.
async fn attempt(server: &Server, mut login: Value) -> Option<u16> {
    let mut client = server.connect().await;
    if login["type"].is_null() {
        login["type"] = json!("login");
        login["id"] = json!(1);
    }
    client.send(&login).await;
    client.until_closed().await.1
}

async fn refusals(server: &Server, query: &str) -> Vec<Value> {
    let (status, body) = server.call("GET", &format!("/v1/refusals{query}"), None).await;
    assert_eq!(status, 200, "{body}");
    body["refusals"].as_array().expect("a list").clone()
}

fn login(token: &str, device: &str) -> Value {
    json!({ "token": token, "platform": "linux", "device": device })
}

#[tokio::test]
async fn refused_logins_are_listed_and_logged_with_all_readable_fields() {
    let server = Server::start(&[("login.on_conflict", "reject_new")]);
    let begun = now_millis();
    let (_desk, ok) = server.login("ann", "mac").await;
    let exp = now_secs() + 3600;
    let mut forged = token("eve");
    forged.truncate(forged.len() - 4);
    forged.push_str("AAAA");
    let (_bob, kicked) = server.login("bob", "linux").await;
    let kick = Some(json!({ "session": kicked["session"] }));
    server.call("POST", "/v1/users/bob/kick", kick).await;
    server.call("POST", "/v1/users/zoe/kick", Some(json!({ "all": true }))).await;
    let expired = token_with(json!({ "sub": "old", "exp": 1000 }));
    let mobile = token_with(json!({ "sub": "mob", "exp": exp, "platform": "ios" }));
    let tied = token_with(json!({ "sub": "tied", "exp": exp, "device": "other" }));
    let early = token_with(json!({ "sub": "early", "exp": exp, "nbf": exp - 1 }));
    let revoked = token_with(json!({ "sub": "zoe", "exp": exp, "iat": 1000 }));
    let resume = json!({
        "token": token("bob"), "platform": "linux", "device": "linux",
        "resume": kicked["session"],
    });
    let ann = ok["user"].as_str().expect("a user");
    let malformed = json!({ "token": token("mal"), "platform": "toaster", "device": "t" });
    let rows = [
        (login("garbage", "d0"), "invalid_token", None, false),
        (login(&forged, "d1"), "invalid_token", Some("eve"), false),
        (login(&expired, "d2"), "token_expired", Some("old"), true),
        (login(&mobile, "d3"), "platform_not_allowed", Some("mob"), true),
        (login(&tied, "d4"), "invalid_device", Some("tied"), true),
        (login(&early, "d7"), "invalid_token", Some("early"), true),
        (login(&revoked, "d5"), "token_revoked", Some("zoe"), true),
        (login(&token(ann), "d6"), "login_conflict", Some("ann"), true),
        (resume, "kicked", Some("bob"), true),
        (malformed, "bad_request", Some("mal"), false),
    ];
    for (message, reason, user, verified) in rows {
        let device = message["device"].clone();
        assert!(attempt(&server, message).await.is_some(), "{reason}");
        let latest = refusals(&server, "?limit=1").await.remove(0);
        assert!(lies_between(&latest["at"], begun, 0), "{latest}");
        assert!(latest["message"].as_str().is_some_and(|words| words.len() > 5), "{latest}");
        assert_eq!(latest["reason"], reason);
        assert_eq!(latest["user"], json!(user), "{latest}");
        assert_eq!(latest["verified"], verified, "{latest}");
        assert_eq!(latest["device"], device, "{latest}");
        let platform = if reason == "bad_request" { Value::Null } else { json!("linux") };
        assert_eq!(latest["platform"], platform, "{latest}");
        assert_eq!(latest["address"], "127.0.0.1", "{latest}");

        let (reason, device) = (format!("reason=\"{reason}\""), format!("device={device}"));
        let line = server.until_logged(&["INFO", "login refused", &reason, &device]).await;
        let user = user.map(|user| format!("user={user:?}")).unwrap_or_default();
        for part in [user.as_str(), "detail=", "address=127.0.0.1"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    let metrics = server.http("GET", "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a body");
    for line in [
        "presence_hub_login_refusals_total{reason=\"invalid_token\"} 3",
        "presence_hub_refusals_total{reason=\"invalid_token\"} 3",
        "presence_hub_login_refusals_total{reason=\"bad_request\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn refused_logins_cannot_forge_log_lines_or_invalid_users() {
    let server = Server::start(&[]);
    let exp = now_secs() + 3600;
    let long = "x".repeat(129);
    for sub in [json!("a\nb"), json!(" a"), json!(long), json!(7), json!("."), json!(null)] {
        let token = token_with(json!({ "sub": sub, "exp": exp }));
        attempt(&server, login(&token, "d\n\u{202e}evil")).await;
        let latest = refusals(&server, "?limit=1").await.remove(0);
        assert_eq!((&latest["user"], &latest["reason"]), (&Value::Null, &json!("invalid_token")));
        assert_eq!(latest["device"], "d\n\u{202e}evil");
    }
    attempt(&server, login(&token("ann"), &long)).await;
    let latest = refusals(&server, "?limit=1").await.remove(0);
    assert_eq!((&latest["user"], &latest["device"]), (&json!("ann"), &Value::Null));
    let words =
        json!({ "token": "t", "platform": "web", "device": "d", "custom": "x".repeat(999) });
    attempt(&server, words).await;
    attempt(&server, json!({ "type": "login", "id": 1, "device": ["d"], "token": { "a": 1 } }))
        .await;
    let listed = refusals(&server, "").await;
    assert!(listed.iter().all(|it| it["message"].as_str().is_some_and(|m| m.len() <= 256)));

    server.until_logged(&["login refused", "device=\"d\\n\\u{202e}evil\""]).await;
    let log = server.log();
    let bad = log.lines().find(|line| line.starts_with("evil") || line.contains('\u{202e}'));
    assert_eq!(bad, None);
}

#[tokio::test]
async fn refusals_are_listed_newest_first_by_user_and_limit() {
    let viewers = format!("[\"{VIEWER_KEY}\"]");
    let server = Server::start(&[("auth.viewer_keys", &viewers)]);
    assert_eq!(refusals(&server, "").await, Vec::<Value>::new());
    for user in ["ann", "bob", "ann", "cleo", "ann"] {
        let expired = token_with(json!({ "sub": user, "exp": 1000 }));
        assert_eq!(attempt(&server, login(&expired, "d")).await, Some(4001));
    }
    let users = async |query: &str| -> Vec<_> {
        let listed = refusals(&server, query).await;
        listed.iter().map(|it| it["user"].as_str().expect("a user").to_owned()).collect()
    };
    assert_eq!(users("").await, ["ann", "cleo", "ann", "bob", "ann"]);
    assert_eq!(users("?limit=2").await, ["ann", "cleo"]);
    assert_eq!(users("?user=ann").await, ["ann", "ann", "ann"]);
    assert_eq!(users("?user=ann&limit=1").await, ["ann"]);
    assert_eq!(users("?user=nobody").await, Vec::<String>::new());
    let times: Vec<_> = refusals(&server, "").await.iter().map(|it| it["at"].as_u64()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");

    for query in ["?limit=0", "?limit=1001", "?limit=x", "?user=%20ann"] {
        let (status, body) = server.call("GET", &format!("/v1/refusals{query}"), None).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")), "{query}");
    }
    for (key, status) in [(VIEWER_KEY, 200), (API_KEY, 200), ("not-a-key-of-this-hub", 401)] {
        let request = server.http("GET", "/v1/refusals").bearer_auth(key);
        assert_eq!(request.send().await.expect("an answer").status(), status, "{key}");
    }
}

#[tokio::test]
async fn refused_logins_are_bounded_in_log_and_memory() {
    let server = Server::start(&[]);
    let first = token_with(json!({ "sub": "first", "exp": 1000 }));
    attempt(&server, login(&first, "d")).await;
    for n in 0..1010 {
        let expired = token_with(json!({ "sub": format!("user-{n}"), "exp": 1000 }));
        attempt(&server, login(&expired, "d")).await;
    }
    let listed = refusals(&server, "?limit=1000").await;
    assert_eq!(listed.len(), 1000);
    assert_eq!(
        (&listed[0]["user"], &listed[999]["user"]),
        (&json!("user-1009"), &json!("user-10"))
    );
    assert_eq!(refusals(&server, "?user=first").await, Vec::<Value>::new());
    let lines = server.log().matches("login refused").count();
    assert!((20..=200).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn login_timeouts_are_listed_as_refusals() {
    let server = Server::start(&[("login.timeout", "100ms")]);
    let mut visitor = server.connect().await;
    assert_eq!(visitor.until_closed().await.1, Some(4000));
    let mut latest = Vec::new();
    until("the refusal", async || {
        latest = refusals(&server, "").await;
        !latest.is_empty()
    })
    .await;
    assert_eq!(latest[0]["reason"], "login_timeout");
    for field in ["user", "platform", "device"] {
        assert_eq!(latest[0][field], Value::Null, "{field}");
    }
}
