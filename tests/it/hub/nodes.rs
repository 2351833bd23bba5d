//! Two nodes on one store.

use std::sync::Arc;

use futures::FutureExt;
use presence_hub::presence::{Answer, Cause, EventKind, Intent, Platform};
use presence_hub::store::{MemoryStore, Nodes};
use serde_json::json;
use tokio::time::timeout;

use super::{assert_chained, overflow};
use crate::lab::{AT_ONCE, Lab, Logged, SECOND, id, memory_store};

struct Pair {
    store: Arc<MemoryStore>,
    one: Lab,
    other: Lab,
}

impl Pair {
    fn new() -> Self {
        let store = Arc::new(memory_store());
        let one = Lab::node(Arc::clone(&store) as _, |_| ());
        let other = Lab::node(Arc::clone(&store) as _, |_| ());
        Self { store, one, other }
    }
}

#[tokio::test(start_paused = true)]
async fn l3_l8_takeover_across_nodes_is_one_change_and_notifies_the_kicked_session() {
    let pair = Pair::new();
    let mut here = pair.one.watcher(&["ana"]).await;
    // The second watcher needs another user, because one login would kick the other.
    let (mut client, _) = pair.other.login("watcher-2", "linux").await;
    client.ok(json!({ "type": "subscribe", "users": ["ana"] })).await;
    let mut there = pair.other.listen(client);

    let (mut loser, _) = pair.one.login("ana", "linux").await;
    here.state("ana", "Online").await;
    there.state("ana", "Online").await;
    let from = pair.one.now();
    let (_winner, ok) = pair.other.login("ana", "mac").await;
    assert_eq!(ok["kicked"][0]["device"], json!("linux"), "{ok}");
    for watcher in [&mut here, &mut there] {
        let (at, status) = watcher.state("ana", "Online").await;
        assert_eq!(status["platforms"], json!(["mac"]), "no Offline in between");
        assert!(at - from <= AT_ONCE);
    }
    let (heard, code) = loser.until_closed().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["by"], json!({ "platform": "mac", "device": "mac" }));
    assert_eq!((&heard[0]["reason"], code), (&json!("login_elsewhere"), Some(4501)));
    let takeover = [Cause::Login, Cause::Kicked, Cause::Login];
    assert_eq!(pair.one.causes("ana").await, takeover);
    here.hears_nothing_for(10 * SECOND).await;
    there.hears_nothing_for(SECOND).await;
    assert_chained(&*pair.one.store).await;
}

#[tokio::test(start_paused = true)]
async fn l7_session_moves_to_another_node_without_a_status_change() {
    let pair = Pair::new();
    let mut watcher = pair.one.watcher(&["ana"]).await;
    let (mut old, ok) = pair.one.login("ana", "web").await;
    watcher.state("ana", "Online").await;
    let (new, again) = pair.other.resume("ana", "web", &ok).await;
    assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
    assert_eq!(old.until_closed().await, (Vec::new(), Some(4007)));
    let _new = pair.other.listen(new);
    watcher.hears_nothing_for(200 * SECOND).await;
    assert_eq!(pair.one.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn status_changes_reach_watchers_on_other_nodes() {
    let pair = Pair::new();
    let mut watcher = pair.other.watcher(&["ana"]).await;
    let (mut ana, _) = pair.one.login("ana", "ios").await;
    let (_, mut status) = watcher.state("ana", "Online").await;
    for n in 0..50 {
        ana.ok(json!({ "type": "set", "custom": n.to_string() })).await;
        let (_, next) = watcher.state("ana", "Online").await;
        assert_eq!(next["custom"], json!(n.to_string()));
        assert!(next["version"].as_u64() > status["version"].as_u64());
        status = next;
    }
    drop(ana);
    watcher.state("ana", "PushOnline").await;
}

#[tokio::test(start_paused = true)]
async fn node_that_missed_a_status_message_catches_up() {
    let pair = Pair::new();
    let mut watcher = pair.other.watcher(&["ana"]).await;
    let _ana = pair.one.login("ana", "linux").await;
    watcher.state("ana", "Online").await;

    let event = EventKind::Set { origin: None, custom: Some(Some("missed".into())), hidden: None };
    let applied = pair.one.hub.apply(&id("ana"), event).now_or_never();
    applied.expect("the event to be applied without waiting").expect("a change");
    overflow(&pair.store);
    let (_, status) = watcher.state("ana", "Online").await;
    assert_eq!(status["custom"], json!("missed"));
    watcher.hears_nothing_for(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn node_that_missed_a_kick_message_ends_the_connection() {
    let pair = Pair::new();
    let (mut loser, _) = pair.other.login("ana", "linux").await;
    let (mut bystander, _) = pair.other.login("bo", "linux").await;
    let visitor = pair.other.connect().await;
    let (_, event) = super::login(&pair.one.hub, Platform::Mac, "mac", 1 << 40);
    let applied = pair.one.hub.apply(&id("ana"), event).now_or_never();
    applied.expect("the event to be applied without waiting").expect("a login");
    overflow(&pair.store);

    let end = timeout(60 * SECOND, loser.until_closed()).await;
    let (heard, code) = end.expect("a connection without a session to be ended");
    assert_eq!(code, Some(4501));
    let told: Vec<_> = heard.iter().map(|notice| &notice["reason"]).collect();
    assert_eq!(told, [&json!("login_elsewhere")]);
    bystander.ok(json!({ "type": "ping" })).await;
    drop(visitor);
}

#[tokio::test(start_paused = true)]
async fn node_that_missed_a_move_message_ends_the_old_connection() {
    let pair = Pair::new();
    let (mut old, ok) = pair.other.login("ana", "linux").await;
    let (_, event) = super::login(&pair.one.hub, Platform::Linux, "linux", 1 << 40);
    let EventKind::Login(mut login) = event else { panic!("{event:?}") };
    let session = ok["session"].as_str().and_then(|session| session.parse().ok());
    login.intent = Intent::Resume(session);
    let applied = pair.one.hub.apply(&id("ana"), EventKind::Login(login)).now_or_never();
    let applied = applied.expect("the event to be applied without waiting").expect("a resume");
    assert!(matches!(applied.answer, Answer::Admitted { resumed: true, .. }));
    overflow(&pair.store);
    let end = timeout(60 * SECOND, old.until_closed()).await;
    assert_eq!(end.expect("a connection without a session to be ended").1, Some(4007));
}

#[tokio::test(start_paused = true)]
async fn node_that_was_given_up_for_dead_changes_nothing_any_more_and_says_so() {
    let pair = Pair::new();
    let mut watcher = pair.other.watcher(&["ana"]).await;
    let (mut ana, _) = pair.one.login("ana", "linux").await;
    watcher.state("ana", "Online").await;
    assert!(pair.one.hub.retired().now_or_never().is_none());
    let logged = Logged::here();
    pair.store.retire(pair.one.hub.node()).await.expect("a retired node");
    assert_eq!(ana.error(json!({ "type": "set", "custom": "late" })).await, "unavailable");
    let mut late = pair.one.connect().await;
    assert_eq!(late.error(pair.one.hello("bo", "linux")).await, "unavailable");
    assert_eq!(late.until_closed().await.1, Some(4006));
    timeout(2 * SECOND, pair.one.hub.retired()).await.expect("the hub to know");
    assert_eq!(logged.lines("sending its clients away").len(), 1);
    watcher.hears_nothing_for(SECOND).await;
    assert_eq!(pair.one.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn node_without_requests_learns_by_its_sign_of_life_that_it_was_given_up() {
    let pair = Pair::new();
    pair.store.retire(pair.other.hub.node()).await.expect("a retired node");
    timeout(2 * SECOND, pair.other.hub.retired()).await.expect("the hub to know");
    assert!(pair.one.hub.retired().now_or_never().is_none(), "the other node is well");
}
