//! A Redis Cluster of three primaries.

use std::collections::BTreeSet;
use std::sync::Arc;

use presence_hub::clock::Clock;
use presence_hub::presence::{NodeId, Platform};
use presence_hub::store::{Among, Message, Received, RedisSettings, RedisStore, Store};
use tokio::time::timeout;

use super::{login, put};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, log_in, settle};
use crate::support::{RedisCluster, RedisServer, SOON, move_slot, until};

const TWO: NodeId = NodeId(2);

/// Opens a store for one node, over one of the primaries as the seed.
async fn open(seed: &RedisServer) -> Arc<dyn Store> {
    let settings = RedisSettings { ..seed.settings() };
    Arc::new(RedisStore::open(settings, RETENTION, &Clock::system()).await.expect("a store"))
}

/// How many channels of the feed a server serves to so many nodes each.
fn channels(server: &RedisServer) -> usize {
    server.run::<Vec<String>>("PUBSUB SHARDCHANNELS").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_spread_over_the_primaries() {
    let servers = RedisCluster::of_primaries().await.primaries;
    let (one, two) = (open(&servers[0]).await, open(&servers[1]).await);
    for n in 0..40 {
        log_in(&one, &format!("user-{n}"), Platform::Web, EPOCH).await;
    }
    settle(&two).await;
    until("the log", async || two.entries(None, 100).await.expect("the log").len() == 40).await;
    let all = two.entries(None, 100).await.expect("the log");
    assert_eq!(one.entries(None, 100).await, Ok(all));
    let online = Among { states: vec![presence_hub::presence::State::Online], ..Among::default() };
    assert_eq!(two.users(&online, 100).await.expect("a list").len(), 40);
    until("the feeds", async || servers.iter().map(channels).sum::<usize>() == 64).await;
    for server in &servers {
        assert!((20..=23).contains(&channels(server)), "a third of 64");
        assert!(!server.run::<Vec<String>>("KEYS *u:*").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_moves_is_followed() {
    let servers = RedisCluster::of_primaries().await.primaries;
    let (one, two) = (open(&servers[0]).await, open(&servers[0]).await);
    until("the feeds", async || servers.iter().map(channels).sum::<usize>() == 64).await;
    log_in(&one, "ana", Platform::Web, EPOCH).await;
    let mut subscription = two.listen(TWO);
    let slots: Vec<_> = servers
        .iter()
        .map(|server| {
            let keys: Vec<String> = server.run("KEYS *u:ana");
            keys.first().map(|key| server.run::<u32>(&format!("CLUSTER KEYSLOT {key}")))
        })
        .collect();
    let from = slots.iter().position(Option::is_some).expect("a primary that has ana");
    let to = (from + 1) % 3;
    move_slot(slots[from].expect("a slot"), &servers[from], &servers[to]);

    let missed = async {
        loop {
            if matches!(subscription.next().await, Received::Missed(part) if part.has(&id("ana"))) {
                break;
            }
        }
    };
    timeout(SOON, missed).await.expect("the feed of the partition to be missed");
    let mut users = BTreeSet::new();
    until("a message over the new primary", async || {
        let mut commit = login(Platform::Mac, NodeId(1));
        commit.message = Some(Message::about(id("ana")));
        put(&one, &id("ana"), commit).await.expect("a commit");
        while let Ok(Received::Message(message)) = timeout(SECOND / 10, subscription.next()).await {
            users.insert(message.user.clone());
        }
        users.contains(&id("ana"))
    })
    .await;
    settle(&two).await;
    assert!(two.entries(None, 100).await.expect("the log").len() >= 2);
}
