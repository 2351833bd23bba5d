//! What only the store in memory promises: a bounded log, and several nodes within one process.

use futures::FutureExt;
use presence_hub::presence::{Audience, NodeId, Notice, Platform, Record};
use presence_hub::store::{Commit, Cursor, LOG_ENTRIES_MAX, Message, Received, StoreError, Stored};

use super::{Made, NODE, commit_of, logged_in, memory, put};
use crate::lab::{EPOCH, SECOND, id};

#[tokio::test]
async fn memory_log_is_bounded() {
    let Made { store, .. } = memory();
    let begin = *store.head().borrow();
    let (record, transitions) = logged_in(&Record::default(), Platform::Web, EPOCH);
    let commit = commit_of(record, transitions);
    for _ in 0..LOG_ENTRIES_MAX + 10 {
        put(&store, &id("ana"), commit.clone()).await.expect("a commit");
    }
    let forgotten = store.entries(Some(Cursor(begin.0 + 9)), 1).await;
    assert_eq!(forgotten, Err(StoreError::CursorExpired));
    let rest = store.entries(Some(Cursor(begin.0 + 10)), usize::MAX).await.expect("the log");
    assert_eq!(rest.len(), LOG_ENTRIES_MAX);
    assert_eq!(LOG_ENTRIES_MAX, 100_000);
}

#[tokio::test]
async fn memory_due_users_are_those_of_the_node_that_asks() {
    let Made { store, .. } = memory();
    let (mut record, transitions) = logged_in(&Record::default(), Platform::Mac, EPOCH);
    let mut elsewhere = record.terminals[0].clone();
    elsewhere.connection.node = NodeId(2);
    elsewhere.token_until = EPOCH + SECOND;
    let mut later = elsewhere.clone();
    later.token_until = EPOCH + 2 * SECOND;
    record.terminals.extend([later, elsewhere]);
    put(&store, &id("ana"), commit_of(record, transitions)).await.expect("a commit");
    let due = async |node, at| store.due(node, at, EPOCH, 10).await.expect("who is due").len();
    assert_eq!(due(NodeId(2), EPOCH + SECOND / 2).await, 0);
    assert_eq!(due(NodeId(2), EPOCH + SECOND).await, 1);
    assert_eq!(due(NODE, EPOCH + SECOND * 3600).await, 0, "that node's time is another");
    put(&store, &id("ana"), commit_of(Record::default(), Vec::new())).await.expect("a commit");
    assert_eq!(due(NodeId(2), EPOCH + 2 * SECOND).await, 0, "no deadline is left behind");
}

#[tokio::test]
async fn memory_tells_other_nodes_of_a_commit_and_of_no_conflict() {
    let Made { store, .. } = memory();
    let (mut own, mut other) = (store.listen(NODE), store.listen(NodeId(2)));
    let user = id("ana");
    let (record, transitions) = logged_in(&Record::default(), Platform::Web, EPOCH);
    let notices = vec![Notice { status: record.status(), to: Audience::Everyone }];
    let message = Message { notices, ..Message::about(user.clone()) };
    let commit = Commit { message: Some(message.clone()), ..commit_of(record, transitions) };
    let base = Stored::default();
    store.commit(&user, &base, commit.clone()).await.expect("a commit");
    assert_eq!(store.commit(&user, &base, commit).await, Err(StoreError::Conflict));
    let Received::Message(heard) = other.next().await else { panic!("nothing was missed") };
    assert_eq!(*heard, message);
    assert!(other.next().now_or_never().is_none(), "a conflict tells nothing");
    assert!(own.next().now_or_never().is_none(), "a node is not told of its own commits");
}
