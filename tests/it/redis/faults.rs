//! A server that is killed, frozen or out of memory.

use presence_hub::presence::{NodeId, Platform};
use presence_hub::store::{Commit, HistoryPart, StoreError, Stored};
use rustix::process::Signal;

use super::{login, node, put};
use crate::lab::{EPOCH, id};
use crate::store_contract::{log_in, present, settle};
use crate::support::{RedisServer, until};

const ONE: NodeId = NodeId(1);

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_unavailable_and_then_has_all_that_was_answered() {
    let mut server = RedisServer::with(&["--appendonly", "yes"]);
    let store = node(&server).await;
    log_in(&store, "ana", Platform::Web, EPOCH).await;
    settle(&store).await;
    let head = *store.head().borrow();
    server.kill();
    let refused = put(&store, &id("bo"), login(Platform::Web, ONE)).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let refused = store.load(&id("ana")).await;
    let Err(StoreError::Unavailable { cause }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains("Redis at 127.0.0.1:"), "{cause}");
    assert!(is_unavailable(&store.check().await));

    server.restart();
    until("the store", async || store.load(&id("ana")).await.is_ok()).await;
    assert!(is_unavailable(&store.check().await), "not ready until a sign of life");
    store.save_sign_of_life(ONE, present(), "{}".into()).await.expect("a sign of life");
    assert_eq!(store.check().await, Ok(()));
    assert_eq!(store.load(&id("ana")).await.expect("a record").record.terminals.len(), 1);
    log_in(&store, "bo", Platform::Web, EPOCH).await;
    settle(&store).await;
    assert_eq!(store.entries(Some(head), 9).await.expect("the log").len(), 1, "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_unavailable_and_writes_nothing_when_it_wakes() {
    let server = RedisServer::start();
    let store = node(&server).await;
    server.signal(Signal::STOP);
    let refused = store.commit(&id("ana"), &Stored::default(), login(Platform::Web, ONE)).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    server.signal(Signal::CONT);
    until("the store", async || put(&store, &id("bo"), login(Platform::Web, ONE)).await.is_ok())
        .await;
    assert!(store.load(&id("ana")).await.expect("a record").record.is_empty());
    let history = store.history(&id("ana"), HistoryPart::Before(None), 9).await;
    assert_eq!(history, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_out_of_memory_is_unavailable_and_nothing_is_half_written() {
    let server = RedisServer::start();
    let store = node(&server).await;
    log_in(&store, "ana", Platform::Web, EPOCH).await;
    let before = store.load(&id("ana")).await.expect("a record");
    let dump = || server.run::<Vec<String>>("KEYS *").len();
    let keys = dump();
    let () = server.run("CONFIG SET maxmemory 1");
    for user in ["ana", "bo"] {
        let refused = put(&store, &id(user), login(Platform::Mac, ONE)).await;
        let Err(StoreError::Unavailable { cause }) = refused else { panic!("{refused:?}") };
        assert!(cause.contains("OOM"), "{cause}");
    }
    assert_eq!(store.load(&id("ana")).await.expect("reads go on").record, before.record);
    assert_eq!(dump(), keys);
    let () = server.run("CONFIG SET maxmemory 0");
    let commit = Commit { sync: true, ..login(Platform::Mac, ONE) };
    put(&store, &id("bo"), commit).await.expect("a commit");
}
