//! Dashboard logins with several hubs.

use reqwest::header::{COOKIE, SET_COOKIE};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Hubs;
use crate::support::{RedisServer, Server};

const ADMIN_KEY: &str = "an admin key of the test";

/// Logs in at a hub; returns the cookie as a browser sends it.
async fn log_in(hub: &Server) -> String {
    let request = hub.http("POST", "/v1/admin/session").json(&json!({ "key": ADMIN_KEY }));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let set = answer.headers()[SET_COOKIE].to_str().expect("a text").to_owned();
    set.split(';').next().expect("the cookie").to_owned()
}

/// Asks a hub who a cookie belongs to.
async fn who(hub: &Server, cookie: &str) -> (u16, Value) {
    let request = hub.http("GET", "/v1/admin/session").header(COOKIE, cookie);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_dashboard_login_counts_on_every_hub_until_logout_at_any() {
    let keys = format!("[\"{ADMIN_KEY}\"]");
    let settings = [("auth.admin_keys", &*keys)];
    let hubs = Hubs::start(RedisServer::start(), &["ana"], &settings).await;
    let cookie = log_in(&hubs.hubs[0]).await;
    for hub in &hubs.hubs {
        let (status, caller) = who(hub, &cookie).await;
        assert_eq!((status, &caller["role"]), (200, &json!("admin")), "{caller}");
        let left = caller["expires"].as_u64().expect("a time") - crate::support::now_millis();
        assert!((7 * 3600 * 1000..=8 * 3600 * 1000).contains(&left), "{left} ms");
    }

    // While Redis is away, the login counts where it was made.
    hubs.redis.signal(Signal::STOP);
    assert_eq!(who(&hubs.hubs[0], &cookie).await.0, 200);
    assert_eq!(who(&hubs.hubs[1], &cookie).await.0, 401);
    hubs.redis.signal(Signal::CONT);
    hubs.until_ready(1, 200).await;

    let request = hubs.hubs[1].http("DELETE", "/v1/admin/session").header(COOKIE, &cookie);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    for hub in &hubs.hubs {
        assert_eq!(who(hub, &cookie).await.0, 401);
    }
}
