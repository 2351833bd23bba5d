//! History, events, snapshot and lists of the server API, and its OpenAPI document.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{API_KEY, SOON, Server, until};

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.call("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn causes(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["cause"].as_str().expect("a cause")).collect()
}

#[tokio::test]
async fn v6_history_has_causes_newest_first_in_pages() {
    let server = Server::start(&[]);
    let (mut loser, _) = server.login("ana", "windows").await;
    let (mut winner, _) = server.login("ana", "mac").await;
    loser.until_closed().await;
    winner.ok(json!({ "type": "logout" })).await;
    server.login("bo", "mac").await;

    let page = get(&server, "/v1/users/ana/history").await;
    assert_eq!(causes(&page), ["logout", "login", "kicked", "login"]);
    assert_eq!(page["next"], Value::Null);
    let kicked = &page["events"][2];
    assert_eq!(kicked["by"]["device"], "mac", "the device whose login kicked it");
    assert!(kicked["evidence"]["last_heard"].is_u64(), "{kicked}");
    assert_eq!(kicked["terminal"]["to"], Value::Null);
    let login = &page["events"][1];
    assert_eq!(login["kicked"][0]["device"], "windows");
    for event in page["events"].as_array().expect("events") {
        for field in [
            "id", "user", "at", "cause", "version", "state", "terminal", "status", "by", "evidence",
        ] {
            assert!(event.get(field).is_some(), "{field} in {event}");
        }
        assert_eq!(event["status"]["version"], event["version"]);
    }

    let first = get(&server, "/v1/users/ana/history?limit=3").await;
    assert_eq!(causes(&first), ["logout", "login", "kicked"]);
    let before = first["next"].as_str().expect("a cursor");
    let second = get(&server, &format!("/v1/users/ana/history?limit=3&before={before}")).await;
    assert_eq!((causes(&second), &second["next"]), (vec!["login"], &Value::Null));
    assert_eq!(
        get(&server, "/v1/users/nobody/history").await,
        json!({ "events": [], "next": null })
    );
    for wrong in ["limit=0", "limit=1001", "limit=x", "before=x"] {
        let path = format!("/v1/users/ana/history?{wrong}");
        assert_eq!(server.call("GET", &path, None).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn events_are_read_in_pages_and_expired_cursors_are_410() {
    let server = Server::start(&[]);
    let begin = get(&server, "/v1/events").await;
    assert_eq!(begin["events"], json!([]));
    let begin = begin["next"].as_str().expect("a cursor").to_owned();
    for n in 0..5 {
        server.login(&format!("user-{n}"), "mac").await;
    }
    until("all", async || {
        let page = get(&server, &format!("/v1/events?after={begin}")).await;
        page["events"].as_array().is_some_and(|events| events.len() == 10)
    })
    .await;
    let (mut users, mut after) = (Vec::new(), begin);
    loop {
        let page = get(&server, &format!("/v1/events?limit=3&after={after}")).await;
        let next = page["next"].as_str().expect("a cursor");
        let events = page["events"].as_array().expect("events");
        if events.is_empty() {
            assert_eq!(next, after, "an empty page returns the same cursor");
            break;
        }
        users.extend(events.iter().map(|event| event["user"].clone()));
        after = next.to_owned();
    }
    assert_eq!(users.len(), 10);
    let later = after.parse::<u64>().expect("a number") + 1;
    for gone in ["1".to_owned(), later.to_string()] {
        let (status, body) = server.call("GET", &format!("/v1/events?after={gone}"), None).await;
        assert_eq!((status, &body["error"]["code"]), (410, &json!("cursor_expired")), "{gone}");
    }
}

/// Reads an event stream until `count` events have arrived; returns them with their ids.
async fn stream(
    server: &Server,
    path: &str,
    last: Option<&str>,
    count: usize,
) -> Vec<(String, Value)> {
    let mut request = server.http("GET", path).bearer_auth(API_KEY);
    request = request.header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(answer.headers()["cache-control"], "no-cache, no-store");
    assert_eq!(answer.headers()["x-accel-buffering"], "no", "nginx must not buffer it");
    let (mut answer, mut text) = (answer, String::new());
    let read = async {
        loop {
            let whole: Vec<_> = text.split("\n\n").map(str::to_owned).collect();
            let frames = &whole[..whole.len() - 1];
            let events = frames.iter().filter_map(|frame| {
                let (id, data) = frame.strip_prefix("id: ")?.split_once("\ndata: ")?;
                Some((id.to_owned(), serde_json::from_str(data).expect("JSON")))
            });
            let events: Vec<_> = events.collect();
            if events.len() >= count {
                return events;
            }
            let chunk = answer.chunk().await.expect("bytes").expect("more");
            text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    };
    timeout(SOON, read).await.expect("the events")
}

#[tokio::test]
async fn event_streams_are_live_and_resume_from_last_event_id() {
    let server = Server::start(&[]);
    let begin = get(&server, "/v1/events").await["next"].as_str().expect("a cursor").to_owned();
    let path = format!("/v1/events?after={begin}");
    let (mut ana, _) = server.login("ana", "mac").await;
    let act = async {
        for n in 0..3 {
            ana.ok(json!({ "type": "set", "custom": format!("{n}") })).await;
        }
    };
    let (events, ()) = tokio::join!(stream(&server, &path, None, 4), act);
    let customs: Vec<_> =
        events.iter().map(|(_, event)| event["status"]["custom"].clone()).collect();
    assert_eq!(customs, [Value::Null, json!("0"), json!("1"), json!("2")]);
    let rest = stream(&server, &path, Some(&events[1].0), 2).await;
    assert_eq!(rest, events[2..], "Last-Event-ID takes precedence over the query");

    let wrong = |last: &'static str| {
        let request = server.http("GET", "/v1/events").bearer_auth(API_KEY);
        request.header("accept", "text/event-stream").header("last-event-id", last).send()
    };
    assert_eq!(wrong("x").await.expect("an answer").status(), 400);
    assert_eq!(wrong("1").await.expect("an answer").status(), 410);
}

#[tokio::test]
async fn a_snapshot_and_the_events_after_it_make_an_exact_copy() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut clients = Vec::new();
    for n in 0..25 {
        clients.push(server.login(&format!("user-{n:02}"), "mac").await.0);
    }
    let mut copy: BTreeMap<String, Value> = BTreeMap::new();
    let (mut page, mut cursor) = (String::new(), None);
    loop {
        let some = get(&server, &format!("/v1/snapshot?limit=10&page={page}")).await;
        cursor = cursor.or_else(|| some["cursor"].as_str().map(str::to_owned));
        for status in some["statuses"].as_array().expect("statuses") {
            copy.insert(status["user"].as_str().expect("a user").to_owned(), status.clone());
        }
        // Change users between two pages.
        clients.pop().expect("a client").ok(json!({ "type": "logout" })).await;
        clients[0].ok(json!({ "type": "set", "custom": page })).await;
        match some["next"].as_str() {
            Some(next) => page = next.to_owned(),
            None => break,
        }
    }
    let cursor = cursor.expect("the first page's cursor");
    let events = get(&server, &format!("/v1/events?limit=1000&after={cursor}")).await;
    for event in events["events"].as_array().expect("events") {
        let known = copy.get(event["user"].as_str().expect("a user"));
        let version = known.and_then(|status| status["version"].as_u64()).unwrap_or_default();
        if event["version"].as_u64() > Some(version) {
            copy.insert(
                event["user"].as_str().expect("a user").to_owned(),
                event["status"].clone(),
            );
        }
    }
    assert_eq!(copy.len(), 25);
    for (user, status) in copy {
        let (_, live) = server.call("POST", "/v1/status", Some(json!({ "users": [user] }))).await;
        assert_eq!(live["statuses"][0], status);
    }
}

#[tokio::test]
async fn sessions_are_filtered_and_listed_in_pages() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut clients = Vec::new();
    for n in 0..4 {
        for platform in ["android", "mac", "web"] {
            clients.push(server.login(&format!("user-{n}"), platform).await);
        }
    }
    let (phone, _) = clients.remove(0);
    drop(phone);
    server.until_state("user-0", "Online").await;
    until("the phone", async || {
        let page = get(&server, "/v1/sessions?state=PushOnline").await;
        page["sessions"].as_array().is_some_and(|sessions| sessions.len() == 1)
    })
    .await;
    let count = async |query: &str| {
        let page = get(&server, &format!("/v1/sessions?{query}")).await;
        page["sessions"].as_array().expect("sessions").len()
    };
    let node =
        get(&server, "/v1/stats").await["nodes"][0]["id"].as_str().expect("an id").to_owned();
    for (query, expected) in [
        ("", 12),
        ("user=user-1", 3),
        ("platform=mac", 4),
        ("platform=android&state=Online", 3),
        ("state=Offline", 0),
        ("address=127.0.0.1", 12),
        ("address=192.0.2.1", 0),
        (&format!("node={node}"), 12),
        ("node=0", 0),
        ("user=nobody", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
    for wrong in ["platform=toaster", "state=Gone", "address=x", "cursor=x", "limit=0"] {
        let path = format!("/v1/sessions?{wrong}");
        assert_eq!(server.call("GET", &path, None).await.0, 400, "{wrong}");
    }
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&server, &format!("/v1/sessions?limit=5&cursor={cursor}")).await;
        let sessions = page["sessions"].as_array().expect("sessions");
        assert!(sessions.len() <= 5);
        all.extend(sessions.iter().map(|session| session["session"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(all.len(), 12);
    all.sort_by_key(ToString::to_string);
    all.dedup();
    assert_eq!(all.len(), 12, "each once");
}

#[tokio::test]
async fn users_are_listed_by_prefix_and_state() {
    let server = Server::start(&[]);
    let (mut ana, _) = server.login("ana", "mac").await;
    let _anton = server.login("anton", "mac").await;
    let _bo = server.login("bo", "mac").await;
    ana.ok(json!({ "type": "logout" })).await;
    let users = async |query: &str| -> Vec<Value> {
        let page = get(&server, &format!("/v1/users?{query}")).await;
        let statuses = page["statuses"].as_array().expect("statuses").iter();
        statuses.map(|status| status["user"].clone()).collect()
    };
    assert_eq!(users("").await, ["ana", "anton", "bo"]);
    assert_eq!(users("prefix=an").await, ["ana", "anton"]);
    assert_eq!(users("prefix=an&state=Online").await, ["anton"]);
    assert_eq!(users("state=Offline").await, ["ana"]);
    let page = get(&server, "/v1/users?limit=1").await;
    let cursor = page["next"].as_str().expect("a next");
    assert_eq!(users(&format!("cursor={cursor}&limit=1")).await, ["anton"]);
}

#[tokio::test]
async fn openapi_lists_every_call() {
    let server = Server::start(&[]);
    let answer = server.http("GET", "/openapi.json").send().await.expect("an answer");
    let text = answer.text().await.expect("a body");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().collect();
    for path in [
        "/v1/status",
        "/v1/users",
        "/v1/users/{user}",
        "/v1/users/{user}/history",
        "/v1/users/{user}/kick",
        "/v1/users/{user}/custom",
        "/v1/users/{user}/watchers",
        "/v1/policy/explain",
        "/v1/sessions",
        "/v1/snapshot",
        "/v1/events",
        "/v1/stats",
        "/v1/stats/series",
        "/v1/figures",
        "/v1/nodes",
        "/v1/refusals",
        "/v1/config",
        "/v1/config/defaults",
        "/v1/audit",
        "/v1/addresses",
        "/v1/admin/session",
        "/v1/webhooks",
        "/v1/webhooks/test",
        "/v1/webhooks/dead",
        "/v1/webhooks/dead/retry",
        "/v1/webhooks/dead/drop",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} in {paths:?}");
    }
}

#[tokio::test]
async fn openapi_gives_every_call_an_operation_id_and_a_tag() {
    let server = Server::start(&[]);
    let answer = server.http("GET", "/openapi.json").send().await.expect("an answer");
    let text = answer.text().await.expect("a body");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let tags = document["tags"].as_array().expect("tags").iter();
    let tags: Vec<_> = tags.map(|tag| tag["name"].as_str().expect("a name")).collect();
    let mut names = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, call) in methods.as_object().expect("methods") {
            let name = call["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
            let (first, rest) = name.split_at(1);
            let is_verb_and_noun = first.chars().all(|c| c.is_ascii_lowercase())
                && rest.chars().all(|c| c.is_ascii_alphabetic())
                && rest.contains(|c: char| c.is_ascii_uppercase());
            assert!(is_verb_and_noun, "{method} {path}: {name}");
            names.push(name.to_owned());
            let tag = call["tags"][0].as_str().unwrap_or_else(|| panic!("{method} {path}: a tag"));
            assert!(tags.contains(&tag), "{method} {path}: {tag} is not described");
        }
    }
    for (method, path, refusals) in [
        ("get", "/v1/users/{user}", &["401", "404", "405", "500"][..]),
        ("get", "/v1/sessions", &["404", "405"]),
        ("post", "/v1/status", &["404", "405", "408", "413"]),
        ("put", "/v1/users/{user}/custom", &["408", "409", "413"]),
        ("post", "/v1/users/{user}/kick", &["408", "413"]),
        ("post", "/v1/admin/session", &["408", "413", "429"]),
        ("post", "/v1/webhooks/test", &["409"]),
    ] {
        let answers = &document["paths"][path][method]["responses"];
        for status in refusals {
            let schema = &answers[status]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/ProblemBody", "{method} {path} {status}");
        }
        let takes_body = document["paths"][path][method]["requestBody"].is_object();
        assert_eq!(answers["413"].is_object(), takes_body, "{method} {path}");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "each operation id is unique");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in schemas.keys() {
        let is_of_rust =
            ["BTreeMap", "HashMap", "Vec", "Option", "Arc", "Box"].contains(&name.as_str());
        let is_word = name == "Who";
        assert!(!is_of_rust && !is_word && !name.contains('_'), "{name}");
    }
}
