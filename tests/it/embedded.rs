//! The embedded store: restarts, damaged and removed files, full disks.

mod crashes;
mod damage;
mod names;
mod nearly_full;
mod read_only;
mod restored;
mod write_ahead;

pub(crate) use self::crashes::Sample;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use presence_hub::presence::{Platform, State};
use presence_hub::store::{
    Among, Cursor, Damaged, Dead, EmbeddedStore, HeldUser, HistoryPart, Log, LogEntry, OpenFault,
    Outbox, Progress, Records, Save, Store, StoreError, WebhookName,
};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, log_in, present};
use crate::support::{Client, Server, command, now_millis, until};

pub(crate) fn open(directory: &Path) -> Result<EmbeddedStore, OpenFault> {
    EmbeddedStore::open(directory, RETENTION, SECOND / 20, &present())
}

/// Closes a store and checkpoints the database, so that all data is in `presence.db`.
fn close(store: Arc<EmbeddedStore>, directory: &Path) {
    drop(store);
    // The writer thread holds the lock until all pending commits are written.
    let lock = fs::File::open(directory.join("presence.lock")).expect("the lock");
    lock.lock().expect("it to be free");
    // The reader threads may still be ending.
    let connection = Connection::open(directory.join("presence.db")).expect("the database");
    connection.busy_timeout(20 * SECOND).expect("a time");
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(checkpoint, (), |_| Ok(())).expect("a checkpoint");
}

fn reopen(directory: &Path) -> EmbeddedStore {
    let mut store = open(directory);
    while matches!(store, Err(OpenFault::Locked)) {
        std::thread::yield_now();
        store = open(directory);
    }
    store.expect("the store")
}

#[tokio::test]
async fn commits_survive_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let record = log_in(&port, "ana", Platform::Mac, EPOCH).await;
    log_in(&port, "bo", Platform::Ios, EPOCH).await;
    let log = store.entries(None, 10).await.expect("the log");
    let (revision, totals) =
        (port.load(&id("ana")).await.expect("one").revision, port.totals().await);
    let held = HeldUser {
        user: id("bo"),
        from: log[1].cursor,
        refused: EPOCH,
        worked_ms: 0,
        attempts: 3,
        last_error: "no".into(),
    };
    let dead = Dead { entry: log[0].clone(), at: EPOCH, attempts: 2, last_error: "no".into() };
    let position = log[1].cursor;
    let (held, dead) = (vec![held], vec![dead]);
    let save = Save { position, held: held.clone(), dead: dead.clone(), ..Save::default() };
    store.save(save).await.expect("progress");
    drop(port);
    drop(store);

    let store = reopen(directory.path());
    assert_eq!(*Records::load(&store, &id("ana")).await.expect("a record").record, record);
    assert_eq!(Records::load(&store, &id("ana")).await.expect("a record").revision, revision);
    assert_eq!(store.totals().await, totals);
    assert_eq!(store.entries(Some(Cursor(log[0].cursor.0 - 1)), 10).await.as_ref(), Ok(&log));
    assert!(
        *store.head().borrow() > log[1].cursor,
        "cursors that a power cut may have lost are not issued again"
    );
    let behind = [(id("bo"), 1)].into();
    assert_eq!(
        store.progress(&WebhookName::UNNAMED).await,
        Ok(Some(Progress { position, held, behind }))
    );
    assert_eq!(store.dead_waiting(&WebhookName::UNNAMED).await, Ok(1));
    assert_eq!(store.dead(&WebhookName::UNNAMED, None, false, 10).await, Ok(dead));
    let backlog = store.backlog(log[0].cursor).await.expect("a backlog");
    assert_eq!((backlog.entries, backlog.bytes), (1, log[1].bytes() as u64));
}

/// Lists use an index, so that the cost of a page depends on its size.
#[tokio::test]
async fn missing_index_is_created_at_startup() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    log_in(&(Arc::clone(&store) as _), "ana", Platform::Mac, EPOCH).await;
    close(store, directory.path());
    let database = directory.path().join("presence.db");
    let without = "DROP INDEX users_by_state";
    Connection::open(&database).expect("it").execute_batch(without).expect("a change");
    let store = reopen(directory.path());
    let among = Among { states: vec![State::Online], ..Among::default() };
    assert_eq!(store.users(&among, 10).await.expect("a list")[0].0, id("ana"));
    let connection = Connection::open(&database).expect("the database");
    let plan = "EXPLAIN QUERY PLAN SELECT user, record FROM users
                WHERE state = 2 AND user > 'a' ORDER BY user LIMIT 3";
    let plan: String = connection.query_row(plan, (), |row| row.get(3)).expect("a plan");
    assert_eq!(plan, "SEARCH users USING INDEX users_by_state (state=? AND user>?)");
}

#[test]
fn files_are_readable_only_by_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().expect("a directory");
    let _store = open(directory.path()).expect("a store");
    for name in ["presence.db", "presence.db-wal", "presence.mark"] {
        let file = fs::metadata(directory.path().join(name)).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn second_hub_on_the_same_directory_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let _store = open(directory.path()).expect("a store");
    let Err(fault) = open(directory.path()) else { panic!("a second hub") };
    let expected = "another hub is running on it: stop that one, or set another store.path";
    assert_eq!(fault.to_string(), expected);
}

#[test]
fn foreign_newer_and_invalid_databases_are_refused_untouched() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("presence.db");
    fs::write(&path, "a shopping list\n".repeat(100)).expect("to write");
    assert!(matches!(open(directory.path()), Err(OpenFault::Damaged(_))));
    fs::remove_file(&path).expect("to remove");
    Connection::open(&path).expect("one").execute("CREATE TABLE other (a)", ()).expect("a table");
    assert!(matches!(open(directory.path()), Err(OpenFault::Foreign)));
    fs::remove_file(&path).expect("to remove");
    close(Arc::new(open(directory.path()).expect("a store")), directory.path());
    let connection = Connection::open(&path).expect("the database");
    connection.busy_timeout(20 * SECOND).expect("a time");
    let mut faults = Vec::new();
    for layout in [9, 1] {
        connection.pragma_update(None, "user_version", layout).expect("another layout");
        faults.push(open(directory.path()).err().expect("a fault"));
    }
    assert!(matches!(faults[..], [OpenFault::Newer(9), OpenFault::Older(1)]), "{faults:?}");
    let said = faults[1].to_string();
    assert!(said.contains("before the first release (layout 1)"), "{said}");
    assert!(said.contains("move the presence.* files away to begin anew"), "{said}");
}

/// Makes a database with 200 users, in one file.
async fn filled(directory: &Path) {
    let store = Arc::new(open(directory).expect("a store"));
    for n in 0..200 {
        log_in(&(Arc::clone(&store) as _), &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    close(store, directory);
}

#[tokio::test]
async fn truncated_database_is_refused() {
    let directory = TempDir::new().expect("a directory");
    filled(directory.path()).await;
    let file = fs::File::options().write(true).open(directory.path().join("presence.db"));
    let file = file.expect("the database");
    let length = file.metadata().expect("a length").len();
    file.set_len(length / 2).expect("to truncate");
    let Err(fault) = open(directory.path()) else { panic!("it opened") };
    assert!(matches!(fault, OpenFault::Damaged(_)), "{fault}");
}

/// Copies the files of an open store, as a killed hub leaves them.
fn copy_of(directory: &Path) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    for name in ["presence.db", "presence.db-wal", "presence.mark"] {
        if let Ok(bytes) = fs::read(directory.join(name)) {
            fs::write(copy.path().join(name), bytes).expect("to write");
        }
    }
    copy
}

fn cut(directory: &Path, name: &str, length: u64) {
    let file = fs::File::options().write(true).open(directory.join(name)).expect("a file");
    file.set_len(length).expect("to truncate");
}

#[tokio::test]
async fn emptied_or_removed_database_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    log_in(&(Arc::clone(&store) as _), "ana", Platform::Mac, EPOCH).await;
    let with_log = copy_of(directory.path());
    close(store, directory.path());
    let in_one_file = copy_of(directory.path());
    for copy in [with_log, in_one_file] {
        let log = copy.path().join("presence.db-wal");
        let before = fs::read(&log).ok();
        for length in [1, 0] {
            cut(copy.path(), "presence.db", length);
            let Err(fault) = open(copy.path()) else { panic!("it opened at {length}") };
            assert!(matches!(fault, OpenFault::Damaged(_)), "{fault}");
        }
        fs::remove_file(copy.path().join("presence.db")).expect("to remove");
        assert!(matches!(open(copy.path()), Err(OpenFault::Damaged(_))));
        assert!(fs::read(&log).ok() == before, "other files are not changed");
    }
}

#[tokio::test]
async fn garbage_in_the_database_is_detected() {
    let directory = TempDir::new().expect("a directory");
    filled(directory.path()).await;
    let path = directory.path().join("presence.db");
    let mut file = fs::File::options().read(true).write(true).open(path).expect("the database");
    let middle = file.metadata().expect("a length").len() / 8192 * 4096;
    file.seek(SeekFrom::Start(middle)).expect("to seek");
    file.write_all(&[0xA5; 8192]).expect("to write");
    let Err(fault) = open(directory.path()) else { panic!("it opened") };
    assert!(matches!(fault, OpenFault::Damaged(_)), "{fault}");
}

#[tokio::test]
async fn flipped_bits_are_detected_by_checksums() {
    let directory = TempDir::new().expect("a directory");
    filled(directory.path()).await;
    let path = directory.path().join("presence.db");
    let (mut bytes, mut file) = (Vec::new(), fs::File::open(&path).expect("the database"));
    file.read_to_end(&mut bytes).expect("to read");
    // Change one digit of a time in every record and every event.
    let time = EPOCH.as_millis().to_string();
    let places: Vec<_> = (0..bytes.len() - time.len())
        .filter(|at| bytes[*at..].starts_with(time.as_bytes()))
        .collect();
    for place in places {
        bytes[place + 5] ^= 1;
    }
    fs::write(&path, bytes).expect("to write");
    let store = reopen(directory.path());
    let loaded = Records::load(&store, &id("user-1")).await;
    assert!(matches!(loaded, Err(StoreError::Damaged { .. })), "{loaded:?}");
    for entries in [
        store.history(&id("user-1"), HistoryPart::Before(None), 1).await,
        store.entries(None, 1).await,
    ] {
        let entries: Vec<LogEntry> = entries.expect("a log that can be read");
        assert_eq!(entries[0].event, Err(Damaged), "the entry keeps its place");
    }
}

#[tokio::test]
async fn user_with_a_damaged_id_is_not_read_as_unknown() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    log_in(&(Arc::clone(&store) as _), "somebody-unmistakable", Platform::Mac, EPOCH).await;
    close(store, directory.path());
    let path = directory.path().join("presence.db");
    let whole = fs::read(&path).expect("the database");
    let name = b"somebody-unmistakable";
    let places = (0..=whole.len() - name.len()).filter(|at| whole[*at..].starts_with(name));
    let mut refused = 0;
    for place in places {
        let mut bytes = whole.clone();
        bytes[place + 3] ^= 1;
        fs::write(&path, bytes).expect("to write");
        let opened = open(directory.path());
        if let Err(OpenFault::Damaged(_)) = opened {
            refused += 1;
            continue;
        }
        // Damage in the log is detected when the entry is read.
        let store = Arc::new(opened.unwrap_or_else(|_| reopen(directory.path())));
        let stored = Records::load(&*store, &id("somebody-unmistakable")).await;
        assert_ne!(stored.expect("a record").record.version, 0);
        close(store, directory.path());
    }
    assert!(refused >= 3, "in the record and in the indexes");
}

#[test]
fn hub_exits_with_an_error_if_the_store_cannot_be_opened() {
    let directory = TempDir::new().expect("a directory");
    fs::create_dir(directory.path().join("data")).expect("a directory");
    fs::write(directory.path().join("data/presence.db"), "no database").expect("to write");
    let mut hub = command(directory.path(), &[("server.listen", "127.0.0.1:0")]);
    let output = hub.output().expect("the hub to run");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot open the store in data: presence.db is damaged"), "{said}");
    assert!(said.contains("bring back a copy") && !said.contains("panicked"), "{said}");

    let server = Server::start(&[]);
    let mut second = command(server.directory.path(), &[("server.listen", "127.0.0.1:0")]);
    let output = second.output().expect("the hub to run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another hub is running on it"), "{said}");
}

async fn is_ready(server: &Server) -> bool {
    server.http("GET", "/ready").send().await.expect("an answer").status() == 200
}

/// Tries to log in; returns the error's code, if any.
async fn try_login(client: &mut Client, user: &str) -> Option<String> {
    let login = json!({
        "type": "login", "token": crate::support::token(user), "platform": "mac", "device": "d",
    });
    let reply = client.request(login).await;
    reply["error"]["code"].as_str().map(str::to_owned)
}

/// Logs users in until one is refused, because the store is full; returns how many
/// were accepted.
async fn log_in_until_refused(server: &Server) -> (usize, Vec<Client>) {
    let mut clients = Vec::new();
    loop {
        let mut client = server.connect().await;
        let user = format!("user-{}", clients.len());
        match try_login(&mut client, &user).await.as_deref() {
            None => clients.push(client),
            Some("unavailable") => return (clients.len(), clients),
            Some(other) => panic!("{user}: {other}"),
        }
        assert!(clients.len() < 5000, "no login was refused");
    }
}

#[tokio::test]
async fn removed_data_directory_stops_commits_and_is_logged() {
    let server = Server::start(&[]);
    let (_ana, _) = server.login("ana", "mac").await;
    fs::remove_dir_all(server.directory.path().join("data")).expect("to remove");
    let mut bo = server.connect().await;
    assert_eq!(try_login(&mut bo, "bo").await.as_deref(), Some("unavailable"));
    assert_eq!(bo.until_closed().await.1, Some(4006));
    until("not ready", async || !is_ready(&server).await).await;
    server.until_logged(&["ERROR", "was removed"]).await;
    assert_eq!(server.user("ana").await["state"], "Online", "cached statuses are still served");
    assert_eq!(server.user("bo").await["state"], "Offline");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn removed_wal_stops_commits_and_loses_no_acknowledged_login() {
    let mut server = Server::start(&[]);
    let (_ana, _) = server.login("ana", "mac").await;
    fs::remove_file(server.directory.path().join("data/presence.db-wal")).expect("to remove");
    let (accepted, _clients) = log_in_until_refused(&server).await;
    until("not ready", async || !is_ready(&server).await).await;
    server.until_logged(&["ERROR", "presence.db-wal was removed"]).await;
    server.restart(&[]);
    assert_eq!(server.user("ana").await["state"], "Online");
    for n in 0..accepted {
        assert_eq!(server.user(&format!("user-{n}")).await["state"], "Online", "user-{n}");
    }
    assert_eq!(server.user(&format!("user-{accepted}")).await["version"], 0);
}

#[tokio::test]
async fn truncated_files_stop_commits_and_are_logged() {
    for name in ["presence.db", "presence.db-wal"] {
        let server = Server::start(&[]);
        let (_ana, _) = server.login("ana", "mac").await;
        let data = server.directory.path().join("data");
        // A checkpoint rewrites the whole file and would undo the truncation: wait until none runs.
        let database = Connection::open(data.join("presence.db")).expect("the database");
        let run = "PRAGMA wal_checkpoint(PASSIVE)";
        let is_busy =
            || database.query_row(run, (), |row| row.get::<_, bool>(0)).expect("a checkpoint");
        until("a checkpoint", async || !is_busy()).await;
        cut(&data, name, 0);
        log_in_until_refused(&server).await;
        until("not ready", async || !is_ready(&server).await).await;
        server.until_logged(&["ERROR", &format!("{name} was truncated")]).await;
    }
}

/// Whether this process may mount file systems in its own namespace.
fn may_mount() -> bool {
    let mount = ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    let tried = Command::new("unshare").args(mount).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// A hub whose data directory is a small file system of its own.
fn on_a_small_disk() -> Server {
    let script = "mkdir -p data && mount -t tmpfs -o size=1m tmpfs data && exec \"$0\"";
    Server::under(&["unshare", "-m", "sh", "-c", script], &[])
}

/// Checks for this time that the hub is not ready.
async fn stays_unready(server: &Server, millis: u64) {
    let begun = now_millis();
    until("that time to pass", async || {
        assert!(!is_ready(server).await);
        now_millis() > begun + millis
    })
    .await;
}

#[tokio::test]
async fn full_disk_is_detected_within_seconds_without_commits() {
    assert!(may_mount(), "this test needs permission to mount a file system in its own namespace");
    let server = on_a_small_disk();
    let (_ana, _) = server.login("ana", "mac").await;
    until("ready", async || is_ready(&server).await).await;
    let fill = "head -c 2000000 /dev/zero > data/other; true";
    in_its_namespace(&server, fill);
    let begun = now_millis();
    until("not ready", async || !is_ready(&server).await).await;
    assert!(now_millis() - begun < 15_000, "{} ms", now_millis() - begun);
    stays_unready(&server, 3000).await;
    in_its_namespace(&server, "rm data/other");
    until("ready again", async || is_ready(&server).await).await;
    let (_bo, _) = server.login("bo", "mac").await;
    server.until_logged(&["INFO", "store available again"]).await;
}

/// Runs a command in the hub's mount namespace and working directory.
fn in_its_namespace(server: &Server, command: &str) {
    let command = format!("cd {} && {command}", server.directory.path().display());
    let pid = server.pid().to_string();
    let done = Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-c", &command]).status();
    assert!(done.expect("nsenter").success(), "{command}");
}

/// Enlarges that file system.
fn enlarge(server: &Server) {
    in_its_namespace(server, "mount -o remount,size=64m data");
}

#[test]
fn read_only_directory_is_reported_at_startup() {
    assert!(may_mount(), "this test needs permission to mount a file system in its own namespace");
    let directory = TempDir::new().expect("a directory");
    let script = "mkdir data && mount -t tmpfs -o ro tmpfs data && exec \"$0\"";
    let mut hub = Command::new("unshare");
    hub.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_presence-hub")]);
    hub.current_dir(directory.path()).env("PRESENCE_HUB__AUTH__SECRET", crate::support::SECRET);
    let output = hub.output().expect("the hub to run");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot open the store in data: Read-only file system"), "{said}");
}

#[tokio::test]
async fn full_disk_is_logged_and_the_hub_recovers() {
    assert!(may_mount(), "this test needs permission to mount a file system in its own namespace");
    let server = on_a_small_disk();
    let (accepted, _clients) = log_in_until_refused(&server).await;
    let refused = format!("user-{accepted}");
    until("not ready", async || !is_ready(&server).await).await;
    server.until_logged(&["ERROR", "store unavailable"]).await;
    assert_eq!(server.user(&refused).await["state"], "Offline", "no false state");
    assert_eq!(server.user("user-0").await["state"], "Online");
    // Signs of life are small and may still fit; they must not make the hub ready.
    stays_unready(&server, 3000).await;
    let mut late = server.connect().await;
    assert_eq!(try_login(&mut late, &refused).await.as_deref(), Some("unavailable"));
    stays_unready(&server, 2000).await;
    server.until_logged(&["WARN", "HTTP request refused: store unavailable"]).await;
    server.until_logged(&["WARN", "client request refused: store unavailable"]).await;
    let warnings = |log: &str| {
        log.lines().filter(|l| l.contains("request refused: store unavailable")).count()
    };
    assert!(warnings(&server.log()) <= 2, "once a minute of each kind: {}", server.log());
    assert!(!server.log().contains("store available again"), "{}", server.log());

    enlarge(&server);
    until("ready again", async || is_ready(&server).await).await;
    let (_late, _) = server.login(&refused, "mac").await;
    for n in 0..accepted {
        assert_eq!(server.user(&format!("user-{n}")).await["state"], "Online", "user-{n}");
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
