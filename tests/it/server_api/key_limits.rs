//! Limits on what one key may ask for: requests, the entries that they read, and event streams.

use std::net::SocketAddr;
use std::time::Duration;

use presence_hub::auth::{ApiKeys, Rate};
use presence_hub::presence::Record;
use presence_hub::store::Stored;
use reqwest::Response;
use serde_json::json;

use super::{ADMIN_KEY, VIEWER_KEY, json_of};
use crate::lab::{Lab, Logged, id};
use crate::store_contract::commit_of;
use crate::support::{API_KEY, Server, http, until};

/// A hub in this process whose keys may send `burst` requests, and then one a second.
fn limited(lab: &Lab, burst: u32) -> SocketAddr {
    limited_to(lab, Rate { burst, per: 1, interval: Duration::from_secs(1) })
}

fn limited_to(lab: &Lab, rate: Rate) -> SocketAddr {
    let (address, _) = lab.serve_http(|settings| {
        let [viewer, api, admin] = [VIEWER_KEY, API_KEY, ADMIN_KEY].map(|key| [key.to_owned()]);
        settings.keys = ApiKeys::new(&viewer, &api, &admin);
        settings.requests_per_key = rate;
        settings.streams_per_key = 2;
    });
    address
}

async fn get(address: SocketAddr, path: &str, key: &str) -> Response {
    http(address, "GET", path).bearer_auth(key).send().await.expect("an answer")
}

/// Calls until the key is refused; returns how many calls were answered.
async fn count_until_refused(address: SocketAddr, path: &str, key: &str) -> u32 {
    for n in 0..1000 {
        let answer = get(address, path, key).await;
        match answer.status().as_u16() {
            200 => (),
            429 => return n,
            other => panic!("{other} {path}"),
        }
    }
    panic!("never refused: {path}")
}

/// Advances the hub's time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_key_over_its_rate_is_refused_and_no_other_key() {
    let (lab, logged) = (Lab::new(), Logged::here());
    let address = limited(&lab, 5);
    let answered = count_until_refused(address, "/v1/nodes", VIEWER_KEY).await;
    // Real time passes, too, while the test runs.
    assert!((5..8).contains(&answered), "{answered}");
    for (method, path) in [("GET", "/v1/stats"), ("GET", "/v1/nothing"), ("POST", "/v1/status")] {
        let request = http(address, method, path).bearer_auth(VIEWER_KEY).body("{}");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 429, "{path}");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(json_of(answer).await["error"]["code"], "rate_limited");
    }
    for key in [API_KEY, ADMIN_KEY] {
        assert_eq!(get(address, "/v1/nodes", key).await.status(), 200);
    }
    let lines = logged.lines("the key is over its limit");
    assert_eq!(lines.len(), 1, "once a minute: {lines:?}");
    let parts = ["WARN", "role=\"viewer\"", "limit=\"limits.requests_per_key_per_second\"", "key="];
    assert!(parts.iter().all(|part| lines[0].contains(part)), "{lines:?}");
    assert!(!lines[0].contains(VIEWER_KEY), "{lines:?}");
    let metrics = http(address, "GET", "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a text");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("presence_hub_key_refusals_total{limit=\"requests\"} "));
    assert_eq!(count, Some("4"), "{metrics}");

    pass(Duration::from_secs(3)).await;
    let answered = count_until_refused(address, "/v1/nodes", VIEWER_KEY).await;
    assert!((3..6).contains(&answered), "{answered}");
}

#[tokio::test]
async fn the_logins_of_a_key_share_its_rate() {
    let lab = Lab::new();
    let address = limited(&lab, 20);
    let mut cookies = Vec::new();
    for _ in 0..4 {
        let login = http(address, "POST", "/v1/admin/session").json(&json!({ "key": VIEWER_KEY }));
        let answer = login.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let cookie = answer.headers()["set-cookie"].to_str().expect("a text").to_owned();
        cookies.push(cookie.split(';').next().expect("a cookie").to_owned());
    }
    let mut answered = 0;
    'all: for _ in 0..100 {
        for cookie in &cookies {
            let request = http(address, "GET", "/v1/nodes").header("cookie", cookie);
            if request.send().await.expect("an answer").status() == 429 {
                break 'all;
            }
            answered += 1;
        }
    }
    assert!((12..50).contains(&answered), "{answered}, not 80");
    let login = http(address, "POST", "/v1/admin/session").json(&json!({ "key": VIEWER_KEY }));
    assert_eq!(login.send().await.expect("an answer").status(), 429, "no fresh budget by a login");
}

#[tokio::test]
async fn calls_that_read_much_count_as_several() {
    let lab = Lab::new();
    let record = Record { version: 1, ..Record::default() };
    for n in 0..1000 {
        let commit = commit_of(record.clone(), Vec::new());
        let user = id(&format!("user-{n:04}"));
        lab.store.commit(&user, &Stored::default(), commit).await.expect("the store");
    }
    // A budget of 1,010 requests each.
    for (path, expected) in [
        ("/v1/users?limit=1000", 10..12),
        ("/v1/snapshot?limit=1000", 10..12),
        ("/v1/users?limit=50", 165..180),
        ("/v1/users/a/history?limit=1000", 47..55),
        // It scans all users for nothing.
        ("/v1/users?contains=nobody", 1..10),
    ] {
        let address = limited(&lab, 1_010);
        let answered = count_until_refused(address, path, VIEWER_KEY).await;
        assert!(expected.contains(&answered), "{path}: {answered}");
    }
    let ids: Vec<_> = (0..500).map(|n| format!("user-{n:04}")).collect();
    let address = limited(&lab, 1_010);
    let mut answered = 0;
    loop {
        let request = http(address, "POST", "/v1/status").json(&json!({ "users": ids }));
        let answer = request.bearer_auth(VIEWER_KEY).send().await.expect("an answer");
        if answer.status() == 429 {
            break;
        }
        answered += 1;
    }
    assert!((90..105).contains(&answered), "{answered}");
}

#[tokio::test]
async fn a_refused_call_costs_nothing() {
    let lab = Lab::new();
    let rate = Rate { burst: 200, per: 1, interval: Duration::from_secs(3600) };
    let address = limited_to(&lab, rate);
    // A search needs the whole budget, of which one request was used.
    assert_eq!(get(address, "/v1/nodes", VIEWER_KEY).await.status(), 200);
    for _ in 0..100 {
        assert_eq!(get(address, "/v1/users?contains=x", VIEWER_KEY).await.status(), 429);
    }
    assert_eq!(get(address, "/v1/users?limit=1000", VIEWER_KEY).await.status(), 200);
    let left = count_until_refused(address, "/v1/nodes", VIEWER_KEY).await;
    assert_eq!(left, 199 - 101);
}

#[tokio::test]
async fn what_a_search_did_not_read_is_given_back() {
    let lab = Lab::new();
    let (_ann, _) = lab.login("ann", "web").await;
    for (path, burst) in [("/v1/users?contains=n", 1_100), ("/v1/sessions?app=shop", 200)] {
        let address = limited(&lab, burst);
        let answered = count_until_refused(address, path, VIEWER_KEY).await;
        assert!(answered >= 40, "{path}: {answered}: a search of one user is cheap");
    }
}

#[tokio::test]
async fn open_event_streams_of_a_key_are_bounded() {
    let server = Server::start(&[
        ("auth.viewer_keys", &format!("[\"{VIEWER_KEY}\"]")),
        ("limits.streams_per_key", "2"),
    ]);
    let open = async |key: &str| {
        let request = server.http("GET", "/v1/events?after=now").bearer_auth(key);
        request.header("accept", "text/event-stream").send().await.expect("an answer")
    };
    let (first, _second) = (open(VIEWER_KEY).await, open(VIEWER_KEY).await);
    assert_eq!(first.status(), 200);
    let refused = open(VIEWER_KEY).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "15");
    assert_eq!(json_of(refused).await["error"]["code"], "rate_limited");
    assert_eq!(open(API_KEY).await.status(), 200, "another key");
    let page = server.http("GET", "/v1/events").bearer_auth(VIEWER_KEY).send().await;
    assert_eq!(page.expect("an answer").status(), 200, "a page is no stream");
    server.until_logged(&["WARN", "limit=\"limits.streams_per_key\""]).await;
    drop(first);
    // The hub notices with the next event.
    let (_ann, _) = server.login("ann", "web").await;
    until("a free place", async || open(VIEWER_KEY).await.status() == 200).await;
}

#[tokio::test]
async fn a_stream_over_the_rate_waits_and_loses_nothing() {
    let lab = Lab::new();
    for n in 0..400 {
        drop(lab.login(&format!("user-{n}"), "mac").await);
    }
    let address = limited_to(&lab, Rate { burst: 3, per: 20, interval: Duration::from_secs(1) });
    let request = http(address, "GET", "/v1/events").bearer_auth(API_KEY);
    let mut stream = request.header("accept", "text/event-stream").send().await.expect("a stream");
    let (mut text, mut logins) = (String::new(), 0);
    while logins < 400 {
        let chunk = stream.chunk().await.expect("a chunk").expect("more");
        text.push_str(str::from_utf8(&chunk).expect("a text"));
        logins = text.matches("\"cause\":\"login\"").count();
    }
    assert_eq!(logins, 400);
}
