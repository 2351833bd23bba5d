//! Commits: what they tell other nodes, and when they are refused.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{Audience, NodeId, Notice, Platform, Record};
use presence_hub::store::{
    Among, Commit, Damaged, HistoryPart, Message, Received, Records, Store, StoreError, Stored,
    Subscription,
};
use tokio::time::timeout;

use super::{login, node, put, until_heard};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{commit_of, log_in};
use crate::support::{RedisServer, SOON, until};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The next message; what was published before the subscription is missed.
async fn next_message(subscription: &mut Subscription) -> Message {
    let next = async {
        loop {
            if let Received::Message(message) = subscription.next().await {
                return Message::clone(&message);
            }
        }
    };
    timeout(SOON, next).await.expect("a message")
}

/// Commits until a message is heard: until then something may be missed, and messages about it are left out.
async fn hear_something(from: &Arc<dyn Store>, node: NodeId, to: &mut Subscription) {
    loop {
        put(from, &id("warm"), with_message(login(Platform::Web, node), "warm"))
            .await
            .expect("a commit");
        let next = timeout(SECOND, to.next()).await;
        if matches!(next, Ok(Received::Message(_))) {
            break;
        }
    }
    while timeout(SECOND / 2, to.next()).await.is_ok() {}
}

fn with_message(commit: Commit, user: &str) -> Commit {
    let notices = vec![Notice { status: commit.record.status(), to: Audience::Everyone }];
    let message = Message { notices, ..Message::about(id(user)) };
    Commit { message: Some(message), ..commit }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_are_told_of_a_commit_and_of_no_conflict() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    until_heard(&server, 2).await;
    let (mut own, mut other) = (one.listen(ONE), two.listen(TWO));
    hear_something(&one, ONE, &mut other).await;
    hear_something(&two, TWO, &mut own).await;
    let first = with_message(login(Platform::Web, ONE), "ana");
    put(&one, &id("ana"), first.clone()).await.expect("a commit");
    let refused = one.commit(&id("ana"), &Stored::default(), first.clone()).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    let of_two = with_message(login(Platform::Web, TWO), "bo");
    put(&two, &id("bo"), of_two.clone()).await.expect("a commit");
    let third = with_message(login(Platform::Mac, ONE), "cy");
    put(&one, &id("cy"), third.clone()).await.expect("a commit");

    let mut heard = [next_message(&mut other).await, next_message(&mut other).await];
    heard.sort_by_key(|message| message.user.clone());
    assert_eq!(heard.map(Some), [first.message, third.message], "a conflict tells nothing");
    assert_eq!(Some(next_message(&mut own).await), of_two.message, "no echo of its own commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_from_a_retired_node() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    put(&one, &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");
    let before = one.load(&id("ana")).await.expect("a record");
    two.retire(ONE).await.expect("to retire");

    for user in ["ana", "bo"] {
        let refused = put(&one, &id(user), login(Platform::Mac, ONE)).await;
        assert_eq!(refused, Err(StoreError::Retired), "{user}");
    }
    assert_eq!(one.load(&id("ana")).await.expect("a record").record, before.record);
    assert_eq!(one.load(&id("bo")).await.expect("a record").record, Record::default().into());
    assert_eq!(two.totals().await.expect("counts").users, [0, 0, 1]);
    let history = two.history(&id("ana"), HistoryPart::Before(None), 9).await.expect("a history");
    assert_eq!(history.len(), 1);
    put(&two, &id("bo"), login(Platform::Mac, TWO)).await.expect("a commit of a node that lives");
}

/// CLIENT PAUSE holds a commit back for longer than it is awaited.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_given_up_is_never_written_later() {
    let server = RedisServer::start();
    let store = node(&server).await;
    let base = store.load(&id("ana")).await.expect("a record");
    let () = server.run("CLIENT PAUSE 1500 WRITE");
    let late = store.commit(&id("ana"), &base, login(Platform::Web, ONE)).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    assert!(store.check().await.is_err(), "not ready until a sign of life");
    until("the pause to end", async || {
        put(&store, &id("bo"), login(Platform::Web, ONE)).await.is_ok()
    })
    .await;
    let ana = store.load(&id("ana")).await.expect("a record");
    assert!(ana.record.is_empty(), "it was executed before the commit of bo, and refused");
    assert_eq!(store.totals().await.expect("counts").users, [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_loaded_again() {
    let server = RedisServer::start();
    let store = node(&server).await;
    for user in ["ana", "bo"] {
        let () = server.run("SCRIPT FLUSH");
        log_in(&store, user, Platform::Web, EPOCH).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_sync_needs_a_replica_only_if_there_is_one() {
    let server = RedisServer::start();
    let store = node(&server).await;
    let sync = Commit { sync: true, ..login(Platform::Web, ONE) };
    put(&store, &id("ana"), sync.clone()).await.expect("a commit without a replica");

    let mut replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", server.port())]);
    let is_online = || server.run::<String>("INFO replication").contains("state=online");
    until("the replica", async || is_online()).await;
    // On a busy machine the replica still loads.
    until("a commit with a replica", async || put(&store, &id("bo"), sync.clone()).await.is_ok())
        .await;
    let mut get = replica.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*u:bo").query(&mut get).expect("keys");
    assert_eq!(keys.len(), 1, "the replica has it before the answer");
    replica.signal(rustix::process::Signal::STOP);
    let alone = put(&store, &id("cy"), sync).await;
    assert!(matches!(alone, Err(StoreError::Unavailable { .. })), "{alone:?}");
    replica.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_reported_and_replaced() {
    let server = RedisServer::start();
    let store = node(&server).await;
    log_in(&store, "ana", Platform::Web, EPOCH).await;
    let keys: Vec<String> = server.run("KEYS *u:ana");
    for damage in ["torn", "ffffffffffffffff 1-1 torn"] {
        let mut connection = server.connection();
        let () =
            redis::cmd("SET").arg(&keys[0]).arg(damage).query(&mut connection).expect("to write");
        let damaged = store.load(&id("ana")).await;
        let Err(StoreError::Damaged { revision, .. }) = damaged else { panic!("{damaged:?}") };
        assert_eq!(store.damaged(), 1);
        let online =
            Among { states: vec![presence_hub::presence::State::Online], ..Among::default() };
        assert_eq!(store.users(&online, 9).await, Ok(vec![(id("ana"), Err(Damaged))]));

        let new = Record { version: 7, since: Some(EPOCH), ..Record::default() };
        let commit = commit_of(new.clone(), Vec::new());
        store.commit(&id("ana"), &Stored::damaged(revision), commit).await.expect("to replace");
        assert_eq!(*store.load(&id("ana")).await.expect("a record").record, new);
        assert_eq!((store.damaged(), store.users(&online, 9).await), (0, Ok(Vec::new())));
        let copies: Vec<String> = server.run("KEYS *damaged");
        let copy: String = server.run(&format!("HGET {} ana", copies[0]));
        assert_eq!(copy, damage, "a copy is kept for operators");
        log_in(&store, "ana", Platform::Web, EPOCH + SECOND).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_applies_its_own_deadlines() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let day = Duration::from_secs(24 * 3600);
    put(&one, &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");
    put(&two, &id("bo"), login(Platform::Web, TWO)).await.expect("a commit");
    let due = async |store: &dyn Store, node| store.due(node, EPOCH + day * 2, EPOCH, 9).await;
    assert_eq!(due(&*one, ONE).await, Ok(vec![id("ana")]));
    assert_eq!(due(&*two, TWO).await, Ok(vec![id("bo")]));
    // Another node has taken the user over meanwhile: the load shows it.
    put(&two, &id("ana"), login(Platform::Mac, TWO)).await.expect("a commit");
    one.load(&id("ana")).await.expect("a record");
    assert_eq!(due(&*one, ONE).await, Ok(Vec::new()));
}

/// A snapshot reads many users at once.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_read_together_share_commands() {
    const USERS: usize = 1000;
    let server = RedisServer::start();
    let store = server.open(crate::store_contract::RETENTION).await;
    let users: Vec<_> = (0..USERS).map(|n| id(&format!("user-{n}"))).collect();
    let before = store.server_counts().expect("counts").commands;
    let read = users.iter().map(|user| Records::load(&store, user));
    for stored in futures::future::join_all(read).await {
        assert!(stored.expect("a record").record.is_empty());
    }
    let commands = store.server_counts().expect("counts").commands - before;
    // Ticks are counted, too.
    assert!(commands < 64 * 4, "{commands} commands for {USERS} users");
}
