//! Three hubs over a Redis Cluster: a primary that fails, slots that move, a takeover that loses writes.

use serde_json::json;

use super::Hubs;
use super::failover::{assert_said_again, set_when_possible, versions};
use crate::support::{
    Client, RedisCluster, cannot_move_at_once, move_slot, move_slot_at_once, until,
    until_replicated,
};

/// Clients read only now and then.
const PATIENT: [(&str, &str); 1] = [("liveness.web_silence", "300s")];
/// Enough users that each primary has some.
const USERS: usize = 24;

fn users() -> Vec<String> {
    (0..USERS).map(|n| format!("user-{n}")).collect()
}

/// Hubs over a cluster, with a session of each user.
async fn hubs_with_sessions() -> (Hubs<RedisCluster>, Vec<Client>) {
    let users = users();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let hubs = Hubs::start(RedisCluster::with_replicas().await, &names, &PATIENT).await;
    let mut clients = Vec::new();
    for (n, user) in users.iter().enumerate() {
        clients.push(hubs.login(n % 3, user, "web").await.0);
    }
    hubs.agree().await;
    (hubs, clients)
}

/// Changes every user, and asserts that nobody was seen to leave.
async fn go_on(hubs: &Hubs<RedisCluster>, clients: &mut [Client], custom: &str) {
    let changes = clients.iter_mut().map(|client| set_when_possible(client, custom));
    futures::future::join_all(changes).await;
    hubs.until_all_ready().await;
    hubs.agree().await;
    for watcher in &hubs.watchers {
        for user in users() {
            let states = watcher.states(&user);
            assert!(states.iter().skip(1).all(|state| state == "Online"), "{user}: {states:?}");
        }
    }
    for hub in &hubs.hubs {
        assert!(!hub.log().contains("dead node"), "{}", hub.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_that_is_killed_is_replaced_and_comes_back() {
    let (mut hubs, mut clients) = hubs_with_sessions().await;
    let (_, index) = hubs.redis.slot("*u:user-0");
    for round in ["its replica", "itself again"] {
        hubs.redis.primaries[index].kill();
        hubs.redis.until_failed_over(index).await;
        go_on(&hubs, &mut clients, round).await;
        let cluster = &mut hubs.redis;
        cluster.replicas[index].restart();
        until_replicated(&cluster.replicas[index], &cluster.primaries[index]).await;
    }
    go_on(&hubs, &mut clients, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_that_moves_to_another_primary_and_back_is_followed() {
    let (hubs, mut clients) = hubs_with_sessions().await;
    let (slot, from) = hubs.redis.slot("*u:user-0");
    let [here, there] = [from, (from + 1) % 3].map(|index| &hubs.redis.primaries[index]);
    move_slot(slot, here, there);
    go_on(&hubs, &mut clients, "by key").await;
    move_slot(slot, there, here);
    go_on(&hubs, &mut clients, "and back").await;
    if let Some(cause) = cannot_move_at_once(here) {
        eprintln!("SKIPPED: a slot that moves with all its keys at once: {cause}");
        return;
    }
    move_slot_at_once(slot, there).await;
    go_on(&hubs, &mut clients, "at once").await;
    move_slot_at_once(slot, here).await;
    go_on(&hubs, &mut clients, "and back at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takeover_by_a_replica_that_lacks_the_last_writes_is_healed_by_the_hubs() {
    let (mut hubs, mut clients) = hubs_with_sessions().await;
    let (_, index) = hubs.redis.slot("*u:user-0");
    let lose = |user: &String| hubs.redis.slot(&format!("*u:{user}")).1 == index;
    let losers: Vec<_> = users().into_iter().filter(lose).collect();
    let losers: Vec<_> = losers.iter().map(String::as_str).collect();
    assert!(losers.len() < USERS, "{losers:?}");
    crate::support::cut_off(&hubs.redis.replicas[index], &hubs.redis.primaries[index]);
    for client in &mut clients {
        client.ok(json!({ "type": "set", "custom": "lost" })).await;
    }
    hubs.agree().await;
    let lost = versions(&hubs, &losers);

    let () = hubs.redis.replicas[index].run("CLUSTER FAILOVER TAKEOVER");
    hubs.redis.until_failed_over(index).await;
    for user in &losers {
        until(&format!("{user} to be as before"), async || {
            let (status, body) = hubs.hubs[0].call("GET", &format!("/v1/users/{user}"), None).await;
            let is_greater = body["version"].as_u64() > lost.get(*user).copied();
            status == 200 && body["custom"] == "lost" && is_greater
        })
        .await;
    }
    hubs.until_all_ready().await;
    hubs.agree().await;
    assert_said_again(&hubs, &lost).await;
    go_on(&hubs, &mut clients, "after").await;
}
