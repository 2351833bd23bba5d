//! User ids that earlier versions accepted and that are invalid today.

use std::sync::Arc;

use presence_hub::presence::{Platform, State, UserId};
use presence_hub::store::{
    Among, HeldUser, HistoryPart, Log, Outbox, Records, Save, Store, WebhookName,
};
use tempfile::TempDir;

use super::{close, open, reopen};
use crate::lab::EPOCH;
use crate::store_contract::log_in;

fn stored(text: &str) -> UserId {
    UserId::stored(text).expect("an id that was accepted once")
}

#[tokio::test]
async fn records_with_ids_that_are_invalid_today_are_readable() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let names = [".", "..", "ana"];
    let mut records = Vec::new();
    for name in names {
        assert_eq!(name.parse::<UserId>().is_ok(), name == "ana");
        records.push(log_in(&port, name, Platform::Mac, EPOCH).await);
    }
    let log = store.entries(None, 10).await.expect("the log");
    let held = HeldUser {
        user: stored("."),
        from: log[0].cursor,
        refused: EPOCH,
        attempts: 1,
        last_error: "no".into(),
        worked_ms: 0,
    };
    let (position, held) = (log[1].cursor, vec![held]);
    store.save(Save { position, held: held.clone(), ..Save::default() }).await.expect("progress");
    drop(port);

    // Once from the write-ahead log, and once from the database.
    drop(store);
    let store = Arc::new(reopen(directory.path()));
    close(store, directory.path());
    let store = reopen(directory.path());
    for (name, record) in names.iter().zip(&records) {
        let loaded = Records::load(&store, &stored(name)).await.expect("a record");
        assert_eq!(*loaded.record, *record, "{name}");
        let history = store.history(&stored(name), HistoryPart::Before(None), 10).await;
        assert_eq!(history.expect("a history").len(), 1, "{name}");
    }
    let among = Among { states: vec![State::Online], ..Among::default() };
    let listed = store.users(&among, 10).await.expect("a list");
    let listed: Vec<_> = listed.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(listed, names);
    let users: Vec<_> = store.entries(None, 10).await.expect("the log");
    assert_eq!(users, log);
    let progress =
        store.progress(&WebhookName::UNNAMED).await.expect("the progress").expect("a webhook");
    assert_eq!((progress.position, progress.held), (position, held));
}
