//! A user who has filled the quota of the transition log, and a disk that is nearly full.

use presence_hub::presence::Cause;
use serde_json::json;

use crate::lab::{Lab, Logged, SECOND};
use crate::support::http;

fn set(n: u32) -> serde_json::Value {
    json!({ "type": "set", "custom": n.to_string() })
}

#[tokio::test(start_paused = true)]
async fn a_user_over_the_quota_is_rate_limited_and_others_are_not() {
    let logged = Logged::here();
    let lab = Lab::with(|config| {
        config.store.log_bytes_per_user = bytesize::ByteSize::kib(64);
        config.limits.changes_per_user_per_minute = 1_000_000;
        config.limits.messages_per_second = 1_000_000;
        config.limits.message_burst = 1_000_000;
    });
    let (mut page, _) = lab.login("ana", "web").await;
    let mut accepted = 0;
    let code = loop {
        let reply = page.request(set(accepted)).await;
        if let Some(code) = reply["error"]["code"].as_str() {
            break code.to_owned();
        }
        accepted += 1;
    };
    assert_eq!(
        (code.as_str(), (90..110).contains(&accepted)),
        ("rate_limited", true),
        "{accepted}"
    );
    assert_eq!(page.error(json!({ "type": "background" })).await, "rate_limited");
    let lines = logged.lines("user over store.log_bytes_per_user");
    assert!(lines.len() == 1 && lines[0].contains("user=\"ana\""), "{lines:?}");
    page.ok(json!({ "type": "query", "users": ["bo"] })).await;
    let (mut other, _) = lab.login("bo", "web").await;
    other.ok(set(1)).await;
    // The end is logged.
    drop(page);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(lab.causes("ana").await.last(), Some(&Cause::Close));
    let written: usize = lab.log("ana").await.len();
    assert!(written < 120, "{written}");
    // A day later a seventh of the quota is free again.
    let (mut page, _) = lab.login("ana", "web").await;
    assert_eq!(page.error(set(accepted + 1)).await, "rate_limited");
    drop(page);
    tokio::time::sleep(24 * 3600 * SECOND).await;
    let (mut page, _) = lab.login("ana", "web").await;
    for n in 0..10 {
        page.ok(set(n)).await;
    }
}

#[tokio::test]
async fn with_little_room_on_the_disk_only_changes_that_can_wait_are_refused() {
    let lab = Lab::new();
    let (address, _) = lab.serve_http(|settings| {
        let key = ["a-key-of-this-test".to_owned()];
        settings.keys = presence_hub::auth::ApiKeys::new(&[], &[], &key);
    });
    let call = async |method: &str, path: &str, body: &'static str| {
        let request = http(address, method, path).bearer_auth("a-key-of-this-test").body(body);
        request.send().await.expect("an answer")
    };
    let (mut page, _) = lab.login("ana", "web").await;
    assert!(!lab.hub.set_disk_low(true));
    assert_eq!(page.error(set(1)).await, "unavailable");
    assert_eq!(page.error(json!({ "type": "background" })).await, "unavailable");
    page.ok(json!({ "type": "subscribe", "users": ["bo"] })).await;
    let refused = call("PUT", "/v1/users/ana/custom", r#"{"custom":"x"}"#).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    let stats = call("GET", "/v1/stats", "").await.text().await.expect("a text");
    assert!(stats.contains("\"disk_low\":true"), "{stats}");
    let metrics = call("GET", "/metrics", "").await.text().await.expect("a text");
    assert!(metrics.contains("presence_hub_store_disk_low 1"), "{metrics}");
    assert_eq!(call("GET", "/ready", "").await.status(), 200);

    let (_bo, _) = lab.login("bo", "mac").await;
    assert_eq!(page.message().await["state"], "Online", "logins go on");
    let kicked = call("POST", "/v1/users/ana/kick", r#"{"all":true}"#).await;
    assert_eq!(kicked.status(), 200);
    let causes = lab.causes("ana").await;
    assert_eq!(causes, [Cause::Login, Cause::Kicked], "what is refused is not logged");
    assert!(lab.hub.set_disk_low(false));
    let (mut page, _) = lab.login("cy", "web").await;
    page.ok(set(1)).await;
    assert_eq!(lab.status("cy").await.custom.as_deref(), Some("1"));
}
