//! The server API, tested from outside.

mod answers;
mod counts;
mod dashboard;
mod faces;
mod key_limits;
mod kicks;
mod log;
mod operators;
mod proxy_login;
mod queries;
mod refusals;
mod tencent;
mod wrong_calls;

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{API_KEY, Client, Heard, SOON, Server};

const VIEWER_KEY: &str = "a-viewer-key-for-tests";
const ADMIN_KEY: &str = "an-admin-key-for-tests";

async fn json_of(answer: Response) -> Value {
    let text = answer.text().await.expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Sends a request that must fail; returns the status and the code, after checking the format.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let body = json_of(answer).await;
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{status} {body}"));
    assert!(error["message"].is_string(), "{body}");
    (status, error["code"].as_str().expect("a code").to_owned())
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn kick(server: &Server, user: &str, body: Value) -> Value {
    let path = format!("/v1/users/{user}/kick");
    let (status, answer) = server.call("POST", &path, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn ended(client: &mut Client) -> Value {
    let notice = client.message().await;
    assert_eq!(client.hear().await, Heard::Closed(4501));
    notice
}

#[tokio::test]
async fn statuses_are_returned_in_the_order_of_the_request() {
    let server = Server::start(&[]);
    let (_bob, ok) = server.login("bob", "android").await;
    let body = json!({ "users": ["nobody", "bob", "", "bob", " x"] });
    let (status, answer) = server.call("POST", "/v1/status", Some(body)).await;
    assert_eq!(status, 200);
    let nobody = json!({
        "user": "nobody", "state": "Offline", "platforms": [], "custom": null, "since": null,
        "last_seen": null, "version": 0, "away": false,
    });
    let bob = &ok["status"];
    let invalid = |user: &str| json!({ "user": user, "code": "invalid_user" });
    let errors = [invalid(""), invalid(" x")];
    assert_eq!(answer, json!({ "statuses": [nobody, bob, bob], "errors": errors }));

    let body = json!({ "users": ["bob", "nobody"], "detail": true });
    let (_, answer) = server.call("POST", "/v1/status", Some(body)).await;
    assert_eq!(answer["statuses"][0], server.user("bob").await);
    assert_eq!(answer["statuses"][1]["terminals"], json!([]));

    let most: Vec<_> = (0..500).map(|n| format!("user{n}")).collect();
    let (_, answer) = server.call("POST", "/v1/status", Some(json!({ "users": most }))).await;
    assert_eq!(answer["statuses"].as_array().map(Vec::len), Some(500));
    assert_eq!(answer["statuses"][499]["user"], "user499");
}

#[tokio::test]
async fn detail_shows_every_terminal() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut page = server.connect().await;
    let token = crate::support::token("bob");
    let login = json!({
        "type": "login", "token": token, "platform": "web", "device": "w1", "app": "shop",
    });
    let ok = page.ok(login).await;
    let (phone, _) = server.login("bob", "ios").await;
    drop(phone);
    let gone = async {
        while server.user("bob").await["terminals"][1]["state"] != "PushOnline" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.expect("the phone to be gone");
    let bob = server.user("bob").await;
    assert_eq!((&bob["state"], &bob["platforms"]), (&json!("Online"), &json!(["web"])));
    let terminal = &bob["terminals"][0];
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    let expected = json!({
        "platform": "web", "device": "w1", "state": "Online", "since": ok["status"]["since"],
        "session": ok["session"], "background": null, "activity": "active",
        "active_at": ok["status"]["since"], "address": "127.0.0.1", "app": "shop",
        "node": stats["nodes"][0]["id"],
    });
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(terminal[field], *value, "{field}");
    }
    assert!(terminal["node"].is_string());
    let phone = &bob["terminals"][1];
    assert_eq!((&phone["activity"], &phone["active_at"]), (&json!(null), &json!(null)));
    page.ok(json!({ "type": "background" })).await;
    assert_eq!(server.user("bob").await["terminals"][0]["background"]["reason"], "hide");
    page.ok(json!({ "type": "idle", "for_ms": 0 })).await;
    let bob = server.user("bob").await;
    assert_eq!((&bob["away"], &bob["terminals"][0]["activity"]), (&json!(true), &json!("idle")));
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!((&stats["users_away"], &stats["users"]["Online"]), (&json!(1), &json!(1)));
    let metrics = server.http("GET", "/metrics").bearer_auth(API_KEY).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("a text");
    for line in ["presence_hub_users{state=\"away\"} 1", "presence_hub_users{state=\"Online\"} 1"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn user_ids_in_paths_are_percent_decoded() {
    let server = Server::start(&[]);
    for (path, user) in [("a%2Fb", "a/b"), ("%C3%BC%20n", "ü n"), ("%3Cimg%3E", "<img>")] {
        server.login(user, "web").await;
        let status = server.user(path).await;
        assert_eq!((&status["user"], &status["state"]), (&json!(user), &json!("Online")));
    }
    let long = "x".repeat(129);
    for user in [long.as_str(), "%20bob", "bob%0A", "%00"] {
        let request = server.http("GET", &format!("/v1/users/{user}")).bearer_auth(API_KEY);
        assert_eq!(refused(request).await, refusal(400, "invalid_user"), "{user}");
    }
    for path in ["/v1/users/%FF", "/v1/users/%C3%28/kick", "/v1/users/%FF/custom"] {
        let method = match path.rsplit('/').next() {
            Some("kick") => "POST",
            Some("custom") => "PUT",
            _ => "GET",
        };
        let (status, _) = refused(server.http(method, path).bearer_auth(API_KEY)).await;
        assert_eq!(status, 400, "{path}");
    }
}

#[tokio::test]
async fn a_kick_ends_only_matching_sessions() {
    let server =
        Server::start(&[("login.policy", "multi"), ("login.max_instances", "{ mac = 2 }")]);
    let sign_in = async |platform: &str, device: &str| {
        let mut client = server.connect().await;
        let ok = client.login("bob", platform, device).await;
        (client, ok["session"].clone())
    };
    let (mut web, _) = sign_in("web", "d1").await;
    let (mut ios, _) = sign_in("ios", "d2").await;
    let (mut mac, mac_session) = sign_in("mac", "d3").await;
    let (mut mac2, _) = sign_in("mac", "d4").await;
    let nobody = json!({ "kicked": [], "revoked": false });
    assert_eq!(kick(&server, "bob", json!({ "platform": "ipad" })).await, nobody);
    assert_eq!(kick(&server, "bob", json!({ "platform": "ios", "device": "d3" })).await, nobody);
    assert_eq!(kick(&server, "bob", json!({ "session": "0".repeat(32) })).await, nobody);

    let answer = kick(&server, "bob", json!({ "session": mac_session })).await;
    let victim = json!({ "platform": "mac", "device": "d3", "session": mac_session });
    assert_eq!(answer, json!({ "kicked": [victim], "revoked": false }));
    ended(&mut mac).await;
    let answer = kick(&server, "bob", json!({ "platform": "iphone", "message": "bye" })).await;
    assert_eq!(answer["kicked"][0]["device"], "d2");
    assert_eq!(ended(&mut ios).await["message"], "bye");
    kick(&server, "bob", json!({ "device": "d1" })).await;
    ended(&mut web).await;

    mac2.ok(json!({ "type": "ping" })).await;
    let answer = kick(&server, "bob", json!({ "all": true })).await;
    assert_eq!(
        (answer["kicked"].as_array().map(Vec::len), &answer["revoked"]),
        (Some(1), &json!(true))
    );
    ended(&mut mac2).await;
    assert_eq!(server.user("bob").await["state"], "Offline");
    assert_eq!(kick(&server, "nobody", json!({ "all": true })).await["kicked"], json!([]));
    assert_eq!(server.user("nobody").await["version"], 0);
}

#[tokio::test]
async fn the_back_end_sets_a_custom_status() {
    let server = Server::start(&[]);
    let put = async |user: &str, body: Value| {
        server.call("PUT", &format!("/v1/users/{user}/custom"), Some(body)).await
    };
    let (status, body) = put("bob", json!({ "custom": "hi" })).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("not_logged_in")));

    let (mut bob, ok) = server.login("bob", "android").await;
    bob.ok(json!({ "type": "subscribe", "users": ["bob"] })).await;
    let mut version = ok["status"]["version"].as_u64();
    for custom in [json!("ü".repeat(128)), json!("hi"), json!(null)] {
        let (status, body) = put("bob", json!({ "custom": custom })).await;
        assert_eq!((status, &body["custom"], &body["user"]), (200, &custom, &json!("bob")));
        assert_eq!(body.get("terminals"), None);
        assert!(body["version"].as_u64() > version);
        version = body["version"].as_u64();
        let push = bob.message().await;
        assert_eq!((&push["custom"], push["version"].as_u64()), (&custom, version));
    }
    let (_, body) = put("bob", json!({ "custom": null })).await;
    assert_eq!(body["version"].as_u64(), version, "the same changes nothing");
    drop(bob);
    server.until_state("bob", "PushOnline").await;
    assert_eq!(put("bob", json!({ "custom": "asleep" })).await.0, 200);
    assert_eq!(server.user("bob").await["custom"], "asleep");
}

#[tokio::test]
async fn policy_explain_lists_what_a_login_kicks() {
    let server = Server::start(&[("login.policy", "triple")]);
    let path = "/v1/policy/explain?login=ios&existing=web,android:2,mac";
    let (status, answer) = server.call("GET", path, None).await;
    assert_eq!(status, 200, "{answer}");
    let counted = |list: &[(&str, u64)]| -> Value {
        list.iter().map(|(name, count)| json!({ "platform": name, "count": count })).collect()
    };
    assert_eq!(
        answer,
        json!({
            "policy": "triple",
            "kicked": counted(&[("android", 2)]),
            "rejected": false,
            "presets": {
                "single": counted(&[("android", 2), ("mac", 1), ("web", 1)]),
                "dual": counted(&[("android", 2), ("mac", 1)]),
                "triple": counted(&[("android", 2)]),
                "multi": counted(&[]),
            },
        })
    );
    let (_, answer) = server.call("GET", "/v1/policy/explain?login=iphone", None).await;
    assert_eq!(answer["kicked"], json!([]));
    for query in [
        "",
        "login=toaster",
        "login=ios&existing=x",
        "login=ios&existing=web:0",
        "login=ios&existing=web:101",
        "login=ios&existing=web:x",
        "login=ios&existing=web:60,mac:60",
    ] {
        let request = server.http("GET", &format!("/v1/policy/explain?{query}"));
        let request = request.bearer_auth(API_KEY);
        assert_eq!(refused(request).await, refusal(400, "bad_request"), "{query}");
    }
    let server = Server::start(&[("login.on_conflict", "reject_new")]);
    let (_, answer) = server.call("GET", "/v1/policy/explain?login=ios&existing=web", None).await;
    assert_eq!((&answer["rejected"], &answer["kicked"]), (&json!(true), &json!([])));
}

#[tokio::test]
async fn stats_count_sessions_users_and_messages() {
    let server = Server::start(&[("login.policy", "multi")]);
    let (mut web, _) = server.login("bob", "web").await;
    let (mut mac, _) = server.login("bob", "mac").await;
    let (phone, _) = server.login("amy", "android").await;
    web.ok(json!({ "type": "subscribe", "users": ["amy", "zoe"] })).await;
    drop(phone);
    server.until_state("amy", "PushOnline").await;
    assert_eq!(web.message().await["state"], "PushOnline");
    kick(&server, "bob", json!({ "platform": "mac" })).await;
    ended(&mut mac).await;
    let mut refused = server.connect().await;
    let login = json!({ "type": "login", "token": "x", "platform": "web", "device": "d" });
    assert_eq!(refused.error(login).await, "invalid_token");
    drop((refused, mac));

    let expected = json!({
        "connections": 1, "subscriptions": 2, "logins": 3, "kicks": 1, "refusals": 1,
        "deliveries": 1,
    });
    let counted = async {
        loop {
            let (_, stats) = server.call("GET", "/v1/stats", None).await;
            let mut counts = expected.as_object().expect("counts").iter();
            if counts.all(|(name, count)| stats[name] == *count) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let Ok(stats) = timeout(SOON, counted).await else {
        panic!("{:?}", server.call("GET", "/v1/stats", None).await)
    };
    assert_eq!((&stats["sessions"]["web"], &stats["sessions"]["mac"]), (&json!(1), &json!(0)));
    assert_eq!(stats["sessions"]["android"], 1);
    assert_eq!((&stats["users"]["Online"], &stats["users"]["PushOnline"]), (&json!(1), &json!(1)));
    assert_eq!(stats["nodes"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn invalid_bodies_are_refused() {
    let server = Server::start(&[]);
    let many: Vec<_> = (0..501).map(|n| format!("user{n}")).collect();
    let large = format!(r#"{{"users":["bob"],"x":"{}"}}"#, "x".repeat(1024 * 1024));
    let long = "x".repeat(257);
    let rows = [
        ("POST", "/v1/status", json!({ "users": [] }).to_string(), 400),
        ("POST", "/v1/status", json!({ "users": many }).to_string(), 400),
        ("POST", "/v1/status", json!({ "users": "bob" }).to_string(), 400),
        ("POST", "/v1/status", json!({ "users": [7] }).to_string(), 400),
        ("POST", "/v1/status", json!({ "users": ["bob"], "detail": "yes" }).to_string(), 400),
        ("POST", "/v1/status", json!([["bob"], true]).to_string(), 400),
        ("POST", "/v1/status", "{".into(), 400),
        ("POST", "/v1/status", String::new(), 400),
        ("POST", "/v1/status", large, 413),
        ("POST", "/v1/users/bob/kick", json!({ "platform": "toaster" }).to_string(), 400),
        ("POST", "/v1/users/bob/kick", json!({ "session": "me" }).to_string(), 400),
        ("POST", "/v1/users/bob/kick", json!({ "device": "" }).to_string(), 400),
        ("POST", "/v1/users/bob/kick", json!({ "all": true, "message": long }).to_string(), 400),
        ("POST", "/v1/users/bob/kick", json!([null, null, null, null]).to_string(), 400),
        ("PUT", "/v1/users/bob/custom", json!({}).to_string(), 400),
        ("PUT", "/v1/users/bob/custom", json!({ "custom": 7 }).to_string(), 400),
        ("PUT", "/v1/users/bob/custom", json!({ "custom": long }).to_string(), 400),
        ("PUT", "/v1/users/bob/custom", json!(["hi"]).to_string(), 400),
    ];
    for (method, path, body, status) in rows {
        let request = server.http(method, path).bearer_auth(API_KEY).body(body.clone());
        let code = if status == 413 { "too_large" } else { "bad_request" };
        let start: String = body.chars().take(60).collect();
        assert_eq!(refused(request).await, refusal(status, code), "{path} {start}");
    }
    // The content type is ignored.
    let request = server.http("POST", "/v1/status").bearer_auth(API_KEY);
    let request = request.header("content-type", "text/plain").body(r#"{"users":["bob"]}"#);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_key_has_the_rights_of_its_role() {
    let (viewers, admins) = (format!("[\"{VIEWER_KEY}\"]"), format!("[\"{ADMIN_KEY}\"]"));
    let server = Server::start(&[("auth.viewer_keys", &viewers), ("auth.admin_keys", &admins)]);
    let (_bob, _) = server.login("bob", "web").await;
    let calls = [
        ("POST", "/v1/status", r#"{"users":["bob"]}"#, true),
        ("GET", "/v1/users/bob", "", true),
        ("GET", "/v1/policy/explain?login=web", "", true),
        ("GET", "/v1/stats", "", true),
        ("PUT", "/v1/users/bob/custom", r#"{"custom":"hi"}"#, false),
        ("POST", "/v1/users/bob/kick", r#"{"platform":"ios"}"#, false),
    ];
    for (method, path, body, reads) in calls {
        let request = || server.http(method, path).body(body);
        let strangers = [
            request(),
            request().bearer_auth("not-a-key-of-this-hub"),
            request().bearer_auth(&API_KEY[1..]),
            request().bearer_auth(format!("{API_KEY}x")),
            request().bearer_auth(""),
            request().basic_auth("api", Some(API_KEY)),
            request().header("authorization", API_KEY),
            request().header("x-api-key", "not-a-key-of-this-hub"),
            request().header("cookie", format!("key={API_KEY}")),
            server.http(method, &format!("{}?key={API_KEY}", path.split('?').next().expect("it"))),
        ];
        for request in strangers {
            let answer = request.try_clone().expect("a copy").send().await.expect("an answer");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path}");
            assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{path}");
        }
        let viewer = request().bearer_auth(VIEWER_KEY);
        if reads {
            assert_eq!(viewer.send().await.expect("an answer").status(), 200, "{path}");
        } else {
            assert_eq!(refused(viewer).await, refusal(403, "forbidden"), "{path}");
        }
        for request in [
            request().bearer_auth(API_KEY),
            request().bearer_auth(ADMIN_KEY),
            request().header("x-api-key", API_KEY),
            request().header("authorization", format!("bearer {API_KEY}")),
        ] {
            assert_eq!(request.send().await.expect("an answer").status(), 200, "{path}");
        }
    }
    let kicked = server.http("POST", "/v1/users/bob/kick").header("x-api-key", VIEWER_KEY);
    assert_eq!(refused(kicked).await, refusal(403, "forbidden"));
    assert_eq!(server.user("bob").await["state"], "Online");
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_documented_error_format() {
    let server = Server::start(&[]);
    let rows = [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/users/bob/nothing", 404, "not_found"),
        ("POST", "/dev/token", 404, "not_found"),
        ("GET", "/v1/status", 405, "method_not_allowed"),
        ("POST", "/v1/users/bob", 405, "method_not_allowed"),
        ("GET", "/v1/users/bob/kick", 405, "method_not_allowed"),
        ("POST", "/v1/users/bob/custom", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ];
    for (method, path, status, code) in rows {
        let request = server.http(method, path).bearer_auth(API_KEY);
        if status == 405 {
            let answer = request.try_clone().expect("a copy").send().await.expect("an answer");
            assert!(answer.headers().contains_key("allow"), "{path}");
        }
        assert_eq!(refused(request).await, refusal(status, code), "{method} {path}");
    }
    let stranger = server.http("GET", "/v1/nothing");
    assert_eq!(
        refused(stranger).await,
        refusal(401, "unauthorized"),
        "strangers cannot probe paths"
    );
}
