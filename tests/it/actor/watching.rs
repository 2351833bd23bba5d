//! V3, V4: the statuses that a watcher gets, also when it reads slowly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use presence_hub::presence::{EventKind, State};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::lab::{Lab, id};
use crate::support::{Client, SOON};

/// Sets a user's custom status, as a back end does.
async fn set(lab: &Lab, user: &str, n: u64) {
    let event =
        EventKind::Set { origin: None, custom: Some(Some(n.to_string().into())), hidden: None };
    lab.hub.apply(&id(user), event).await.expect("a change");
}

fn custom(status: &Value) -> u64 {
    status["custom"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A hub without limits on messages.
fn unlimited() -> Lab {
    Lab::with(|config| {
        config.limits.messages_per_second = 1_000_000;
        config.limits.message_burst = 1_000_000;
    })
}

/// The statuses that one connection has seen; checks V3.
#[derive(Default)]
struct View(HashMap<String, Value>);

impl View {
    fn see(&mut self, status: &Value, is_push: bool) {
        let user = status["user"].as_str().expect("a user").to_owned();
        let version = |status: &Value| status["version"].as_u64().expect("a version");
        if let Some(seen) = self.0.get(&user) {
            let (seen, new) = (version(seen), version(status));
            assert!(new > seen || (new == seen && !is_push), "{user} went from {seen} to {new}");
        }
        self.0.insert(user, status.clone());
    }

    fn see_all(&mut self, reply: &Value) {
        for status in reply["ok"]["statuses"].as_array().expect("statuses") {
            self.see(status, false);
        }
    }

    /// Handles a push or a reply; returns whether it was a reply.
    fn hear(&mut self, message: &Value) -> bool {
        match message["type"].as_str() {
            Some("status") => {
                self.see(message, true);
                false
            }
            Some("reply") => {
                self.see_all(message);
                true
            }
            _ => panic!("{message}"),
        }
    }

    fn custom(&self, user: &str) -> u64 {
        self.0.get(user).map(custom).unwrap_or_default()
    }
}

async fn ask(client: &mut Client<DuplexStream>, view: &mut View, request: &Value) {
    client.send(request).await;
    while !view.hear(&client.message().await) {}
}

#[tokio::test(start_paused = true)]
async fn v4_watcher_that_stops_reading_uses_bounded_memory_and_gets_the_latest_statuses() {
    const USERS: usize = 100;
    const CHANGES: u64 = 10_000;
    const SOCKET_BYTES: usize = 4096;
    let lab = Lab::new();
    let users: Vec<_> = (0..USERS).map(|n| format!("user-{n}")).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(lab.login(user, "linux").await.0);
    }
    let mut slow = lab.connect_through(SOCKET_BYTES).await;
    slow.ok(lab.hello("slow", "linux")).await;
    let mut view = View::default();
    ask(&mut slow, &mut view, &json!({ "type": "subscribe", "id": 1, "users": users })).await;

    let before = lab.hub.metrics().counts();
    for n in 1..=CHANGES {
        set(&lab, &users[n as usize % USERS], n).await;
    }
    let after = lab.hub.metrics().counts();
    let sent = after.deliveries - before.deliveries;
    assert_eq!(sent, CHANGES, "each change was pushed to the watcher");
    // Only the socket buffer, one write of 16 KiB, and one status of each user are kept.
    let kept = sent - (after.conflated - before.conflated);
    let smallest_status = 100;
    let most = USERS + (SOCKET_BYTES + 16 * 1024) / smallest_status;
    assert!(kept <= most as u64, "{kept} statuses are kept for a watcher that does not read");

    let mut pushes = 0;
    while users.iter().zip(0..).any(|(user, place)| view.custom(user) != last(place)) {
        view.hear(&slow.message().await);
        pushes += 1;
    }
    assert_eq!(pushes, kept, "only the kept statuses are sent");
    ask(&mut slow, &mut view, &json!({ "type": "query", "id": 2, "users": users })).await;

    /// The last change of a user.
    fn last(place: u64) -> u64 {
        if place == 0 { CHANGES } else { CHANGES - USERS as u64 + place }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v3_no_change_is_lost_between_the_snapshot_and_the_first_push() {
    const ROUNDS: u64 = 1000;
    let lab = Arc::new(unlimited());
    let _ana = lab.login("ana", "linux").await;
    let watcher = lab.login("watcher", "linux").await.0;
    let mut watcher = Client::over(watcher.socket, SOON);
    for round in 1..=ROUNDS {
        let mut view = View::default();
        let changes = tokio::spawn({
            let lab = Arc::clone(&lab);
            async move {
                for n in 0..round % 4 {
                    set(&lab, "ana", round * 10 + n).await;
                }
                set(&lab, "ana", round * 10 + 9).await;
            }
        });
        let subscribe = json!({ "type": "subscribe", "id": round * 2, "users": ["ana"] });
        ask(&mut watcher, &mut view, &subscribe).await;
        while view.custom("ana") != round * 10 + 9 {
            view.hear(&watcher.message().await);
        }
        changes.await.expect("the changes");
        watcher.send(&json!({ "type": "unsubscribe", "id": round * 2 + 1, "all": true })).await;
        assert_eq!(watcher.message().await["ok"]["count"], json!(0), "no push follows");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v3_snapshot_is_never_older_than_a_seen_status() {
    const REQUESTS: u64 = 2000;
    let lab = Arc::new(unlimited());
    let users: Vec<_> = (0..8).map(|n| format!("user-{n}")).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(lab.login(user, "linux").await.0);
    }
    let done = Arc::new(AtomicBool::new(false));
    let changers: Vec<_> = users
        .iter()
        .map(|user| {
            let (lab, done, user) = (Arc::clone(&lab), Arc::clone(&done), user.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    set(&lab, &user, n).await;
                    tokio::task::yield_now().await;
                }
                n
            })
        })
        .collect();

    let mut view = View::default();
    // A small socket buffer, so that pushes are queued and conflated.
    let mut watcher = lab.connect_through(2048).await;
    watcher.ok(lab.hello("watcher", "linux")).await;
    let mut watcher = Client::over(watcher.socket, SOON);
    for n in 1..=REQUESTS {
        let kind = ["subscribe", "query", "query", "subscribe"][n as usize % 4];
        let some = &users[n as usize % 4..4 + n as usize % 5];
        ask(&mut watcher, &mut view, &json!({ "type": kind, "id": n, "users": some })).await;
    }
    done.store(true, Ordering::Relaxed);
    ask(&mut watcher, &mut view, &json!({ "type": "subscribe", "id": 0, "users": users })).await;
    for (user, changer) in users.iter().zip(changers) {
        let last = changer.await.expect("the changes");
        while view.custom(user) != last {
            view.hear(&watcher.message().await);
        }
        assert_eq!(lab.state(user).await, State::Online);
    }
}
