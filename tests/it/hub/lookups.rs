//! The budget of ids that one user may name in `subscribe` and `query`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::frail::Frail;
use crate::lab::{Lab, SECOND, memory_store};

/// A hub whose users may name `burst` ids at once, and then 60 a minute.
fn with_budget(store: Arc<dyn presence_hub::store::Store>, burst: u32) -> Lab {
    Lab::node(store, |config| {
        config.limits.lookups_burst = burst;
        config.limits.lookups_per_user_per_minute = 60;
    })
}

/// A request that names this many ids.
fn naming(request: &str, count: usize) -> Value {
    let users: Vec<_> = (0..count).map(|n| format!("user-{n}")).collect();
    json!({ "type": request, "users": users })
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_budget_is_refused_whole() {
    let lab = with_budget(Arc::new(memory_store()), 500);
    let (mut client, _) = lab.login("ana", "web").await;
    client.ok(naming("query", 200)).await;
    client.ok(naming("subscribe", 200)).await;
    assert_eq!(client.error(naming("subscribe", 200)).await, "rate_limited");
    assert_eq!(client.error(naming("query", 101)).await, "rate_limited");
    let count =
        client.ok(json!({ "type": "unsubscribe", "users": ["nobody"] })).await["count"].clone();
    assert_eq!(count, 200, "nothing of a refused request is done");
    client.ok(naming("query", 100)).await;
    let reply = client.request(naming("query", 30)).await;
    assert_eq!(reply["error"]["code"], "rate_limited", "{reply}");
    let message = reply["error"]["message"].as_str().expect("a message");
    assert!(message.contains("try again in 3"), "{message}");
    // The other requests go on, and refused ones cost nothing.
    client.ok(json!({ "type": "set", "custom": "x" })).await;
    tokio::time::sleep(30 * SECOND).await;
    client.ok(naming("query", 30)).await;
    assert_eq!(client.error(naming("query", 1)).await, "rate_limited");
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_the_users_over_all_sessions() {
    let lab = with_budget(Arc::new(memory_store()), 500);
    let (mut page, ok) = lab.login("ana", "web").await;
    let (mut phone, _) = lab.login("bo", "ios").await;
    page.ok(naming("query", 200)).await;
    page.ok(naming("query", 200)).await;
    let (mut again, _) = lab.resume("ana", "web", &ok).await;
    assert_eq!(again.error(naming("subscribe", 200)).await, "rate_limited");
    again.ok(naming("subscribe", 100)).await;
    phone.ok(naming("query", 200)).await;
}

#[tokio::test(start_paused = true)]
async fn every_id_that_is_named_counts() {
    let lab = with_budget(Arc::new(memory_store()), 20);
    let (mut client, _) = lab.login("ana", "web").await;
    let users = json!(["ana", "ana", "", "bo", " x", "bo", "cy", "cy", "di", "di"]);
    let answer = client.ok(json!({ "type": "query", "users": users })).await;
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(2));
    client.ok(naming("query", 10)).await;
    assert_eq!(client.error(naming("query", 1)).await, "rate_limited");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_store_failed_costs_nothing() {
    let store = Frail::new();
    let lab = with_budget(Arc::clone(&store) as _, 200);
    let (mut client, _) = lab.login("ana", "web").await;
    store.set_down(true);
    for request in ["subscribe", "query"] {
        for _ in 0..3 {
            assert_eq!(client.error(naming(request, 200)).await, "unavailable");
        }
    }
    store.set_down(false);
    client.ok(naming("subscribe", 200)).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_tabs_come_back_at_once_with_a_thousand_users_each() {
    let lab = Lab::new();
    for _ in 0..20 {
        let (mut tab, _) = lab.login("ana", "web").await;
        for batch in 0..5 {
            let users: Vec<_> = (0..200).map(|n| format!("user-{batch}-{n}")).collect();
            tab.ok(json!({ "type": "subscribe", "users": users })).await;
        }
    }
    let (mut tab, _) = lab.login("ana", "web").await;
    assert_eq!(tab.error(naming("subscribe", 200)).await, "rate_limited");
    let (mut other, _) = lab.login("bo", "web").await;
    other.ok(naming("subscribe", 200)).await;
}
