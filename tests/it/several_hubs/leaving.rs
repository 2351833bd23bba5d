//! A hub that leaves: its seat, and who takes its users over.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{Hubs, nodes};
use crate::support::{Client, RedisServer, Server, now_millis, until};

/// How soon after a hub has stopped another one posts: a second, and more on a busy machine.
const POSTS_WITHIN_MS: u64 = 2500;
/// Enough users that each hub keeps some.
const USERS: usize = 60;
const SETTINGS: [(&str, &str); 2] = [("liveness.web_silence", "9s"), ("server.drain", "200ms")];

/// Which hub posts webhooks.
async fn posting(hubs: &Hubs) -> Option<usize> {
    for (index, hub) in hubs.hubs.iter().enumerate() {
        let (_, webhooks) = hub.call("GET", "/v1/webhooks", None).await;
        if webhooks["delivery"]["state"] == "up" {
            return Some(index);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_that_is_stopped_gives_up_the_seat_at_once() {
    let mut hubs = Hubs::start(RedisServer::start(), &["ana"], &SETTINGS).await;
    for round in 0..2 {
        let mut posts = 0;
        until("a hub to post", async || match posting(&hubs).await {
            Some(index) => {
                posts = index;
                true
            }
            None => false,
        })
        .await;
        let mut leaves = hubs.remove(posts);
        leaves.signal(Signal::TERM);
        assert!(leaves.until_exit().await.success());
        let begun = now_millis();
        until("another hub to post", async || posting(&hubs).await.is_some()).await;
        let took = now_millis() - begun;
        assert!(took <= POSTS_WITHIN_MS, "{took} ms");
        let (mut ana, _) = hubs.login(0, "ana", "web").await;
        ana.ok(json!({ "type": "set", "custom": round.to_string() })).await;
        hubs.agree().await;
    }
}

fn users() -> Vec<String> {
    (0..USERS).map(|n| format!("user-{n}")).collect()
}

/// Hubs, of which the first has a session of each user.
async fn first_with_sessions() -> (Hubs, Vec<Client>) {
    let users = users();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let hubs = Hubs::start(RedisServer::start(), &names, &SETTINGS).await;
    let mut clients = Vec::new();
    for user in &users {
        clients.push(hubs.login(0, user, "web").await.0);
    }
    hubs.agree().await;
    (hubs, clients)
}

/// How many users of a dead hub a hub has taken over, once it says so.
async fn taken_over(hub: &Server, dead: &str) -> usize {
    let line = hub.until_logged(&["took over", &format!("node={dead}")]).await;
    users_in(&line).unwrap_or_else(|| panic!("{line}"))
}

fn users_in(line: &str) -> Option<usize> {
    line.split("users=").nth(1)?.split(' ').next()?.parse().ok()
}

/// The id of a hub.
async fn id_of(hub: &Server) -> String {
    let (_, body) = hub.call("GET", "/v1/nodes", None).await;
    let address = json!(hub.address.to_string());
    let mut nodes = body["nodes"].as_array().expect("nodes").iter();
    let node = nodes.find(|node| node["address"] == address).expect("itself");
    node["id"].as_str().expect("an id").to_owned()
}

async fn until_all_have_left(hubs: &Hubs) {
    for user in users() {
        hubs.watchers[0].until_told(&user, "state", &json!("Offline")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_dead_hub_are_taken_over_by_one_hub_each() {
    let (mut hubs, _clients) = first_with_sessions().await;
    let dead = id_of(&hubs.hubs[0]).await;
    let mut killed = hubs.remove(0);
    killed.signal(Signal::KILL);
    killed.wait();
    let taken = [taken_over(&hubs.hubs[0], &dead).await, taken_over(&hubs.hubs[1], &dead).await];
    // And the watcher of the dead hub.
    assert_eq!(taken.iter().sum::<usize>(), USERS + 1, "{taken:?}");
    assert!(taken.iter().all(|users| *users > 0), "{taken:?}");
    until_all_have_left(&hubs).await;
    hubs.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_dead_hub_are_taken_over_by_the_next_keeper_if_the_first_dies() {
    let (mut hubs, _clients) = first_with_sessions().await;
    let dead = id_of(&hubs.hubs[0]).await;
    let begun = now_millis();
    let mut killed = hubs.remove(0);
    killed.signal(Signal::KILL);
    killed.wait();
    // It still counts as alive when the death of the first is noticed, and takes nobody over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut keeper = hubs.remove(0);
    keeper.signal(Signal::KILL);
    keeper.wait();
    // Its own share first, then that of the keeper that died.
    until("all users to be taken over", async || {
        let log = hubs.hubs[0].log();
        let lines = log.lines().filter(|line| line.contains("took over") && line.contains(&dead));
        lines.filter_map(users_in).max() > Some(USERS)
    })
    .await;
    until_all_have_left(&hubs).await;
    let took = now_millis() - begun;
    assert!(took < 30_000, "{took} ms");
    hubs.agree().await;
    until("both hubs to be removed", async || nodes(&hubs.hubs[0]).await.len() == 1).await;
}
