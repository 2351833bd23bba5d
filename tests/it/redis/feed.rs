//! The feed: what a node does when it has missed messages.

use std::collections::BTreeSet;

use presence_hub::presence::{NodeId, Platform};
use presence_hub::store::{Commit, Message, Part, Received, Subscription};
use tokio::time::timeout;

use super::{login, node, put};
use crate::lab::id;
use crate::support::{RedisServer, SOON};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// Waits until messages of all 64 parts were missed.
async fn miss_all(subscription: &mut Subscription) {
    let mut missed = BTreeSet::<Part>::new();
    let miss = async {
        while missed.len() < 64 {
            if let Received::Missed(part) = subscription.next().await {
                missed.insert(part);
            }
        }
    };
    timeout(SOON, miss).await.expect("all parts to be missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_feed_is_missed_and_comes_back() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let mut subscription = two.listen(TWO);
    let users: Vec<_> = (0..3).map(|n| id(&format!("user-{n}"))).collect();
    for user in &users {
        let killed: u32 = server.run("CLIENT KILL TYPE pubsub");
        assert_eq!(killed, 2);
        miss_all(&mut subscription).await;
        let message = Message { user: user.clone(), status: None, ends: Vec::new(), kick: None };
        let commit = Commit { message: Some(message.clone()), ..login(Platform::Web, ONE) };
        put(&one, user, commit).await.expect("a commit");
        let heard = async {
            loop {
                if let Received::Message(heard) = subscription.next().await {
                    return heard;
                }
            }
        };
        assert_eq!(*timeout(SOON, heard).await.expect("a message"), message);
        // The other node's feed was killed, too; both must be there before the next round.
        crate::support::until("both feeds", async || {
            let clients: String = server.run("CLIENT LIST TYPE pubsub");
            clients.lines().filter(|client| client.contains("ssub=64")).count() == 2
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_missed() {
    let server = RedisServer::start();
    let store = node(&server).await;
    put(&store, &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");
    let mut subscription = store.listen(ONE);
    let () = server.run("FLUSHALL");
    miss_all(&mut subscription).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_missed() {
    let server = RedisServer::start();
    let store = node(&server).await;
    let mut subscription = store.listen(ONE);
    server.signal(rustix::process::Signal::STOP);
    miss_all(&mut subscription).await;
    server.signal(rustix::process::Signal::CONT);
    miss_all(&mut subscription).await;
}
