//! Hubs of two successive versions side by side.

use serde_json::{Value, json};

use super::Hubs;
use crate::support::{RedisServer, until};

/// The length of what precedes the JSON in a stored record.
const HEADER: usize = 52;

/// The key of a user's record.
fn key_of(redis: &RedisServer, user: &str) -> String {
    let keys: Vec<String> = redis.run(&format!("KEYS *u:{user}"));
    keys.into_iter().next().expect("a record")
}

fn record(redis: &RedisServer, key: &str) -> Value {
    let row: String = redis.run(&format!("GET {key}"));
    serde_json::from_str(&row[HEADER..]).expect("JSON")
}

/// Adds fields to a record and its first terminal, as a later version of the hub does.
fn add_fields(redis: &RedisServer, key: &str) {
    let row: String = redis.run(&format!("GET {key}"));
    let (header, json) = row.split_at(HEADER);
    let mut record: Value = serde_json::from_str(json).expect("JSON");
    record["mood"] = json!({ "of": ["the", "day", 1.5] });
    record["terminals"][0]["battery"] = json!(99);
    let mut set = redis::cmd("SET");
    set.arg(key).arg(format!("{header}{record}"));
    set.query::<()>(&mut redis.connection()).expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_fields_of_a_later_version_are_kept() {
    let hubs = Hubs::start(RedisServer::start(), &["ana"], &[]).await;
    let (mut ana, ok) = hubs.login(0, "ana", "ios").await;
    let key = key_of(&hubs.redis, "ana");
    add_fields(&hubs.redis, &key);
    let is_kept = |with_terminal: bool| {
        let record = record(&hubs.redis, &key);
        let battery = &record["terminals"][0]["battery"];
        record["mood"] == json!({ "of": ["the", "day", 1.5] })
            && *battery == if with_terminal { json!(99) } else { Value::Null }
    };
    ana.ok(json!({ "type": "set", "custom": "busy" })).await;
    assert!(is_kept(true), "after a change");
    let (resumed, _) = hubs.resume(1, "ana", "ios", &ok).await;
    assert!(is_kept(true), "after a resume on another hub");
    drop(resumed);
    hubs.hubs[2].until_state("ana", "PushOnline").await;
    assert!(is_kept(true), "after the end of the connection");
    let kick = Some(json!({ "platform": "ios" }));
    assert_eq!(hubs.hubs[2].call("POST", "/v1/users/ana/kick", kick).await.0, 200);
    until("the terminal to end", async || record(&hubs.redis, &key)["terminals"].is_null()).await;
    assert!(is_kept(false), "after the end of the terminal");
    let (_ana, _) = hubs.login(0, "ana", "ios").await;
    assert!(is_kept(false), "after a new login");
    hubs.agree().await;
}
