//! Query parameters and page tokens.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{API_KEY, SOON, Server};

/// Every call with parameters, and its parameters.
const CALLS: [(&str, &[&str]); 11] = [
    ("/v1/refusals", &["user", "limit"]),
    ("/v1/users", &["prefix", "state", "cursor", "limit"]),
    ("/v1/sessions", &["user", "platform", "state", "node", "address", "cursor", "limit"]),
    ("/v1/snapshot", &["page", "limit"]),
    ("/v1/events", &["after", "limit"]),
    ("/v1/users/ann/history", &["before", "limit"]),
    ("/v1/users/ann/watchers", &["cursor", "limit"]),
    ("/v1/webhooks/dead", &["name", "cursor", "limit"]),
    ("/v1/stats/series", &["minutes", "after"]),
    ("/v1/figures", &["days"]),
    ("/v1/policy/explain", &["existing"]),
];

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let (status, body) = server.call("GET", path, None).await;
    (status, body)
}

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn empty_query_parameters_are_absent_and_unknown_ones_are_refused() {
    let server = Server::start(&[]);
    let _ann = server.login("ann", "web").await;
    for (path, parameters) in CALLS {
        let required = if path == "/v1/policy/explain" { "login=ios&" } else { "" };
        for parameter in parameters {
            let (status, body) = get(&server, &format!("{path}?{required}{parameter}=")).await;
            assert_eq!(status, 200, "{path} {parameter}: {body}");
            let (status, body) = get(&server, &format!("{path}?{required}{parameter}")).await;
            assert_eq!(status, 200, "{path} {parameter}: {body}");
            let twice = format!("{path}?{required}{parameter}=1&{parameter}=1");
            let (status, body) = get(&server, &twice).await;
            assert_eq!(status, 400, "{path} {parameter}: {body}");
            assert!(message(&body).contains(&format!("`{parameter}`")), "{path}: {body}");
        }
        let (status, body) = get(&server, &format!("{path}?{required}lmit=5")).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")), "{path}");
        assert!(message(&body).starts_with("`lmit` is not known here: expected "), "{body}");
        for parameter in parameters {
            assert!(message(&body).contains(&format!("`{parameter}`")), "{path}: {body}");
        }
    }
    let (status, body) = get(&server, "/v1/policy/explain?login=").await;
    assert_eq!((status, message(&body)), (400, "`login` is missing, and is required"));
}

/// The `next` of each list's first page.
async fn page_tokens(server: &Server) -> Vec<(&'static str, &'static str, String)> {
    let mut tokens = Vec::new();
    for (path, parameter) in [
        ("/v1/users", "cursor"),
        ("/v1/sessions", "cursor"),
        ("/v1/snapshot", "page"),
        ("/v1/users/ann/watchers", "cursor"),
        ("/v1/users/ann/history", "before"),
        ("/v1/events", "after"),
    ] {
        let (status, body) = get(server, &format!("{path}?limit=1")).await;
        assert_eq!(status, 200, "{body}");
        let next = body["next"].as_str().unwrap_or_else(|| panic!("{path}: {body}"));
        tokens.push((path, parameter, next.to_owned()));
    }
    tokens
}

#[tokio::test]
async fn page_tokens_of_other_lists_and_damaged_ones_are_refused() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut clients = Vec::new();
    for user in ["ann", "bob", "zoë / 漢"] {
        for platform in ["web", "mac"] {
            let (mut client, _) = server.login(user, platform).await;
            client.ok(json!({ "type": "subscribe", "users": ["ann", "bob"] })).await;
            clients.push(client);
        }
    }
    let tokens = page_tokens(&server).await;
    let distinct: BTreeSet<_> = tokens.iter().map(|(_, _, next)| next.as_str()).collect();
    assert_eq!(distinct.len(), tokens.len(), "{tokens:?}");
    for (path, parameter, next) in &tokens {
        let ask = async |token: &str| get(&server, &format!("{path}?{parameter}={token}")).await;
        assert_eq!(ask(next).await.0, 200, "{path}");
        let is_of_log = next.bytes().all(|byte| byte.is_ascii_digit());
        let mut wrong: Vec<String> =
            ["xx", "0x1", "-1", "%2B1", "1.5", "null", "ann", "1:ann", "NOW", "%20", "%FF"]
                .map(str::to_owned)
                .to_vec();
        let others = tokens.iter().filter(|(other, ..)| other != path);
        wrong.extend(
            others.map(|(.., next)| next.clone()).filter(|next| !is_of_log || !is_digits(next)),
        );
        if is_of_log {
            wrong.push(format!("0{next}"));
        } else {
            let (head, tail) = next.split_at(next.len() / 2);
            let other = if tail.starts_with('A') { 'B' } else { 'A' };
            wrong.extend(["0", "5", "9999999999999999999"].map(str::to_owned));
            wrong.extend([
                head.to_owned(),
                format!("{next}A"),
                format!("{head}{other}{}", &tail[1..]),
            ]);
        }
        for token in wrong {
            let (status, body) = ask(&token).await;
            assert_eq!(
                (status, &body["error"]["code"]),
                (400, &json!("bad_request")),
                "{path} {token}: {body}"
            );
            assert!(message(&body).starts_with(&format!("`{parameter}`: expected ")), "{body}");
        }
    }
    let (.., watchers) = &tokens[3];
    let (status, _) = get(&server, &format!("/v1/users/bob/watchers?cursor={watchers}")).await;
    assert_eq!(status, 400, "the token is for another user's watchers");
    let (status, _) = get(&server, "/v1/webhooks/dead?cursor=xx").await;
    assert_eq!(status, 400);
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[tokio::test]
async fn page_tokens_lead_through_whole_lists() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut clients = Vec::new();
    for n in 0..7 {
        let user = format!("ü/{n} {}", "x".repeat(120));
        let (mut client, _) = server.login(&user, "web").await;
        client.ok(json!({ "type": "subscribe", "users": ["ann"] })).await;
        clients.push(client);
    }
    for (path, parameter, list) in [
        ("/v1/users", "cursor", "statuses"),
        ("/v1/snapshot", "page", "statuses"),
        ("/v1/sessions", "cursor", "sessions"),
        ("/v1/users/ann/watchers", "cursor", "watchers"),
    ] {
        let (mut users, mut token) = (Vec::new(), String::new());
        loop {
            let (status, page) = get(&server, &format!("{path}?limit=2&{parameter}={token}")).await;
            assert_eq!(status, 200, "{page}");
            users.extend(
                page[list].as_array().expect("a list").iter().map(|one| one["user"].clone()),
            );
            let Some(next) = page["next"].as_str() else { break };
            next.clone_into(&mut token);
        }
        let distinct: BTreeSet<_> = users.iter().map(ToString::to_string).collect();
        assert_eq!((users.len(), distinct.len()), (7, 7), "{path}");
    }
}

#[tokio::test]
async fn events_after_now_are_only_new_ones() {
    let server = Server::start(&[]);
    let (mut ann, _) = server.login("ann", "mac").await;
    let (status, page) = get(&server, "/v1/events?after=now").await;
    assert_eq!((status, &page["events"]), (200, &json!([])));
    let now = page["next"].as_str().expect("a cursor").to_owned();
    let (_, all) = get(&server, "/v1/events").await;
    assert_eq!(all["next"], page["next"], "earlier events are left out");

    let request = server.http("GET", "/v1/events?after=now").bearer_auth(API_KEY);
    let request = request.header("accept", "text/event-stream");
    let mut stream = request.send().await.expect("an answer");
    let mut text = String::new();
    let mut read = async |until: &str| {
        while !text.contains(until) {
            let chunk = tokio::time::timeout(SOON, stream.chunk()).await.expect("something");
            let chunk = chunk.expect("bytes").expect("more");
            text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
        text.clone()
    };
    let begin = read("\n\n").await;
    assert_eq!(begin, format!("id: {now}\n\n"), "an interrupted stream resumes from here");
    ann.ok(json!({ "type": "set", "custom": "first" })).await;
    let live = read("first").await;
    assert_eq!(live.matches("data: ").count(), 1, "{live}");
    let (_, page) = get(&server, &format!("/v1/events?after={now}")).await;
    assert_eq!(page["events"][0]["status"]["custom"], "first");
}
