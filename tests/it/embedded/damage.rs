//! Damaged rows: each is reported and skipped, and does not affect other rows.

use std::path::Path;
use std::sync::Arc;

use presence_hub::presence::{NodeId, Platform, Record, Rescued, State};
use presence_hub::store::{
    Among, Commit, Damaged, Dead, DeadSelection, EmbeddedStore, HeldUser, HistoryPart, Log, Nodes,
    OpenFault, Outbox, Progress, Records, Revision, Save, Store, StoreError, Stored, WebhookName,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{close, is_ready, open, reopen};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{commit_of, log_in, present};
use crate::support::{Server, now_millis, until};

const DATABASE: &str = "presence.db";

/// Changes the database of a closed store with SQL.
fn change(directory: &Path, sql: &str) {
    let connection = Connection::open(directory.join(DATABASE)).expect("the database");
    connection.busy_timeout(20 * SECOND).expect("a time");
    connection.execute_batch(sql).expect("a change");
}

/// Makes a store with two users, closes it, changes it with SQL, and opens it again.
async fn changed(sql: &str) -> (TempDir, EmbeddedStore) {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    log_in(&port, "ana", Platform::Mac, EPOCH).await;
    log_in(&port, "bo", Platform::Mac, EPOCH).await;
    port.save_sign_of_life(NodeId(7), present(), "{}".into()).await.expect("a sign of life");
    let log = port.entries(None, 10).await.expect("the log");
    let (user, from, last_error) = (id("ana"), log[0].cursor, "no".to_owned());
    let held = vec![HeldUser { user, from, refused: EPOCH, worked_ms: 0, attempts: 3, last_error }];
    let dead = log.iter().map(|entry| Dead {
        entry: entry.clone(),
        at: EPOCH,
        attempts: 2,
        last_error: "no".into(),
    });
    let save = Save { position: log[1].cursor, held, dead: dead.collect(), ..Save::default() };
    store.save(save).await.expect("progress");
    drop(port);
    close(store, directory.path());
    change(directory.path(), sql);
    let store = reopen(directory.path());
    (directory, store)
}

fn commit(version: u64) -> Commit {
    commit_of(Record { version, since: Some(EPOCH), ..Record::default() }, Vec::new())
}

#[tokio::test]
async fn damaged_record_is_reported_and_can_be_replaced() {
    for sql in [
        "UPDATE users SET record = replace(record, 'mac', 'mad') WHERE user = 'ana'",
        "UPDATE users SET crc = crc + 1 WHERE user = 'ana'",
        "UPDATE users SET record = CAST(x'ff7b00' AS TEXT) WHERE user = 'ana'",
        "UPDATE users SET revision = 'abc' WHERE user = 'ana'",
        "UPDATE users SET revision = 1.5 WHERE user = 'ana'",
        "UPDATE users SET revision = x'00ff' WHERE user = 'ana'",
        "UPDATE users SET revision = 0 WHERE user = 'ana'",
        "UPDATE users SET record = replace(record, 'mac', 'mad'), revision = 'abc' \
         WHERE user = 'ana'",
    ] {
        let (directory, store) = changed(sql).await;
        let loaded = Records::load(&store, &id("ana")).await;
        let Err(StoreError::Damaged { revision, .. }) = loaded else { panic!("{sql}: {loaded:?}") };
        assert_eq!(Records::load(&store, &id("bo")).await.expect("bo").record.terminals.len(), 1);
        let among = Among { states: vec![State::Online], ..Among::default() };
        let users = store.users(&among, 10).await.expect("a list");
        assert_eq!((&users[0].0, &users[0].1), (&id("ana"), &Err(Damaged)), "{sql}");
        assert!(users[1].1.is_ok());
        assert_eq!(store.damaged(), 1, "{sql}");

        let stale =
            Records::commit(&store, &id("ana"), &Stored::damaged(Revision(99)), commit(5)).await;
        assert!(stale.is_err(), "a stale revision must conflict");
        Records::commit(&store, &id("ana"), &Stored::damaged(revision), commit(5))
            .await
            .expect("a commit");
        assert_eq!(Records::load(&store, &id("ana")).await.expect("ana").record.version, 5);
        assert_eq!(store.damaged(), 0);
        let totals = store.totals().await.expect("totals");
        assert_eq!(totals.users, [1, 0, 1], "{sql}");
        close(Arc::new(store), directory.path());
        let again = reopen(directory.path());
        assert_eq!(Records::load(&again, &id("ana")).await.expect("ana").record.version, 5);
        let database = Connection::open(directory.path().join(DATABASE)).expect("the database");
        let kept = "SELECT count(*) FROM damaged WHERE user = 'ana'";
        let kept: u32 = database.query_row(kept, (), |row| row.get(0)).expect("a count");
        assert_eq!(kept, 1, "the damaged row is kept for operators");
    }
}

#[tokio::test]
async fn revocation_survives_damage_of_the_record() {
    let revoked = r#"'{"terminals":[{"x],"revoked":{"before_secs":7,"until":9}}'"#;
    let sql = format!("UPDATE users SET record = {revoked} WHERE user = 'ana'");
    let (_directory, store) = changed(&sql).await;
    let loaded = Records::load(&store, &id("ana")).await;
    let Err(StoreError::Damaged { rescued: Rescued { revoked: Some(revoked), .. }, .. }) = loaded
    else {
        panic!("{loaded:?}")
    };
    assert_eq!(revoked.before_secs, 7);
}

#[tokio::test]
async fn damaged_log_entry_does_not_stop_readers() {
    let (_directory, store) =
        changed("UPDATE log SET event = CAST(x'ff00' AS TEXT) WHERE user = 'ana'").await;
    let log = store.entries(None, 10).await.expect("the log");
    assert_eq!((&log[0].user, &log[0].event), (&id("ana"), &Err(Damaged)));
    assert!(log[1].event.is_ok());
    let history =
        store.history(&id("ana"), HistoryPart::Before(None), 10).await.expect("a history");
    assert!(history[0].is_damaged());
    assert_eq!(store.damaged(), 1, "counted once");
    store.clear(&WebhookName::UNNAMED).await.expect("no webhook that waits for it");
    store.trim(EPOCH + 365 * 24 * 3600 * SECOND).await.expect("a trim");
    assert_eq!(store.damaged(), 0, "the damaged entry was trimmed");
}

/// The other id is valid, and the text beside it is whole.
#[tokio::test]
async fn rows_that_name_another_user_are_damaged() {
    let sql = "UPDATE log SET user = 'eve' WHERE user = 'ana';
               UPDATE dead SET user = 'eve' WHERE user = 'ana';
               UPDATE users SET user = 'eve' WHERE user = 'ana'";
    let (_directory, store) = changed(sql).await;
    let log = store.entries(None, 10).await.expect("the log");
    assert!(log[0].is_damaged() && !log[1].is_damaged());
    let letters = store.dead(&WebhookName::UNNAMED, None, false, 10).await.expect("dead letters");
    assert!(letters[0].entry.is_damaged() && !letters[1].entry.is_damaged());
    let loaded = Records::load(&store, &id("eve")).await;
    assert!(matches!(loaded, Err(StoreError::Damaged { .. })), "{loaded:?}");
    assert_eq!(store.damaged(), 3);
}

#[tokio::test]
async fn damaged_key_of_a_held_user_is_mended() {
    let (_directory, store) = changed("UPDATE held SET user = 'eve'").await;
    let held =
        store.progress(&WebhookName::UNNAMED).await.expect("progress").expect("a webhook").held;
    assert_eq!((held.len(), &held[0].user, held[0].attempts), (1, &id("ana"), 3));
    let save = Save { freed: vec![id("ana")], ..Save::default() };
    store.save(save).await.expect("progress");
    let held =
        store.progress(&WebhookName::UNNAMED).await.expect("progress").expect("a webhook").held;
    assert!(held.is_empty(), "the mended row has its user's key");
}

#[tokio::test]
async fn damaged_webhook_progress_loses_no_event() {
    let (_directory, store) = changed("UPDATE held SET held = '{'").await;
    let Progress { held, .. } =
        store.progress(&WebhookName::UNNAMED).await.expect("progress").expect("a webhook");
    let first = store.entries(None, 1).await.expect("the log")[0].cursor;
    assert_eq!(
        (&held[0].user, held[0].from <= first),
        (&id("ana"), true),
        "from the oldest entry on"
    );
    assert_eq!(store.damaged(), 1);

    let earlier = r#"replace(held, '"from":"', '"from":"9')"#;
    let (_directory, store) = changed(&format!("UPDATE held SET held = {earlier}")).await;
    let Progress { held, .. } =
        store.progress(&WebhookName::UNNAMED).await.expect("progress").expect("a webhook");
    assert!(held[0].from <= first, "a later cursor would skip pending events");
    assert_eq!(store.damaged(), 1);
}

#[tokio::test]
async fn damaged_position_of_a_webhook_with_a_name_loses_no_event() {
    let orders = WebhookName::try_from("orders".to_owned()).expect("a name");
    for (sql, unread) in [
        ("SELECT 1", 0),
        ("UPDATE hooks SET position = replace(position, '\"]', '9\"]')", 2),
        ("UPDATE hooks SET position = '7', crc = 7", 2),
        ("UPDATE hooks SET webhook = 'orderz'", 0),
        ("UPDATE hooks SET webhook = x'ff'", 0),
    ] {
        let directory = TempDir::new().expect("a directory");
        let store = Arc::new(open(directory.path()).expect("a store"));
        let port: Arc<dyn Store> = Arc::clone(&store) as _;
        log_in(&port, "ana", Platform::Mac, EPOCH).await;
        log_in(&port, "bo", Platform::Mac, EPOCH).await;
        let log = port.entries(None, 10).await.expect("the log");
        let (webhook, position) = (orders.clone(), log[1].cursor);
        store.save(Save { webhook, position, ..Save::default() }).await.expect("progress");
        drop(port);
        close(store, directory.path());
        change(directory.path(), sql);
        let store = reopen(directory.path());
        let progress = store.progress(&orders).await.expect("progress").expect("the webhook");
        let left = store.entries(Some(progress.position), 10).await.expect("the log");
        assert_eq!(left.len(), unread, "{sql}");
        assert_eq!(store.webhooks().await, Ok(vec![orders.clone()]), "{sql}");
    }
}

#[tokio::test]
async fn damaged_dead_letter_is_listed_and_can_be_dropped_but_not_retried() {
    for event in ["'{'", "x'7b00'", "CAST(x'7bff' AS TEXT)", "replace(event, 'mac', 'mad')"] {
        let sql = format!("UPDATE dead SET event = {event} WHERE user = 'ana'");
        let (_directory, store) = changed(&sql).await;
        let dead = store.dead(&WebhookName::UNNAMED, None, false, 10).await.expect("dead letters");
        assert_eq!((dead.len(), &dead[0].entry.event), (2, &Err(Damaged)), "{event}");
        assert!(dead[1].entry.event.is_ok());
        let one = DeadSelection::These(vec![dead[0].entry.cursor]);
        assert_eq!(store.put_back(&WebhookName::UNNAMED, one).await, Ok(0), "{event}");
        assert_eq!(
            store.put_back(&WebhookName::UNNAMED, DeadSelection::All).await,
            Ok(1),
            "only the undamaged one, {event}"
        );
        let back =
            store.dead(&WebhookName::UNNAMED, None, true, 10).await.expect("what was put back");
        assert_eq!((back.len(), &back[0].entry), (1, &dead[1].entry));
        let all =
            store.drop_dead(&WebhookName::UNNAMED, DeadSelection::All).await.expect("a count");
        assert_eq!((all, store.damaged()), (1, 0), "it was dropped and is not counted");
    }
}

#[tokio::test]
async fn record_whose_id_is_damaged_is_counted_and_set_aside() {
    for id_sql in ["x'ff41'", "CAST(x'ff41' AS TEXT)", "x'616e61'", "''"] {
        let sql = format!("UPDATE users SET user = {id_sql} WHERE user = 'ana'");
        let (directory, store) = changed(&sql).await;
        assert_eq!(store.damaged(), 1, "{id_sql}");
        assert_eq!(store.totals().await.expect("totals").users, [0, 0, 1], "{id_sql}");
        let among = Among { states: vec![State::Online], ..Among::default() };
        let users = store.users(&among, 10).await.expect("a list");
        let users: Vec<_> = users.iter().map(|(user, _)| user.as_str()).collect();
        assert_eq!(users, ["bo"], "{id_sql}");
        close(Arc::new(store), directory.path());
        let database = Connection::open(directory.path().join(DATABASE)).expect("the database");
        let kept = "SELECT count(*) FROM damaged WHERE record LIKE '%mac%'";
        let kept: u32 = database.query_row(kept, (), |row| row.get(0)).expect("a count");
        assert_eq!(kept, 1, "the row is kept for operators");
    }
}

#[tokio::test]
async fn record_that_contradicts_its_row_is_damaged() {
    let sql = "UPDATE users SET state = 0 WHERE user = 'ana'";
    let (_directory, store) = changed(sql).await;
    let loaded = Records::load(&store, &id("ana")).await;
    assert!(matches!(loaded, Err(StoreError::Damaged { .. })), "{loaded:?}");
    assert_eq!(store.damaged(), 1);
}

#[tokio::test]
async fn damaged_time_of_an_entry_affects_neither_trimming_nor_the_clock() {
    let later = EPOCH + 365 * 24 * 3600 * SECOND;
    for at in ["'zzz'", "9000000000000000", "1.5"] {
        let (_directory, store) = changed(&format!("UPDATE log SET at = {at}")).await;
        assert_eq!(store.latest(), EPOCH, "{at}");
        store.clear(&WebhookName::UNNAMED).await.expect("no webhook that waits for it");
        store.trim(later).await.expect("a trim");
        assert_eq!(store.entries(None, 10).await.expect("the log"), [], "{at}");
    }
}

#[tokio::test]
async fn changed_schema_is_reported_at_startup() {
    for sql in [
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = replace(sql, 'record TEXT', 'recoil TEXT')
         WHERE name = 'users'",
        "ALTER TABLE log RENAME COLUMN event TO events",
        "DROP TABLE held",
        "DROP INDEX users_due_wall; CREATE INDEX users_due_wall ON users (due_running)",
    ] {
        let directory = TempDir::new().expect("a directory");
        close(Arc::new(open(directory.path()).expect("a store")), directory.path());
        change(directory.path(), sql);
        let opened = open(directory.path()).err();
        let Some(fault @ OpenFault::Damaged(_)) = opened else { panic!("{sql}: {opened:?}") };
        let said = fault.to_string();
        let names = ["users", "log", "held"];
        assert!(names.iter().any(|name| said.contains(name)), "the table is named: {said}");
    }
}

#[tokio::test]
async fn missing_index_is_rebuilt() {
    let directory = TempDir::new().expect("a directory");
    close(Arc::new(open(directory.path()).expect("a store")), directory.path());
    change(directory.path(), "DROP INDEX users_due_running; DROP INDEX log_by_user");
    drop(reopen(directory.path()));
    let database = Connection::open(directory.path().join(DATABASE)).expect("the database");
    let found =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('users_due_running', 'log_by_user')";
    let found: u32 = database.query_row(found, (), |row| row.get(0)).expect("a count");
    assert_eq!(found, 2);
}

#[tokio::test]
async fn v1_ready_is_503_while_records_are_unreadable() {
    let server = Server::start(&[]);
    let (_ana, _) = server.login("ana", "web").await;
    assert!(is_ready(&server).await);
    // Write all pending commits first, because their write would fail, too.
    server.call("GET", "/v1/snapshot", None).await;
    // A second connection changes the schema under the hub, as a damaged page would.
    let data = server.directory.path().join("data");
    change(&data, "ALTER TABLE users RENAME COLUMN record TO recoil");
    until("not ready", async || !is_ready(&server).await).await;
    server.until_logged(&["ERROR", "no such column"]).await;
    change(&data, "ALTER TABLE users RENAME COLUMN recoil TO record");
    until("ready again", async || is_ready(&server).await).await;
}

#[tokio::test]
async fn sessions_of_a_run_with_a_damaged_sign_of_life_are_held_from_now_on() {
    for (sql, node) in [
        ("UPDATE nodes SET sign = 'x'", NodeId(7)),
        (r#"UPDATE nodes SET sign = replace(sign, '"now":', '"now":9')"#, NodeId(7)),
        // The node id can be recovered from the records.
        ("UPDATE nodes SET node = 'xyz'", NodeId(1)),
        ("UPDATE nodes SET node = '00000000000000aa'", NodeId(1)),
    ] {
        let (_directory, store) = changed(sql).await;
        let lost = store
            .save_sign_of_life(NodeId(3), present(), "{}".into())
            .await
            .expect("the dead nodes");
        let lost = lost.iter().find(|lost| lost.node == node).expect("it to be known");
        assert_eq!(lost.last, EPOCH, "{sql}");
        assert_eq!(store.damaged(), 1);
    }
}

#[tokio::test]
async fn damaged_totals_are_recounted() {
    for totals in ["'x'", "replace(totals, '2],', '9],')"] {
        let (_directory, store) = changed(&format!("UPDATE state SET totals = {totals}")).await;
        assert_eq!(store.totals().await.expect("totals").users, [0, 0, 2], "{totals}");
    }
}

/// Damages a user's record in the database of a stopped hub.
fn damage(server: &Server, user: &str) {
    let data = server.directory.path().join("data");
    let sql = format!(
        "UPDATE users SET record = replace(record, 'version', 'versiom') WHERE user = '{user}'"
    );
    change(&data, &sql);
}

#[tokio::test]
async fn damaged_record_stops_no_deadline_and_its_user_can_log_in() {
    let windows = [("liveness.web_silence", "3s"), ("liveness.web_ping", "1s")];
    let mut server = Server::start(&windows);
    let (_ana, ok) = server.login("ana", "web").await;
    let (_bo, _) = server.login("bo", "web").await;
    server.signal(rustix::process::Signal::TERM);
    server.until_exit().await;
    damage(&server, "ana");
    server.restart_dead(&windows);
    server.until_logged(&["ERROR", "damaged row", "ana"]).await;
    assert!(is_ready(&server).await);
    let (status, page) = server.call("GET", "/v1/snapshot", None).await;
    assert_eq!((status, &page["damaged"]), (200, &json!(["ana"])), "{page}");
    let (status, _) = server.call("GET", "/v1/users/ana", None).await;
    assert_eq!(status, 500);
    server.until_state("bo", "Offline").await;
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(stats["store"]["damaged_rows"], 1, "{stats}");
    let (_ana, again) = server.login("ana", "web").await;
    let version = |status: &Value| status["version"].as_u64();
    assert!(version(&again["status"]) > version(&ok["status"]));
    assert_eq!(server.user("ana").await["state"], "Online");
    let (_, history) = server.call("GET", "/v1/users/ana/history", None).await;
    let causes: Vec<_> = history["events"].as_array().expect("events").iter().collect();
    let causes: Vec<_> = causes.iter().map(|event| &event["cause"]).collect();
    assert_eq!(causes, ["login", "recovered", "login"]);
    let begun = now_millis();
    until("a metric", async || {
        let metrics = server.http("GET", "/metrics").send().await.expect("an answer");
        let text = metrics.text().await.expect("a text");
        text.contains("presence_hub_store_damaged_rows 0") && begun > 0
    })
    .await;
}

#[tokio::test]
async fn columns_of_a_wrong_type_do_not_block_other_users() {
    let sql = "UPDATE users SET due_running = 'zzz', due_wall = 'zzz' WHERE user = 'ana'; \
               UPDATE dead SET at = 'zzz', attempts = 'zzz' WHERE user = 'ana'";
    let (_directory, store) = changed(sql).await;
    let loaded = Records::load(&store, &id("ana")).await.expect("an undamaged record");
    assert_eq!(loaded.record.terminals.len(), 1);
    assert!(Records::load(&store, &id("bo")).await.is_ok());
    let due = store.due(NodeId(1), EPOCH, EPOCH, 10).await.expect("who is due");
    assert!(due.contains(&id("ana")), "the deadline comes from the record: {due:?}");
    let dead = store.dead(&WebhookName::UNNAMED, None, false, 10).await.expect("the letters");
    let attempts: Vec<_> = dead.iter().map(|dead| dead.attempts).collect();
    assert_eq!(attempts, [0, 2]);
}

#[tokio::test]
async fn due_time_that_contradicts_the_record_is_written_anew_by_the_next_event() {
    let (directory, store) = changed("UPDATE users SET due_running = 5 WHERE user = 'ana'").await;
    let user = id("ana");
    let due = async |store: &EmbeddedStore| store.due(NodeId(1), EPOCH, EPOCH, 10).await;
    assert_eq!(due(&store).await, Ok(vec![user.clone()]));
    let stored = Records::load(&store, &user).await.expect("an undamaged record");
    // The hub commits a record whose deadlines are not those that were stored.
    assert_ne!(stored.wall_deadline, None);
    let again = commit_of(Record::clone(&stored.record), Vec::new());
    Records::commit(&store, &user, &stored, again).await.expect("a commit");
    assert_eq!(due(&store).await, Ok(Vec::new()), "not due again and again");
    close(Arc::new(store), directory.path());
    let again = Records::load(&reopen(directory.path()), &user).await.expect("a record");
    assert_eq!(again.wall_deadline, None, "what is stored agrees with the record");
}
