//! T10: tokens that expire during a session.

use std::time::Duration;

use presence_hub::auth::mint;
use presence_hub::presence::{Cause, Platform, Timestamp};
use serde_json::{Value, json};

use crate::lab::{AT_ONCE, Lab, Listener, SECOND, assert_kept, defaults, id};

/// The default leeway for clock differences.
const LEEWAY: Duration = Duration::from_secs(5);

async fn with_token(lab: &Lab, platform: &str, ttl: Duration) -> (Listener, Value) {
    let mut hello = lab.hello("ana", platform);
    hello["token"] = json!(lab.token("ana", ttl));
    let mut client = lab.connect().await;
    let ok = client.ok(hello).await;
    (lab.listen(client), ok)
}

async fn is_told(ana: &mut Listener) -> (Timestamp, Value) {
    let (at, told) = ana.message().await;
    assert_eq!(told["type"], json!("token_expiring"), "{told}");
    (at, told["expires_at"].clone())
}

#[tokio::test(start_paused = true)]
async fn t10_session_ends_with_its_token_after_a_notice_one_minute_before() {
    for platform in Platform::ALL {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let from = lab.now();
        let ttl = Duration::from_secs(1000);
        let (mut ana, ok) = with_token(&lab, platform.name(), ttl).await;
        assert_eq!(ok["expires_at"], json!(from + ttl), "{platform}");
        watcher.state("ana", "Online").await;

        let (told, expires_at) = is_told(&mut ana).await;
        assert_kept(ttl - 60 * SECOND, told - from, &format!("{platform}: the notice"));
        assert_eq!(expires_at, json!(from + ttl), "{platform}");

        let left = if platform.is_mobile() { "PushOnline" } else { "Offline" };
        let (at, _) = watcher.state("ana", left).await;
        assert_kept(ttl + LEEWAY, at - from, &format!("{platform}: the token"));
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::TokenExpired], "{platform}");
        let (closed, code) = ana.close().await;
        assert_eq!(code, 4001, "{platform}");
        assert!(closed - at <= AT_ONCE, "{platform}");
    }
}

#[tokio::test(start_paused = true)]
async fn t10_notice_is_sent_at_once_for_a_token_of_less_than_a_minute() {
    let lab = Lab::new();
    let (mut ana, _) = with_token(&lab, "web", 30 * SECOND).await;
    let from = lab.now();
    let (told, _) = is_told(&mut ana).await;
    assert!(told - from <= AT_ONCE);
    let (closed, code) = ana.close().await;
    assert_eq!(code, 4001);
    assert_kept(30 * SECOND + LEEWAY, closed - from, "the token");
}

#[tokio::test(start_paused = true)]
async fn t10_refresh_in_time_keeps_the_session() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut ana, _) = with_token(&lab, "web", 100 * SECOND).await;
    watcher.state("ana", "Online").await;
    for _ in 0..5 {
        is_told(&mut ana).await;
        watcher.hears_nothing_for(63 * SECOND).await;
        // The old token has expired, but its leeway has not.
        let from = lab.now();
        let token = lab.token("ana", 100 * SECOND);
        ana.send(json!({ "type": "refresh", "token": token })).await;
        let (_, reply) = ana.message().await;
        let whole = Timestamp::from_millis((from + 100 * SECOND).as_secs() * 1000);
        assert_eq!(reply["ok"]["expires_at"], json!(whole), "{reply}");
    }
    assert_eq!(lab.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn t10_refused_refresh_keeps_the_old_token() {
    let lab = Lab::new();
    let (mut ana, _) = with_token(&lab, "web", 100 * SECOND).await;
    let from = lab.now();
    let others = lab.token("bo", 1000 * SECOND);
    for token in [&*others, "none"] {
        ana.send(json!({ "type": "refresh", "token": token })).await;
        let (_, reply) = ana.message().await;
        assert_eq!(reply["error"]["code"], json!("invalid_token"), "{reply}");
    }
    let (closed, code) = ana.close().await;
    assert_eq!(code, 4001);
    assert_kept(100 * SECOND + LEEWAY, closed - from, "the old token");
}

#[tokio::test(start_paused = true)]
async fn refresh_is_verified_with_the_present_secret() {
    const NEXT: &str = "another secret of more than thirty-two bytes";
    let lab = Lab::new();
    let (mut ana, _) = lab.login("ana", "web").await;
    lab.set_secret(NEXT);
    let old = lab.token("ana", 1000 * SECOND);
    assert_eq!(ana.error(json!({ "type": "refresh", "token": old })).await, "invalid_token");
    let (rules, user) = (defaults().token_rules(), id("ana"));
    let new = mint(NEXT.as_bytes(), &rules, &user, None, &[], lab.clock.wall(), 1000 * SECOND);
    ana.ok(json!({ "type": "refresh", "token": new.expect("a token") })).await;
}
