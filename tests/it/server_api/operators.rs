//! Calls for operators: audit log, addresses, defaults, and searches in lists.

use presence_hub::auth::ApiKeys;
use presence_hub::presence::Record;
use presence_hub::store::Stored;
use serde_json::{Value, json};

use super::{ADMIN_KEY, VIEWER_KEY, json_of, refusal, refused};
use crate::lab::{Lab, id};
use crate::store_contract::commit_of;
use crate::support::{API_KEY, Client, SOON, Server, until};

fn server_with(settings: &[(&str, &str)]) -> Server {
    let (viewers, admins) = (format!("[\"{VIEWER_KEY}\"]"), format!("[\"{ADMIN_KEY}\"]"));
    let own = [("auth.viewer_keys", viewers.as_str()), ("auth.admin_keys", admins.as_str())];
    Server::start(&[&own, settings].concat())
}

async fn get(server: &Server, path: &str) -> Value {
    let answer = server.http("GET", path).bearer_auth(ADMIN_KEY).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    json_of(answer).await
}

async fn audit(server: &Server, query: &str) -> Vec<Value> {
    let page = get(server, &format!("/v1/audit{query}")).await;
    page["entries"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn audit_entries_are_listed_newest_first_with_caller_and_action() {
    let server = server_with(&[]);
    let (_bob, _) = server.login("bob", "web").await;
    let before = crate::support::now_millis();
    let request = server.http("PUT", "/v1/users/bob/custom").bearer_auth(API_KEY);
    request.json(&json!({ "custom": "away" })).send().await.expect("an answer");
    let request = server.http("POST", "/v1/users/bob/kick").bearer_auth(API_KEY);
    let kick = json!({ "platform": "web", "message": "spam" });
    request.json(&kick).send().await.expect("an answer");
    let request = server.http("POST", "/v1/webhooks/test").bearer_auth(API_KEY);
    assert_eq!(refused(request).await, refusal(409, "off"));
    let long = "x".repeat(4000);
    let path = format!("/v1/users/bob/kick?{long}");
    let viewer = server.http("POST", &path).bearer_auth(VIEWER_KEY);
    assert_eq!(refused(viewer).await, refusal(403, "forbidden"));
    let stranger = server.http("GET", "/v1/stats").bearer_auth("not-a-key-of-this-hub");
    assert_eq!(refused(stranger).await, refusal(401, "unauthorized"));

    let entries = audit(&server, "").await;
    let shown: Vec<_> = entries
        .iter()
        .map(|it| {
            [&it["outcome"], &it["role"], &it["action"], &it["whom"], &it["what"], &it["why"]]
        })
        .map(|fields| json!(fields))
        .collect();
    let expected = [
        json!(["refused", null, "wrong key", null, null, null]),
        json!([
            "refused",
            "viewer",
            "POST /v1/users/bob/kick",
            null,
            "this key may only read: use one of auth.api_keys or auth.admin_keys",
            null
        ]),
        json!(["failed", "api", "test the webhook", null, "off", null]),
        json!(["done", "api", "kick", "bob", "platform web: 1 ended", "spam"]),
        json!(["done", "api", "set custom", "bob", "away", null]),
    ];
    assert_eq!(shown, expected);
    for entry in &entries {
        assert_eq!(entry["address"], "127.0.0.1");
        assert!(crate::support::lies_between(&entry["at"], before, 60_000), "{entry}");
        assert!(!entry.to_string().contains("not-a-key") && entry.to_string().len() < 2000);
    }
    assert_eq!(entries[0]["key"], Value::Null);
    assert_eq!(entries[3]["key"].as_str().map(str::len), Some(8), "{}", entries[3]);
    assert_eq!(audit(&server, "?limit=2").await, entries[..2]);
    for key in [VIEWER_KEY, API_KEY] {
        let request = server.http("GET", "/v1/audit").bearer_auth(key);
        assert_eq!(refused(request).await, refusal(403, "forbidden"));
    }
}

#[tokio::test]
async fn audit_keeps_a_thousand_entries_and_wrong_keys_do_not_evict_them() {
    let server = server_with(&[]);
    let log_in = async |key: &str| {
        let request = server.http("POST", "/v1/admin/session").json(&json!({ "key": key }));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(log_in("not-a-key-of-this-hub").await, 401);
    for _ in 0..1005 {
        let request = server.http("POST", "/v1/users/bob/kick").bearer_auth(VIEWER_KEY);
        assert_eq!(request.send().await.expect("an answer").status(), 403);
    }
    let request = server.http("POST", "/v1/webhooks/test").bearer_auth(API_KEY);
    assert_eq!(refused(request).await, refusal(409, "off"));
    let entries = audit(&server, "?limit=1000").await;
    assert_eq!(entries.len(), 1000);
    assert_eq!(entries[0]["action"], "test the webhook");
    let rest = entries[1..].iter();
    assert!(rest.clone().all(|entry| entry["role"] == "viewer"), "the wrong key is older");
    assert_eq!(rest.count(), 999);
}

#[tokio::test]
async fn addresses_are_listed_by_number_of_open_websockets() {
    let server = server_with(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    let from = async |address: &str| {
        let url = format!("ws://{}/ws", server.address);
        let mut request =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
                .expect("a request");
        let header = address.parse().expect("a header");
        request.headers_mut().insert("x-forwarded-for", header);
        let stream = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
        let socket = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade").0;
        Client::over(socket, SOON)
    };
    let none = json!({ "addresses": [], "count": 0 });
    assert_eq!(get(&server, "/v1/addresses").await, none);
    let first = from("192.0.2.7").await;
    let mut more = Vec::new();
    for address in ["192.0.2.8", "192.0.2.8", "2001:db8::1", "192.0.2.7", "192.0.2.8"] {
        more.push(from(address).await);
    }
    let row =
        |address: &str, connections: u64| json!({ "address": address, "connections": connections });
    let (seven, eight) = (row("192.0.2.7", 2), row("192.0.2.8", 3));
    let all = json!({ "addresses": [eight, seven, row("2001:db8::1", 1)], "count": 3 });
    assert_eq!(get(&server, "/v1/addresses").await, all);
    let most = json!({ "addresses": [eight], "count": 3 });
    assert_eq!(get(&server, "/v1/addresses?limit=1").await, most);

    more.clear();
    let rest = json!({ "addresses": [row("192.0.2.7", 1)], "count": 1 });
    until("the others to be gone", async || get(&server, "/v1/addresses").await == rest).await;
    drop(first);
    until("all to be gone", async || get(&server, "/v1/addresses").await == none).await;
}

#[tokio::test]
async fn defaults_call_ignores_file_and_variables() {
    let server = server_with(&[("liveness.web_silence", "90s")]);
    let (config, defaults) =
        (get(&server, "/v1/config").await, get(&server, "/v1/config/defaults").await);
    assert_eq!(config["liveness"]["web_silence"], "90s");
    assert_eq!(defaults["liveness"]["web_silence"], "1m");
    assert_eq!(config["limits"], defaults["limits"]);
    assert_eq!(defaults["auth"]["secret"], "");
    let sections = |value: &Value| -> Vec<String> {
        let sections = value.as_object().expect("sections").iter();
        sections
            .flat_map(|(section, keys)| {
                let keys = keys.as_object().expect("settings").keys();
                keys.map(|key| format!("{section}.{key}")).collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(sections(&config), sections(&defaults));
    for key in [VIEWER_KEY, API_KEY] {
        let request = server.http("GET", "/v1/config/defaults").bearer_auth(key);
        assert_eq!(refused(request).await, refusal(403, "forbidden"));
    }
}

#[tokio::test]
async fn users_are_found_by_text_in_their_ids() {
    let server = server_with(&[]);
    let mut clients = Vec::new();
    for user in ["anna", "hanna", "joanna", "otto", "susanna"] {
        clients.push(server.login(user, "mac").await);
    }
    let (mut otto, _) = clients.remove(3);
    otto.ok(json!({ "type": "logout" })).await;
    let users = async |query: &str| -> (Vec<Value>, Value) {
        let page = get(&server, &format!("/v1/users?{query}")).await;
        let statuses = page["statuses"].as_array().expect("statuses").iter();
        (statuses.map(|status| status["user"].clone()).collect(), page["next"].clone())
    };
    let found = |users: &[&str], next: Value| (users.iter().map(|it| json!(it)).collect(), next);
    let all = ["anna", "hanna", "joanna", "susanna"];
    assert_eq!(users("contains=anna").await, found(&all, Value::Null));
    assert_eq!(users("contains=anna&limit=4").await, found(&all, Value::Null), "no empty page");
    let (first, next) = users("contains=anna&limit=2").await;
    assert_eq!(first, all[..2]);
    let rest = format!("contains=anna&limit=2&cursor={}", next.as_str().expect("a next"));
    assert_eq!(users(&rest).await, found(&all[2..], Value::Null));
    assert_eq!(users("contains=a&prefix=s").await, found(&["susanna"], Value::Null));
    assert_eq!(users("contains=t&state=Offline").await, found(&["otto"], Value::Null));
    assert_eq!(users("contains=t&state=Online").await, found(&[], Value::Null));
    assert_eq!(users("contains=zoe").await, found(&[], Value::Null));
}

#[tokio::test]
async fn one_search_scans_at_most_ten_thousand_users() {
    let lab = Lab::new();
    let (_ann, _) = lab.login("ann", "mac").await;
    let record = lab.record("ann").await;
    for n in 0..10_500 {
        let commit = commit_of(Record::clone(&record), Vec::new());
        let user = id(&format!("user-{n:05}"));
        lab.store.commit(&user, &Stored::default(), commit).await.expect("the store");
    }
    let (address, _) = lab.serve_http(|settings| {
        settings.keys = ApiKeys::new(&[], &[API_KEY.to_owned()], &[]);
    });
    let page = async |query: &str| {
        let request = crate::support::http(address, "GET", &format!("/v1/users?{query}"));
        json_of(request.bearer_auth(API_KEY).send().await.expect("an answer")).await
    };
    let first = page("contains=-104").await;
    assert_eq!(first["statuses"], json!([]), "the matches come after the first ten thousand users");
    let next = first["next"].as_str().expect("a next");
    let rest = page(&format!("contains=-104&limit=1000&cursor={next}")).await;
    assert_eq!(rest["statuses"].as_array().map(Vec::len), Some(100));
    assert_eq!((&rest["statuses"][0]["user"], &rest["next"]), (&json!("user-10400"), &Value::Null));
}

#[tokio::test]
async fn sessions_are_filtered_by_app_prefix() {
    let server = server_with(&[("login.policy", "multi")]);
    let mut clients = Vec::new();
    for (platform, app) in [("web", "shop 4.2"), ("mac", "shop 4.3"), ("ios", "chat 1")] {
        let mut client = server.connect().await;
        let token = crate::support::token("bob");
        let login = json!({
            "type": "login", "token": token, "platform": platform, "device": "d", "app": app,
        });
        client.ok(login).await;
        clients.push(client);
    }
    clients.push(server.login("bob", "linux").await.0);
    let count = async |query: &str| {
        let page = get(&server, &format!("/v1/sessions?{query}")).await;
        page["sessions"].as_array().expect("sessions").len()
    };
    for (query, expected) in [
        ("", 4),
        ("app=shop", 2),
        ("app=shop%204.2", 1),
        ("app=hop", 0),
        ("app=shop&platform=mac", 1),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
}
