//! The feed: what a node does when it has missed messages.

use std::collections::BTreeSet;

use presence_hub::presence::{NodeId, Platform};
use presence_hub::store::{Commit, Message, Part, Received, Subscription};
use rustix::process::Signal;
use tokio::time::timeout;

use super::{login, node, put, until_heard};
use crate::lab::id;
use crate::support::{RedisServer, SOON, until};

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

/// A commit whose message is about its user.
fn telling(user: &str, node: NodeId) -> Commit {
    Commit { message: Some(Message::about(id(user))), ..login(Platform::Web, node) }
}

/// Waits until a message about a user, or that it was missed.
async fn hear_of(subscription: &mut Subscription, user: &str) {
    let hear = async {
        loop {
            match subscription.next().await {
                Received::Message(message) if message.user == id(user) => break,
                Received::Missed(part) if part.has(&id(user)) => break,
                Received::Message(_) | Received::Missed(_) => (),
            }
        }
    };
    timeout(SOON, hear).await.expect("a message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_feed_is_missed_and_comes_back() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let mut subscription = two.listen(TWO);
    for user in ["ana", "bo", "cy"] {
        until_heard(&server, 2).await;
        let killed: u32 = server.run("CLIENT KILL TYPE pubsub");
        assert_eq!(killed, 2);
        miss_all(&mut subscription).await;
        put(&one, &id(user), telling(user, ONE)).await.expect("a commit");
        hear_of(&mut subscription, user).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_missed() {
    let server = RedisServer::start();
    let store = node(&server).await;
    put(&store, &id("ana"), telling("ana", ONE)).await.expect("a commit");
    until_heard(&server, 1).await;
    let mut subscription = store.listen(ONE);
    let () = server.run("FLUSHALL");
    miss_all(&mut subscription).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_missed() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    until_heard(&server, 2).await;
    let mut subscription = one.listen(ONE);
    server.signal(Signal::STOP);
    miss_all(&mut subscription).await;
    server.signal(Signal::CONT);
    until("the store", async || put(&two, &id("ana"), telling("ana", TWO)).await.is_ok()).await;
    hear_of(&mut subscription, "ana").await;
}
