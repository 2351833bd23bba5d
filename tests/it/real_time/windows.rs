//! The default windows in real time, and a hub process that is stopped.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Listener, millis, receives, sends, silence_of};
use crate::support::{Server, now_millis};

/// The maximum delay of T14.
const LATE: Duration = Duration::from_secs(1);
/// The maximum difference between the hub's monotonic clock and the wall clock.
const SKEW_MS: u64 = 20;
/// The hub's tick. Up to one tick of a stall counts as running time.
const TICK: Duration = Duration::from_millis(100);

/// All default windows at full length, concurrently.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn default_windows_hold_in_real_time() {
    let (silent, hidden, left, stopped) = tokio::join!(
        silent_page(),
        mini_program_in_the_background("hide", Duration::from_secs(30)),
        mini_program_in_the_background("exit", Duration::from_secs(4)),
        hub_stopped_for_seventy_seconds(),
    );
    println!("Offline {silent:?} after a silent page was last heard");
    println!("Offline {hidden:?} after a mini-program was hidden, {left:?} after it was left");
    println!("Offline {stopped:?} after a page was last heard, with a stop of the hub of 70 s");
}

/// T5: a page that is silent on an open connection.
async fn silent_page() -> Duration {
    let server = Server::start(&[]);
    let mut watcher = Listener::watching(&server, &["ana".into()]).await;
    let sent = now_millis() - SKEW_MS;
    let (_open, _) = server.login("ana", "web").await;
    let answered = now_millis() + SKEW_MS;
    watcher.state("ana", "Online").await;

    let status = watcher.state("ana", "Offline").await;
    let seen = millis(&status["last_seen"]);
    assert!((sent..=answered).contains(&seen), "{seen} is not from {sent} to {answered}");
    let silence = silence_of(&status);
    assert!((60 * LATE..=61 * LATE).contains(&silence), "{silence:?}");
    silence
}

/// T6, T7: a mini-program in the background that never comes back.
async fn mini_program_in_the_background(reason: &str, window: Duration) -> Duration {
    let server = Server::start(&[]);
    let mut watcher = Listener::watching(&server, &["ana".into()]).await;
    let (mut client, _) = server.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    let sent = now_millis() - SKEW_MS;
    let answer = client.ok(json!({ "type": "background", "reason": reason })).await;
    let answered = now_millis() + SKEW_MS;
    let left = millis(&answer["deadline"]) - window.as_millis() as u64;
    assert!((sent..=answered).contains(&left), "{left} is not from {sent} to {answered}");

    assert_eq!(watcher.state("ana", "Online").await["away"], true, "{reason}");
    let status = watcher.state("ana", "Offline").await;
    let took = Duration::from_millis(millis(&status["since"]) - left);
    assert!((window..=window + LATE).contains(&took), "{reason}: {took:?}");
    assert_eq!(client.until_closed().await.1, Some(4003), "{reason}");
    took
}

/// T12: the process is stopped for longer than the window of a page, and continues.
async fn hub_stopped_for_seventy_seconds() -> Duration {
    let server = Server::start(&[]);
    let users = ["sends", "answers", "receives"].map(str::to_owned);
    let mut watcher = Listener::watching(&server, &users).await;
    let before = begin(&server, &mut watcher, &users).await;
    let _sends = sends(server.login("sends", "web").await.0, Duration::from_secs(5));
    let _answers = Listener::new(server.login("answers", "web").await.0);
    let _receives = receives(server.login("receives", "web").await.0);
    // The statuses of different users arrive in any order.
    let mut online = HashMap::new();
    for _ in &users {
        let status = watcher.message().await;
        assert_eq!(status["state"], "Online", "{status}");
        online.insert(status["user"].as_str().expect("a user").to_owned(), status);
    }
    assert!(before.iter().all(|status| status["state"] == "Offline"));

    // The pings at 20 s become due during the stop.
    sleep(Duration::from_secs(15)).await;
    let stopped = stop_for(&server, Duration::from_secs(70)).await;

    // The client that only receives is lost after 60 s of running time; the others never.
    let status = watcher.state("receives", "Offline").await;
    let silence = silence_of(&status);
    let moved = 60 * LATE + stopped - 2 * TICK..=61 * LATE + stopped;
    assert!(moved.contains(&silence), "{silence:?}");
    for user in &users[..2] {
        let now = server.user(user).await;
        assert_eq!((&now["state"], &now["version"]), (&json!("Online"), &online[user]["version"]));
    }
    assert!(watcher.heard_nothing(), "no other client was lost");
    silence
}

async fn begin(server: &Server, watcher: &mut Listener, users: &[String]) -> Vec<Value> {
    let mut before = Vec::new();
    for user in users {
        before.push(server.user(user).await);
    }
    assert!(watcher.heard_nothing());
    before
}

/// Stops the hub for a time; returns how long it was stopped.
async fn stop_for(server: &Server, stop: Duration) -> Duration {
    server.signal(Signal::STOP);
    let from = now_millis();
    sleep(stop).await;
    let stopped = now_millis() - from;
    server.signal(Signal::CONT);
    Duration::from_millis(stopped)
}

/// T12 with short windows and two hundred clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t12_stopped_hub_loses_none_of_two_hundred_clients() {
    const CLIENTS: usize = 200;
    const RECEIVERS: usize = 20;
    let settings = [("liveness.web_silence", "3s"), ("liveness.web_ping", "1s")];
    let server = Server::start(&settings);
    let users: Vec<_> = (0..CLIENTS + RECEIVERS).map(|n| format!("user-{n}")).collect();
    let mut watcher = Listener::watching(&server, &users).await;
    let (mut senders, mut answerers, mut receivers) = (Vec::new(), Vec::new(), Vec::new());
    for (n, user) in users.iter().enumerate() {
        let client = server.login(user, "web").await.0;
        match n {
            0..RECEIVERS => receivers.push(receives(client)),
            _ if n % 2 == 0 => senders.push(sends(client, Duration::from_millis(400))),
            _ => answerers.push(Listener::new(client)),
        }
    }
    sleep(Duration::from_millis(700)).await;
    let stopped = stop_for(&server, Duration::from_secs(4)).await;

    let (mut online, mut lost) = (0, 0);
    while lost < RECEIVERS {
        let status = watcher.message().await;
        match status["state"].as_str() {
            Some("Online") => online += 1,
            Some("Offline") => {
                let user = status["user"].as_str().expect("a user");
                let receives = users[..RECEIVERS].iter().any(|receiver| receiver == user);
                assert!(receives, "{user} was lost: {status}");
                let silence = silence_of(&status);
                let window = Duration::from_secs(3);
                // On a busy machine some were lost before the stop, while the others logged in.
                let kept = window..=window + LATE + stopped;
                assert!(kept.contains(&silence), "{silence:?}");
                lost += 1;
            }
            _ => panic!("{status}"),
        }
    }
    // After two more windows the other clients are still online.
    sleep(Duration::from_secs(6)).await;
    while online < users.len() {
        assert_eq!(watcher.message().await["state"], json!("Online"));
        online += 1;
    }
    assert!(watcher.heard_nothing(), "no other client was lost");
    drop((senders, answerers, receivers));
}

/// T5 with a short window: receiving data does not count as heard.
#[tokio::test(flavor = "multi_thread")]
async fn t12_client_that_only_receives_goes_offline_on_time() {
    let settings = [("liveness.web_silence", "3s"), ("liveness.web_ping", "500ms")];
    let server = Server::start(&settings);
    let mut watcher = Listener::watching(&server, &["ana".into()]).await;
    let _receives = receives(server.login("ana", "web").await.0);
    watcher.state("ana", "Online").await;
    let silence = silence_of(&watcher.state("ana", "Offline").await);
    let window = Duration::from_secs(3);
    assert!((window..=window + LATE).contains(&silence), "{silence:?}");
}
