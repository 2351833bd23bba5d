//! The canary: a hub with every kind of secret, asked for everything that it answers.

use std::fs;
use std::path::Path;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    API_KEY, Client, SECRET, Server, WEBHOOK_SECRET, now_secs, token, token_with,
};
use crate::usersig::{self, UserSig};

const ADMIN_KEY: &str = "an-admin-key-for-the-canary";
const VIEWER_KEY: &str = "a-viewer-key-for-the-canary";
const CALLBACK_TOKEN: &str = "a-callback-token-for-the-canary";

/// A hub that has every kind of secret, and a webhook whose receiver is down.
fn server() -> Server {
    let list = |text: &str| format!("[\"{text}\"]");
    Server::start(&[
        ("log.filter", "trace"),
        ("auth.admin_keys", &list(ADMIN_KEY)),
        ("auth.viewer_keys", &list(VIEWER_KEY)),
        ("webhook.url", "http://127.0.0.1:9/hook"),
        ("webhook.secrets", &list(WEBHOOK_SECRET)),
        ("tencent.sdk_app_id", &usersig::SDK_APP_ID.to_string()),
        ("tencent.secret_key", usersig::SECRET_KEY),
        ("tencent.callback_token", CALLBACK_TOKEN),
    ])
}

/// The head and the body of an answer, as text.
async fn text_of(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let head = format!("{:?}", answer.headers());
    let body = answer.bytes().await.expect("a body");
    (status, head + &String::from_utf8_lossy(&body))
}

/// The paths of all GET calls, with a user or a session in place of each parameter.
async fn calls(server: &Server, session: &str) -> Vec<String> {
    let (_, api) = server.call("GET", "/openapi.json", None).await;
    let paths = api["paths"].as_object().expect("paths").iter();
    let gets = paths.filter(|(_, calls)| calls.get("get").is_some());
    let filled = gets.map(|(path, _)| {
        path.replace("{user}", "ann").replace("{session}", session).replace("{platform}", "web")
    });
    let paths: Vec<_> = filled.collect();
    assert!(paths.len() > 15 && paths.iter().all(|path| !path.contains('{')), "{paths:?}");
    paths
}

/// The paths of the files of `static/`.
fn pages(folder: &Path, under: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry"));
    let paths = entries.flat_map(|entry| {
        let name = entry.file_name().into_string().expect("a name");
        let path = format!("{under}/{name}");
        if entry.path().is_dir() { pages(&entry.path(), &path) } else { vec![path] }
    });
    paths.collect()
}

/// Makes clients of every kind that show tokens, good ones and others.
async fn show_tokens(server: &Server) -> (Client, Value) {
    let (mut ann, ok) = server.login("ann", "linux").await;
    let fresh = token_with(json!({ "sub": "ann", "iat": now_secs(), "exp": now_secs() + 60 }));
    ann.ok(json!({ "type": "refresh", "token": fresh })).await;
    let other = token("bob");
    ann.error(json!({ "type": "refresh", "token": other })).await;
    ann.error(json!({ "type": "refresh", "token": SECRET })).await;
    let expired = token_with(json!({ "sub": "ann", "exp": 1000 }));
    for refused in [&expired, SECRET, &format!("{}x", token("ann"))] {
        let mut client = server.connect().await;
        client
            .error(json!({
                "type": "login", "token": refused, "platform": "web", "device": "d",
            }))
            .await;
    }
    for malformed in [json!({ "type": "login", "token": expired }), json!({ "token": expired })] {
        let mut client = server.connect().await;
        client.request(malformed).await;
    }
    (ann, ok)
}

#[tokio::test]
async fn no_secret_is_in_any_page_call_metric_error_log_line_or_file() {
    let server = server();
    let (_ann, ok) = show_tokens(&server).await;
    let session = ok["session"].as_str().expect("a session");
    let mut paths = calls(&server, session).await;
    paths.extend(pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("static"), "/static"));
    paths.extend(["/", "/static/", "/metrics", "/health", "/ready", "/nothing"].map(str::to_owned));
    let mut answered = 0;
    for path in &paths {
        for key in [ADMIN_KEY, VIEWER_KEY, API_KEY, "not-a-key-of-this-hub"] {
            let request = server.http("GET", path).bearer_auth(key);
            let (status, text) = text_of(request.send().await.expect("an answer")).await;
            server.assert_hidden(&text, path);
            answered += usize::from(status.is_success());
        }
    }
    assert!(answered > 2 * paths.len(), "{answered} answers of {} paths", paths.len());
    show_keys_in_wrong_places(&server).await;

    // The log is checked when the server stops. Its files hold the records and the audit log.
    server.until_logged(&["login refused", "token_expired"]).await;
    let data = server.directory.path().join("data");
    for entry in fs::read_dir(data).expect("the store") {
        let file = entry.expect("an entry").path();
        let bytes = fs::read(&file).unwrap_or_default();
        server.assert_hidden(&String::from_utf8_lossy(&bytes), &file.display().to_string());
    }
}

/// Errors must not repeat what a caller sent by mistake.
async fn show_keys_in_wrong_places(server: &Server) {
    let sig = UserSig::of("administrator").text();
    let query = usersig::query("administrator", &sig);
    let token = token("ann");
    let requests = [
        server.http("GET", &format!("/v1/stats?key={ADMIN_KEY}")),
        server.http("GET", &format!("/ws?token={token}&key={API_KEY}")),
        server.http("GET", &format!("/static/{ADMIN_KEY}")),
        server.http("GET", "/v1/stats").header("cookie", format!("key={ADMIN_KEY}")),
        server.http("GET", "/v1/stats").header("authorization", ADMIN_KEY),
        server.http("GET", "/v1/stats").bearer_auth(&token),
        server.http("POST", "/v1/admin/session").json(&json!({ "key": API_KEY })),
        server.http("POST", "/v1/admin/session").json(&json!({ "key": [ADMIN_KEY] })),
        server.http("POST", "/v1/admin/session").json(&json!({ "kez": ADMIN_KEY })),
        server.http("POST", "/v1/admin/session").json(&json!({ "key": ADMIN_KEY })),
        server.http("POST", "/v1/webhooks/test").bearer_auth(API_KEY),
        server.http("POST", "/dev/token").header("x-dev-key", ADMIN_KEY),
        server
            .http("POST", &format!("/v4/openim/query_online_status?{query}"))
            .json(&json!({ "To_Account": ["ann"] })),
        server.http("POST", &format!("/v4/openim/query_online_status?{query}x")).json(&json!({})),
    ];
    for request in requests {
        let (status, text) = text_of(request.send().await.expect("an answer")).await;
        for secret in [ADMIN_KEY, API_KEY, CALLBACK_TOKEN, &sig, &token] {
            assert!(!text.contains(secret), "{status}: {secret} in {text}");
        }
    }
    let log = server.log();
    for secret in [sig.as_str(), &token, CALLBACK_TOKEN] {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None);
    }
}
