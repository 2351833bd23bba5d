//! Restored backups, and clocks that were set back.

use std::fs;
use std::sync::Arc;

use presence_hub::presence::{NodeId, Platform, SignOfLife};
use presence_hub::store::{
    Cursor, EmbeddedStore, Log, MemoryStore, Nodes, Outbox, Records, Save, Store, StoreError,
    WebhookName,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{copy_of, open};
use crate::lab::{EPOCH, SECOND};
use crate::store_contract::{RETENTION, log_in, present};
use crate::support::{Server, now_millis};

fn open_at(directory: &TempDir, present: &SignOfLife) -> EmbeddedStore {
    EmbeddedStore::open(directory.path(), RETENTION, SECOND / 20, present).expect("a store")
}

#[tokio::test]
async fn cursor_that_the_log_never_issued_is_expired() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let begin = *port.head().borrow();
    log_in(&port, "ana", Platform::Mac, EPOCH).await;
    let copied = *port.head().borrow();
    let copy = copy_of(directory.path());
    log_in(&port, "bo", Platform::Mac, EPOCH).await;
    let lost = *port.head().borrow();

    let later = SignOfLife { wall: EPOCH + 3600 * SECOND, now: EPOCH + 3600 * SECOND, ..present() };
    for round in 0..3 {
        let restored = open_at(&copy, &later);
        let head = *restored.head().borrow();
        assert!(head > lost);
        for cursor in [begin, copied, head] {
            let read = restored.entries(Some(cursor), 10).await;
            assert!(read.is_ok(), "{round}: {cursor} was given out: {read:?}");
        }
        let never =
            [Cursor(0), lost, Cursor(copied.0 + 100), Cursor(head.0 - 1), Cursor(head.0 + 1)];
        for cursor in never {
            let read = restored.entries(Some(cursor), 10).await;
            assert_eq!(read, Err(StoreError::CursorExpired), "{round}: {cursor}");
        }
        super::close(Arc::new(restored), copy.path());
    }
}

#[tokio::test]
async fn webhook_position_beyond_the_log_is_reset_to_its_end() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("a store");
    let beyond = Cursor(store.head().borrow().0 + 5);
    store.save(Save { position: beyond, ..Save::default() }).await.expect("progress");
    let copy = copy_of(directory.path());
    let restored = open_at(&copy, &present());
    let position = restored
        .progress(&WebhookName::UNNAMED)
        .await
        .expect("progress")
        .expect("a webhook")
        .position;
    assert!(position < beyond);
    assert_eq!(restored.entries(Some(position), 10).await, Ok(Vec::new()));
}

#[tokio::test]
async fn store_returns_the_latest_time_of_an_earlier_run() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("a store");
    let ahead = SignOfLife { now: EPOCH + 3600 * SECOND, ..present() };
    store.save_sign_of_life(NodeId(1), ahead.clone(), "{}".into()).await.expect("a sign of life");
    let copy = copy_of(directory.path());
    assert_eq!(open_at(&copy, &present()).latest(), ahead.now);
}

#[tokio::test]
async fn v2_versions_grow_after_the_clock_was_set_back_in_every_store() {
    for kind in ["memory", "embedded"] {
        let settings = [("store.kind", kind)];
        let mut server = Server::start(&settings);
        let (_ana, _) = server.login("ana", "mac").await;
        server.signal(rustix::process::Signal::TERM);
        server.until_exit().await;
        // The clock of the earlier run was an hour ahead.
        let hour_ahead = now_millis() + 3_600_000;
        let data = server.directory.path().join("data");
        if kind == "memory" {
            fs::write(data.join("presence.time"), format!("{hour_ahead:020}\n")).expect("to write");
        } else {
            let database = rusqlite::Connection::open(data.join("presence.db")).expect("it");
            let sign = "SELECT sign FROM nodes";
            let sign: String = database.query_row(sign, (), |row| row.get(0)).expect("a sign");
            let mut sign: Value = serde_json::from_str(&sign).expect("JSON");
            // The node, and its sign.
            sign[1]["now"] = hour_ahead.into();
            let sign = sign.to_string();
            let sql = "UPDATE nodes SET sign = ?1, crc = ?2";
            let crc = crc32fast::hash(sign.as_bytes());
            assert_eq!(database.execute(sql, (sign, crc)).expect("a sign"), 1);
        }
        server.restart_dead(&settings);
        server.until_logged(&["WARN", "wall clock is behind"]).await;
        let (_bo, ok) = server.login("bo", "mac").await;
        let version = |value: &Value| value["status"]["version"].as_u64().expect("a version");
        assert!(version(&ok) > hour_ahead, "{kind}: {ok}");
    }
}

#[tokio::test]
async fn memory_store_saves_a_time_ahead_of_its_versions() {
    let directory = TempDir::new().expect("a directory");
    let open =
        || MemoryStore::new(RETENTION, EPOCH).with_saved_time(directory.path()).expect("a store");
    open().save_sign_of_life(NodeId(1), present(), "{}".into()).await.expect("a sign of life");
    assert!(open().latest() > present().now + SECOND);
}
