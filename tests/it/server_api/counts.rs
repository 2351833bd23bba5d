//! The calls behind the dashboard's overview: stats, series, nodes, watchers and settings.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ADMIN_KEY, VIEWER_KEY, ended, json_of, kick, refusal, refused};
use crate::lab::Lab;
use crate::support::{API_KEY, SECRET, Server, WEBHOOK_SECRET, http, until};

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.call("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[tokio::test]
async fn stats_count_by_kind_reason_and_cause() {
    let server = Server::start(&[("login.policy", "multi")]);
    let (mut web, _) = server.login("bob", "web").await;
    let (phone, _) = server.login("amy", "android").await;
    drop(phone);
    server.until_state("amy", "PushOnline").await;
    let (mut mac, _) = server.login("bob", "mac").await;
    mac.ok(json!({ "type": "logout" })).await;
    mac.until_closed().await;
    kick(&server, "bob", json!({ "all": true })).await;
    ended(&mut web).await;
    let mut refused = server.connect().await;
    let login = json!({ "type": "login", "token": "x", "platform": "web", "device": "d" });
    assert_eq!(refused.error(login).await, "invalid_token");
    refused.until_closed().await;
    let expected = json!({
        "logins_by_kind": { "login": 3 },
        "refusals_by_reason": { "invalid_token": 1 },
        "kicks_by_reason": { "admin": 1 },
        "closes": 4,
        "closes_by_reason": { "lost": 1, "logout": 1, "kicked": 1, "invalid_token": 1 },
        "slow_consumers": 0,
        "transitions": 6,
        "sessions_by_state": { "Online": 0, "PushOnline": 1 },
        "webhook": { "state": "off", "accepted": 0, "dead": 0, "dead_waiting": 0 },
        "stalls": 0,
        "accept_errors": 0,
    });
    let mut stats = Value::Null;
    until("the counts", async || {
        stats = get(&server, "/v1/stats").await;
        stats["closes"] == 4
    })
    .await;
    for (name, count) in expected.as_object().expect("counts") {
        assert_eq!(stats[name], *count, "{name} in {stats}");
    }
    let causes = stats["transitions_by_cause"].as_object().expect("causes");
    assert_eq!(causes.len(), 16, "{causes:?}");
    assert_eq!((&causes["login"], &causes["kicked"]), (&json!(3), &json!(1)));
    assert!(stats["memory_bytes"].as_u64() > Some(1 << 20), "{stats}");
    assert!(stats["uptime_ms"].is_u64() && stats["at"].is_u64(), "{stats}");
    let store = &stats["store"];
    assert_eq!((&store["state"], &store["failures"]), (&json!("up"), &json!(0)));
    assert!(
        store["commits"].as_u64() >= Some(6) && store["commit_us"].as_u64() > Some(0),
        "{store}"
    );
}

fn admin() -> presence_hub::auth::ApiKeys {
    presence_hub::auth::ApiKeys::new(&[], &[], &[ADMIN_KEY.to_owned()])
}

async fn asked(address: std::net::SocketAddr, path: &str) -> reqwest::Response {
    http(address, "GET", path).bearer_auth(ADMIN_KEY).send().await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn a_stats_point_is_recorded_every_five_seconds_and_kept_for_an_hour() {
    let lab = Lab::new();
    let (address, _) = lab.serve_http(|settings| settings.keys = admin());
    let _ana = lab.listener("ana", "mac").await;
    // Paused time advances by itself while all tasks wait.
    for _ in 0..61 * 12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::resume();
    let series = async |query: &str| {
        json_of(asked(address, &format!("/v1/stats/series{query}")).await).await
    };
    let hour = series("?minutes=60").await;
    assert_eq!(hour["every_ms"], 5000);
    let points = hour["points"].as_array().expect("points");
    assert!((719..=721).contains(&points.len()), "{} points", points.len());
    let at = |point: &Value| point["at"].as_u64().expect("a time");
    // The last points may be from after `resume`.
    for pair in points[..points.len() - 3].windows(2) {
        assert_eq!(at(&pair[1]) - at(&pair[0]), 5000);
    }
    let last = points.last().expect("a point");
    let stats = json_of(asked(address, "/v1/stats").await).await;
    for (name, value) in stats.as_object().expect("counts") {
        let changes = ["at", "uptime_ms", "memory_bytes", "nodes"];
        if !changes.contains(&name.as_str()) {
            assert_eq!(last[name], *value, "{name}");
        }
    }
    assert_eq!(last["sessions"]["mac"], 1);
    assert_eq!(last.get("nodes"), None);
    for (query, fewest) in [("", 179), ("?minutes=15", 179), ("?minutes=1", 11)] {
        let some = series(query).await["points"].as_array().map_or(0, Vec::len);
        assert!((fewest..=fewest + 6).contains(&some), "{query}: {some}");
    }
    let third_last = &points[points.len() - 3]["at"];
    let new = series(&format!("?after={third_last}")).await;
    assert!((2..=6).contains(&new["points"].as_array().map_or(0, Vec::len)), "what came after it");
    for wrong in ["?minutes=0", "?minutes=61", "?minutes=x", "?after=x"] {
        let answer = asked(address, &format!("/v1/stats/series{wrong}")).await;
        assert_eq!(answer.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_nodes_are_listed() {
    let server = Server::start(&[("login.policy", "multi")]);
    let (mut bob, _) = server.login("bob", "web").await;
    let (_amy, _) = server.login("amy", "mac").await;
    bob.ok(json!({ "type": "subscribe", "users": ["amy", "zed"] })).await;
    let _visitor = server.connect().await;
    until("the visitor", async || get(&server, "/v1/stats").await["connections"] == 3).await;
    let answer = get(&server, "/v1/nodes").await;
    let nodes = answer["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    let user = server.user("bob").await;
    assert_eq!(node["id"], user["terminals"][0]["node"]);
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&node["sessions"], &node["connections"]), (&json!(2), &json!(3)));
    assert_eq!((&node["subscriptions"], &node["state"]), (&json!(2), &json!("up")));
    assert!(node["started"].is_u64() && node["memory_bytes"].is_u64(), "{node}");
    let (files, disk) = (&node["open_files"], &node["disk"]);
    assert!(files["used"].as_u64() > Some(3) && files["used"].as_u64() < files["limit"].as_u64());
    assert!(disk["free_bytes"].as_u64() <= disk["total_bytes"].as_u64(), "{node}");
    assert!(disk["total_bytes"].as_u64() > Some(1 << 20), "{node}");
    let stats = get(&server, "/v1/stats").await;
    assert_eq!(stats["nodes"][0]["id"], node["id"]);

    server.signal(rustix::process::Signal::TERM);
    server.until_logged(&["draining"]).await;
}

#[tokio::test]
async fn watchers_of_a_user_are_listed_by_session() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut watchers = Vec::new();
    for (user, platform) in [("ann", "web"), ("ann", "mac"), ("bob", "ios"), ("<b>", "linux")] {
        let (mut client, ok) = server.login(user, platform).await;
        client.ok(json!({ "type": "subscribe", "users": ["star", "other"] })).await;
        watchers.push((client, user, platform, ok));
    }
    let (mut elsewhere, _) = server.login("eve", "web").await;
    elsewhere.ok(json!({ "type": "subscribe", "users": ["other"] })).await;

    let page = get(&server, "/v1/users/star/watchers").await;
    assert_eq!((&page["count"], &page["next"]), (&json!(4), &Value::Null));
    let listed = page["watchers"].as_array().expect("watchers");
    assert_eq!(listed.len(), 4);
    for (listed, (_, user, platform, ok)) in listed.iter().zip(&watchers) {
        let expected = [*user, platform, platform].map(|text| json!(text));
        let told = ["user", "platform", "device"].map(|field| listed[field].clone());
        assert_eq!(told, expected);
        assert_eq!(listed["session"], ok["session"]);
        assert_eq!(listed["state"], "Online");
        let whole = server.user(&user.replace('<', "%3C").replace('>', "%3E")).await;
        let terminals = whole["terminals"].as_array().expect("terminals");
        let terminal = terminals.iter().find(|t| t["session"] == ok["session"]);
        assert_eq!(terminal.expect("the terminal")["node"], listed["node"]);
    }
    let first = get(&server, "/v1/users/star/watchers?limit=3").await;
    assert_eq!((first["watchers"].as_array().map(Vec::len), &first["count"]), (Some(3), &json!(4)));
    let next = first["next"].as_str().expect("a cursor");
    let rest = get(&server, &format!("/v1/users/star/watchers?limit=3&cursor={next}")).await;
    assert_eq!((&rest["watchers"][0]["user"], &rest["next"]), (&json!("<b>"), &Value::Null));

    let (mut ann, ..) = watchers.remove(0);
    ann.ok(json!({ "type": "unsubscribe", "users": ["star"] })).await;
    assert_eq!(get(&server, "/v1/users/star/watchers").await["count"], 3);
    drop(watchers.remove(0));
    until("the other one", async || get(&server, "/v1/users/star/watchers").await["count"] == 2)
        .await;
    let nobody = json!({ "count": 0, "watchers": [], "next": null });
    assert_eq!(get(&server, "/v1/users/nobody/watchers").await, nobody);
    for wrong in ["limit=0", "cursor=x", "limit=1001"] {
        let path = format!("/v1/users/star/watchers?{wrong}");
        assert_eq!(server.call("GET", &path, None).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn config_call_is_for_admins_and_hides_secrets() {
    let (viewers, admins) =
        (format!("[\"{VIEWER_KEY}\"]"), format!("[\"{ADMIN_KEY}\", \"another-admin-key\"]"));
    let webhook = format!("[\"{WEBHOOK_SECRET}\"]");
    let server = Server::start(&[
        ("auth.viewer_keys", &viewers),
        ("auth.admin_keys", &admins),
        ("webhook.secrets", &webhook),
        ("tencent.secret_key", "what-only-the-application-knows"),
        ("tencent.callback_token", "what-only-the-receiver-knows"),
        ("liveness.web_silence", "90s"),
    ]);
    for key in [VIEWER_KEY, API_KEY] {
        let request = server.http("GET", "/v1/config").bearer_auth(key);
        assert_eq!(refused(request).await, refusal(403, "forbidden"));
    }
    assert_eq!(refused(server.http("GET", "/v1/config")).await, refusal(401, "unauthorized"));
    let request = server.http("GET", "/v1/config").bearer_auth(ADMIN_KEY);
    let text = request.send().await.expect("an answer").text().await.expect("a text");
    let secrets = [
        SECRET,
        API_KEY,
        VIEWER_KEY,
        ADMIN_KEY,
        "another-admin-key",
        WEBHOOK_SECRET,
        "what-only-the-application-knows",
        "what-only-the-receiver-knows",
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["auth"]["secret"], "(hidden)");
    assert_eq!(config["auth"]["admin_keys"], json!(["(hidden)", "(hidden)"]));
    assert_eq!(config["liveness"]["web_silence"], "90s");

    // The call returns the same as `check-config` prints.
    let mut command = crate::support::command(
        server.directory.path(),
        &[
            ("auth.secret", SECRET),
            ("auth.api_keys", &format!("[\"{API_KEY}\"]")),
            ("server.listen", "127.0.0.1:0"),
            ("auth.viewer_keys", &viewers),
            ("auth.admin_keys", &admins),
            ("webhook.secrets", &webhook),
            ("tencent.secret_key", "what-only-the-application-knows"),
            ("tencent.callback_token", "what-only-the-receiver-knows"),
            ("liveness.web_silence", "90s"),
        ],
    );
    let printed = command.arg("check-config").output().expect("to run").stdout;
    let printed: toml::Table = String::from_utf8(printed).expect("a text").parse().expect("TOML");
    assert_eq!(serde_json::to_value(printed).expect("JSON"), config);
}
