//! Watch lists that change while a session reads them (P7).

use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{UserId, WatchListChange};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::sleep;

use super::frail::Frail;
use crate::lab::{Lab, SECOND, id};
use crate::support::{Client, until};

/// The messages until the answer to a ping.
async fn heard(client: &mut Client<DuplexStream>) -> Vec<Value> {
    client.send(&json!({ "type": "ping", "id": 77 })).await;
    let mut messages = Vec::new();
    loop {
        let message = client.message().await;
        if message["id"] == 77 {
            return messages;
        }
        messages.push(message);
    }
}

fn add(user: &str) -> WatchListChange {
    WatchListChange::Patch { add: vec![id(user)], remove: Vec::new() }
}

fn remove(user: &str) -> WatchListChange {
    WatchListChange::Patch { add: Vec::new(), remove: vec![id(user)] }
}

#[tokio::test(start_paused = true)]
async fn p7_a_removal_between_the_reading_of_a_list_and_the_watch_is_not_missed() {
    let unwatched = json!({ "type": "unwatched", "users": ["ana"] });
    let removed = json!({ "type": "watch_list", "added": [], "removed": ["ana"] });
    for (request, told) in [
        (json!({ "type": "subscribe", "watch_list": true, "id": 1 }), Some(removed)),
        (json!({ "type": "subscribe", "users": ["ana"], "id": 1 }), Some(unwatched)),
        (json!({ "type": "query", "users": ["ana"], "id": 1 }), None),
    ] {
        let store = Frail::new();
        let lab = Lab::node(Arc::clone(&store) as _, |it| it.auth.default_watch.clear());
        let (mut ana, _) = lab.login("ana", "web").await;
        let (mut vic, _) = lab.login("vic", "web").await;
        lab.hub.change_watch_list(&id("vic"), add("ana"), 10).await.expect("a change");

        let held = store.list_answers.write().await;
        vic.send(&request).await;
        sleep(SECOND).await;
        let hub = Arc::clone(&lab.hub);
        let removal = async move { hub.change_watch_list(&id("vic"), remove("ana"), 10).await };
        let removal = tokio::spawn(removal);
        sleep(SECOND).await;
        assert!(!removal.is_finished(), "{request}: its answer may still name the removed");
        drop(held);
        removal.await.expect("no panic").expect("a change");

        let messages = heard(&mut vic).await;
        assert_eq!(messages[0]["ok"]["statuses"][0]["user"], "ana", "{request}: {messages:?}");
        assert_eq!(messages[1..], told.into_iter().collect::<Vec<_>>(), "{request}");
        ana.ok(json!({ "type": "set", "custom": "unseen" })).await;
        assert_eq!(heard(&mut vic).await, [json!(null); 0], "{request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn session_that_ends_or_unsubscribes_while_its_list_changes_watches_nobody_afterwards() {
    const ROUNDS: usize = 30;
    const LISTED: usize = 2000;
    let lab = Lab::new();
    let everybody: Vec<_> = (0..LISTED).map(|n| id(&format!("user-{n}"))).collect();
    for round in 0..ROUNDS {
        let replace = async |users: &[UserId]| {
            let change = WatchListChange::Replace(users.to_vec());
            lab.hub.change_watch_list(&id("vic"), change, LISTED).await.expect("a change");
        };
        replace(&[]).await;
        let (mut vic, _) = lab.login("vic", "web").await;
        vic.ok(json!({ "type": "subscribe", "watch_list": true })).await;
        let delay = Duration::from_micros(rand::rng().random_range(0..20_000));
        let leaves = async {
            sleep(delay).await;
            if round % 2 == 0 {
                drop(vic);
                return None;
            }
            vic.ok(json!({ "type": "unsubscribe", "all": true })).await;
            assert_eq!(heard(&mut vic).await, [json!(null); 0], "told after the answer");
            Some(vic)
        };
        let (hub, all) = (Arc::clone(&lab.hub), everybody.clone());
        let change = WatchListChange::Replace(all);
        let changed =
            tokio::spawn(async move { hub.change_watch_list(&id("vic"), change, LISTED).await });
        let vic = leaves.await;
        changed.await.expect("no panic").expect("a change");
        until("nobody to be watched", async || lab.hub.metrics().counts().subscriptions == 0).await;
        drop(vic);
    }
}
