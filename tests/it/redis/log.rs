//! The log that the streams of all partitions make together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::presence::Platform;
use presence_hub::store::{
    Cursor, HistoryPart, LogEntry, Outbox, RedisSettings, RedisStore, Save, Store, StoreError,
};
use tokio::time::timeout;

use super::node;
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, log_in, settle};
use crate::support::{RedisServer, SOON, until};

#[tokio::test(flavor = "multi_thread")]
async fn head_reaches_a_commit_within_a_second_on_every_node() {
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let (mut own, mut other) = (one.head(), two.head());
    own.mark_unchanged();
    other.mark_unchanged();
    log_in(&one, "ana", Platform::Web, EPOCH).await;
    timeout(SECOND, own.changed()).await.expect("within a second").expect("a log");
    timeout(SECOND, other.changed()).await.expect("within a second").expect("a log");
    let entries = two.entries(None, 9).await.expect("the log");
    assert_eq!(
        entries.iter().map(|entry| entry.cursor).collect::<Vec<_>>(),
        [*two.head().borrow()]
    );
    assert_eq!(*own.borrow(), *other.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_histories_are_the_log_of_one_user() {
    let server = RedisServer::start();
    let store = node(&server).await;
    for n in 0..130 {
        let user = if n % 5 == 0 { "bo" } else { "ana" };
        log_in(&store, user, Platform::ALL[n % 8], EPOCH + SECOND).await;
    }
    settle(&store).await;
    let mut of_ana = store.entries(None, usize::MAX).await.expect("the log");
    of_ana.retain(|entry| entry.user == id("ana"));
    assert!(of_ana.len() >= 104, "more than one script call follows");
    let all = HistoryPart::After(Cursor::default());
    assert_eq!(store.history(&id("ana"), all, usize::MAX).await, Ok(of_ana.clone()));
    of_ana.reverse();
    let before = HistoryPart::Before(Some(of_ana[59].cursor));
    assert_eq!(store.history(&id("ana"), before, 30).await, Ok(of_ana[60..90].to_vec()));
}

/// Reads the log in pieces until it has so many entries.
async fn follow(store: Arc<dyn Store>, piece: usize, count: usize) -> Vec<LogEntry> {
    let (mut read, mut head) = (Vec::<LogEntry>::new(), store.head());
    while read.len() < count {
        let after = read.last().map(|entry| entry.cursor);
        let more = store.entries(after, piece).await.expect("the log");
        if more.is_empty() {
            timeout(SOON, head.changed()).await.expect("more entries").expect("a log");
        }
        read.extend(more);
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_commits_make_one_order_for_all_readers() {
    const TASKS: usize = 8;
    const LOGINS: usize = 40;
    let server = RedisServer::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let readers =
        [1, 7, 1000].map(|piece| tokio::spawn(follow(Arc::clone(&two), piece, TASKS * LOGINS)));
    let writers = (0..TASKS).map(|task| {
        let store = Arc::clone(if task % 2 == 0 { &one } else { &two });
        tokio::spawn(async move {
            for n in 0..LOGINS {
                let at = EPOCH + Duration::from_millis(n as u64);
                log_in(&store, &format!("user-{task}-{}", n % 10), Platform::ALL[n / 10], at).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer without errors");
    }
    settle(&one).await;
    let all = one.entries(None, usize::MAX).await.expect("the log");
    assert!(all.is_sorted_by(|entry, next| entry.cursor < next.cursor));
    for reader in readers {
        let read = reader.await.expect("a reader without errors");
        assert!(all.starts_with(&read), "what was read while writing went on is final");
    }
    let mut versions = BTreeMap::new();
    for entry in &all {
        let version = entry.transition().expect("a transition").version;
        let before = versions.insert(entry.user.clone(), version);
        assert!(before.is_none_or(|before| before < version), "{}", entry.user);
    }
    assert_eq!(versions.len(), TASKS * 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_of_an_emptied_redis_expire() {
    let server = RedisServer::start();
    let store = node(&server).await;
    log_in(&store, "ana", Platform::Web, EPOCH).await;
    settle(&store).await;
    let old = *store.head().borrow();
    assert_eq!(store.entries(Some(old), 9).await, Ok(Vec::new()));
    let () = server.run("FLUSHALL");
    assert_eq!(store.entries(Some(old), 9).await, Err(StoreError::CursorExpired));
    until("a new log", async || *store.head().borrow() > old).await;
    assert_eq!(store.entries(Some(old), 9).await, Err(StoreError::CursorExpired));
    let begin = *store.head().borrow();
    assert_eq!(store.entries(Some(begin), 9).await, Ok(Vec::new()));
    log_in(&store, "ana", Platform::Web, EPOCH).await;
    settle(&store).await;
    assert_eq!(store.entries(Some(begin), 9).await.expect("the log").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_from_before_the_begin_of_another_partition_can_be_read() {
    let server = RedisServer::start();
    let store = node(&server).await;
    for _ in 0..2 {
        log_in(&store, "ana", Platform::Web, EPOCH).await;
    }
    settle(&store).await;
    let all = store.entries(None, 9).await.expect("the log");
    let [first, .., last] = &all[..] else { panic!("{all:?}") };
    // As in the first moments after a FLUSHALL: all other partitions begin later.
    let keys: Vec<String> = server.run("KEYS test:*u:ana");
    let (tag, _) = keys[0].split_once('}').expect("a tag");
    let mut places: Vec<String> = server.run("KEYS test:*}at");
    places.retain(|key| !key.starts_with(tag));
    assert_eq!(places.len(), 63);
    let _: u32 = server.run(&format!("DEL {}", places.join(" ")));
    until("the others to begin", async || store.entries(None, 9).await.is_ok_and(|it| it == all))
        .await;
    assert_eq!(store.entries(Some(first.cursor), 9).await, Err(StoreError::CursorExpired));
    assert_eq!(store.left(first.cursor, 9).await, Ok(all[1..].to_vec()));
    assert_eq!(store.left(Cursor(first.cursor.0 - 1), 1).await, Ok(all[..1].to_vec()));
    assert_eq!(store.left(last.cursor, 9).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_bytes_wins_over_entries_that_the_webhook_has_not_read() {
    const LOG_BYTES: u64 = 20_000;
    let server = RedisServer::start();
    let settings = RedisSettings { log_bytes: LOG_BYTES, ..server.settings() };
    let store = RedisStore::open(settings, RETENTION, &Clock::system()).await.expect("a store");
    let store = Arc::new(store);
    let shared: Arc<dyn Store> = Arc::<RedisStore>::clone(&store);
    let begin = *shared.head().borrow();
    store.save(Save { position: begin, ..Save::default() }).await.expect("progress");
    for n in 0..80 {
        log_in(&shared, &format!("user-{n}"), Platform::Web, EPOCH).await;
    }
    settle(&shared).await;
    let all = shared.entries(None, usize::MAX).await.expect("the log");
    let lost = shared.trim(EPOCH).await.expect("to trim");
    let left = shared.entries(None, usize::MAX).await.expect("the log");
    assert_eq!(left, all[usize::try_from(lost).expect("a count")..], "the oldest go first");
    let bytes = left.iter().map(|entry| entry.bytes() as u64).sum::<u64>();
    assert!(bytes <= LOG_BYTES && bytes + 2 * all[0].bytes() as u64 > LOG_BYTES, "{bytes}");
    assert_eq!(shared.entries(Some(begin), 9).await, Err(StoreError::CursorExpired));
    assert_eq!(shared.trim(EPOCH).await, Ok(0));
}
