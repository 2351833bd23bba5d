//! Login timeout, slow consumers, short memory, and `last_seen`.

use presence_hub::presence::Cause;
use serde_json::json;
use tokio::time::{advance, sleep};

use crate::lab::{Lab, SECOND, assert_kept};

#[tokio::test(start_paused = true)]
async fn connection_without_a_login_is_closed() {
    let lab = Lab::new();
    let from = lab.now();
    let mut silent = lab.listen(lab.connect().await);
    let (at, code) = silent.close().await;
    assert_eq!(code, 4000);
    assert_kept(10 * SECOND, at - from, "the login");
}

#[tokio::test(start_paused = true)]
async fn t12_stall_does_not_count_towards_the_login_timeout() {
    let lab = Lab::new();
    let mut visitor = lab.connect().await;
    sleep(5 * SECOND).await;
    advance(70 * SECOND).await;
    sleep(SECOND).await;
    visitor.ok(lab.hello("ana", "web")).await;
}

#[tokio::test(start_paused = true)]
async fn t12_stall_does_not_count_towards_the_slow_consumer_window() {
    let lab = Lab::new();
    let mut observer = lab.watcher(&["narrow"]).await;
    let mut narrow = lab.connect_through(1024).await;
    narrow.ok(lab.hello("narrow", "linux")).await;
    observer.state("narrow", "Online").await;
    // One answer is larger than its socket buffer.
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    narrow.send(&json!({ "type": "query", "id": 9, "users": users })).await;
    observer.hears_nothing_for(10 * SECOND).await;
    advance(70 * SECOND).await;
    observer.hears_nothing_for(10 * SECOND).await;
    assert_eq!(narrow.message().await["id"], json!(9));
    observer.hears_nothing_for(60 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn short_memory_refuses_logins_and_keeps_sessions() {
    let lab = Lab::new();
    let (mut ana, _) = lab.login("ana", "web").await;
    lab.hub.set_full(true);
    let mut bo = lab.connect().await;
    assert_eq!(bo.error(lab.hello("bo", "web")).await, "unavailable");
    assert_eq!(bo.until_closed().await.1, Some(1013));
    ana.ok(json!({ "type": "ping" })).await;
    lab.hub.set_full(false);
    lab.login("bo", "web").await;
}

#[tokio::test(start_paused = true)]
async fn v1_last_seen_is_the_last_heard_time_even_without_a_close_frame() {
    let lab = Lab::new();
    let mut observer = lab.watcher(&["ana"]).await;
    let (mut ana, _) = lab.login("ana", "android").await;
    observer.state("ana", "Online").await;
    observer.hears_nothing_for(100 * SECOND).await;
    ana.ok(json!({ "type": "ping" })).await;
    let heard = lab.now();
    observer.hears_nothing_for(50 * SECOND).await;
    // The socket ends without a Close frame.
    drop(ana);
    let (_, status) = observer.state("ana", "PushOnline").await;
    assert_eq!(status["last_seen"], json!(heard));
    let log = lab.log("ana").await;
    let end = log.last().expect("an end");
    assert_eq!((end.cause, end.evidence.heard), (Cause::Close, Some(heard)));
}
