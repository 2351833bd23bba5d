//! The journal: pending commits, their recovery after a crash, and damage.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use presence_hub::presence::{Due, NodeId, Platform, Record, Sign, State};
use presence_hub::store::{Commit, Cursor, EmbeddedStore, Revision, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{close, copy_of, cut, open, reopen};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, log_in, present};
use crate::support::until;

/// The number of commits in the mark file.
fn marked(directory: &Path) -> u64 {
    let mark = fs::read_to_string(directory.join("presence.mark")).expect("the mark");
    mark.split(' ').nth(1).and_then(|commits| commits.parse().ok()).expect("a mark")
}

/// Carries all pending commits over: `backlog` needs the database.
async fn settle(store: &EmbeddedStore) {
    store.backlog(Cursor(0)).await.expect("an answer");
}

#[tokio::test]
async fn every_tenth_sign_of_life_carries_pending_commits_over() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    log_in(&(Arc::clone(&store) as _), "ana", Platform::Mac, EPOCH).await;
    let database = Connection::open(directory.path().join("presence.db")).expect("the database");
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        database.query_row(&sql, (), |row| row.get::<_, u32>(0)).expect("a count")
    };
    for node in 1..10 {
        store.sign(NodeId(node.into()), present()).await.expect("a sign of life");
        assert_eq!((count("nodes"), count("users"), count("log")), (node, 0, 0));
    }
    store.sign(NodeId(10), present()).await.expect("a sign of life");
    assert_eq!((count("nodes"), count("users"), count("log")), (10, 1, 1));
}

#[tokio::test]
async fn truncated_journal_is_reported_at_startup() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    for user in ["ana", "bo"] {
        log_in(&(Arc::clone(&store) as _), user, Platform::Mac, EPOCH).await;
    }
    until("marked", async || marked(directory.path()) == 2).await;
    let journal = "presence.journal-0";
    let length = fs::metadata(directory.path().join(journal)).expect("the journal").len();
    for left in [0, 100, length / 2, length - 1] {
        let copy = copy_of(directory.path());
        cut(copy.path(), journal, left);
        for _ in 0..2 {
            let Err(fault) = open(copy.path()) else { panic!("it opened with {left} bytes") };
            let said = fault.to_string();
            assert!(said.contains("changes are missing: to go on without them"), "{said}");
        }
        // After a reboot, missing commits are expected.
        let next_boot = Sign { boot: "b".into(), ..present() };
        let opened = EmbeddedStore::open(copy.path(), RETENTION, SECOND / 20, &next_boot);
        opened.expect("what is left");
    }
    let copy = copy_of(directory.path());
    let whole = open(copy.path()).expect("a store");
    assert_ne!(Store::load(&whole, &id("bo")).await.expect("a record").record.version, 0);
}

#[tokio::test]
async fn corrupt_pending_commits_are_reported_at_startup() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    // The sign of life tells the next run that the machine was not rebooted.
    store.sign(NodeId(1), present()).await.expect("a sign of life");
    for n in 0..20 {
        log_in(&(Arc::clone(&store) as _), &format!("user-{n}"), Platform::Mac, EPOCH).await;
        if [4, 9, 14].contains(&n) {
            settle(&store).await;
        }
    }
    until("marked", async || marked(directory.path()) == 20).await;
    // Damage in the last part of the WAL could be a partly written page, so damage the middle.
    for (name, quarters, complaint) in [
        ("presence.db-wal", 2, "pages that can no longer be read"),
        ("presence.journal-0", 3, "changes are missing"),
    ] {
        let copy = copy_of(directory.path());
        let path = copy.path().join(name);
        let mut bytes = fs::read(&path).expect("the file");
        let at = bytes.len() * quarters / 4;
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("to write");
        let Err(fault) = open(copy.path()) else { panic!("it opened with a damaged {name}") };
        assert!(fault.to_string().contains(complaint), "{name}: {fault}");
    }
    // Without damage, a killed process loses nothing.
    let copy = copy_of(directory.path());
    let whole = open(copy.path()).expect("a store");
    for n in 0..20 {
        let user = id(&format!("user-{n}"));
        assert_ne!(Store::load(&whole, &user).await.expect("a record").record.version, 0);
    }
    assert_eq!(
        whole.log(None, 100).await.expect("the log"),
        store.log(None, 100).await.expect("it")
    );
}

#[tokio::test]
async fn partly_written_wal_page_after_a_kill_is_not_damage() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    settle(&store).await;
    for user in ["ana", "bo"] {
        log_in(&(Arc::clone(&store) as _), user, Platform::Mac, EPOCH).await;
        settle(&store).await;
    }
    // A kill during a write: the header of the last page is written, and after it follow old bytes and
    // old pages of an earlier round of the WAL.
    let copy = TempDir::new().expect("a directory");
    for name in ["presence.db", "presence.db-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).expect("to copy");
    }
    let path = copy.path().join("presence.db-wal");
    let mut bytes = fs::read(&path).expect("the log");
    let last = bytes.len() - (24 + 4096);
    let mut earlier = bytes[last..].to_vec();
    earlier[8..16].fill(0);
    bytes[last + 24..].fill(0);
    bytes.extend(earlier);
    fs::write(&path, bytes).expect("to write");
    let store = open(copy.path()).expect("the store as it was before the last commit");
    assert_ne!(Store::load(&store, &id("ana")).await.expect("a record").record.version, 0);
}

/// Whether a store has a record of a user.
async fn knows(store: &EmbeddedStore, user: &str) -> bool {
    Store::load(store, &id(user)).await.expect("a record").record.version > 0
}

#[tokio::test]
async fn partly_written_commit_is_discarded() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let journal = directory.path().join("presence.journal-0");
    log_in(&(Arc::clone(&store) as _), "ana", Platform::Mac, EPOCH).await;
    let first = fs::metadata(&journal).expect("the journal").len();
    log_in(&(Arc::clone(&store) as _), "bo", Platform::Mac, EPOCH).await;
    let both = fs::metadata(&journal).expect("the journal").len();
    for left in (first..both).step_by(37).chain([both - 1]) {
        let copy = copy_of(directory.path());
        cut(copy.path(), "presence.journal-0", left);
        // The commit was not acknowledged, so the mark did not count it.
        fs::remove_file(copy.path().join("presence.mark")).expect("to remove");
        let store = open(copy.path()).expect("a store");
        assert!(knows(&store, "ana").await, "{left}");
        assert!(!knows(&store, "bo").await, "{left}");
    }
}

#[tokio::test]
async fn commits_succeed_and_are_visible_while_the_database_is_busy() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let busy = Connection::open(directory.path().join("presence.db")).expect("the database");
    busy.execute_batch("BEGIN IMMEDIATE").expect("to hold it");
    // Not in the order of ids, in which the database stores records.
    for n in (0..10).rev() {
        log_in(&port, &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    assert!(knows(&store, "user-0").await);
    let log = port.log(None, 100).await.expect("the log");
    assert_eq!(log.len(), 10);
    assert_eq!(port.log(Some(log[6].cursor), 2).await.expect("a part"), log[7..9]);
    assert_eq!(port.totals().await.expect("totals").users[State::Online as usize], 10);
    let copy = copy_of(directory.path());
    busy.execute_batch("ROLLBACK").expect("to let go");
    let again = open(copy.path()).expect("a store");
    assert_eq!(again.log(None, 100).await.expect("the log"), log, "from the journal");
    settle(&store).await;
    assert_eq!(port.log(None, 100).await.expect("the log"), log, "from the database");
}

#[tokio::test]
async fn due_users_merge_pending_commits_and_the_database() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("a store");
    let due = async |limit| {
        let users = store.due(EPOCH + 50 * SECOND, EPOCH, limit).await.expect("who is due");
        users.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let commit = async |user: &str, seconds: u32| {
        let revision = Store::load(&store, &id(user)).await.expect("a record").revision;
        let commit = Commit {
            record: Arc::new(Record { version: 1, ..Record::default() }),
            due: Due { running: Some(EPOCH + seconds * SECOND), wall: None },
            transitions: Vec::new(),
            sync: false,
        };
        Store::commit(&store, &id(user), revision, commit).await.expect("a commit");
    };
    assert!(due(9).await.is_empty());
    commit("ana", 10).await;
    commit("bo", 20).await;
    assert_eq!(due(9).await, ["ana", "bo"], "pending commits are due");
    assert_eq!(due(9).await, ["ana", "bo"], "the database gives the same result");
    commit("ana", 500).await;
    assert_eq!(due(1).await, ["bo"]);
    commit("bo", 30).await;
    assert_eq!(due(9).await, ["bo"]);
    commit("bo", 600).await;
    assert!(due(9).await.is_empty());
    commit("cy", 40).await;
    settle(&store).await;
    assert_eq!(due(9).await, ["cy"], "a user that was carried over later");
}

#[tokio::test]
async fn last_pending_commit_of_each_user_is_carried_over() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    // The versions that are committed before and after the first carry-over. A record with version 0 is
    // empty and is deleted.
    let stories: [[&[u64]; 2]; 6] = [
        [&[1, 2, 3], &[]],
        [&[1, 0], &[]],
        [&[1, 0, 2], &[]],
        [&[1], &[2, 3]],
        [&[1], &[2, 0]],
        [&[1], &[0, 2]],
    ];
    for part in 0..2 {
        for (n, story) in stories.iter().enumerate() {
            let user = id(&format!("user-{n}"));
            for version in story[part] {
                let revision = Store::load(&*store, &user).await.expect("a record").revision;
                let commit = Commit {
                    record: Arc::new(Record { version: *version, ..Record::default() }),
                    due: Due::default(),
                    transitions: Vec::new(),
                    sync: false,
                };
                Store::commit(&*store, &user, revision, commit).await.expect("a commit");
            }
        }
        settle(&store).await;
    }
    close(store, directory.path());
    let again = reopen(directory.path());
    let database = Connection::open(directory.path().join("presence.db")).expect("the database");
    for (n, story) in stories.iter().enumerate() {
        let last = *story.concat().last().expect("a commit");
        let user = format!("user-{n}");
        let found = Store::load(&again, &id(&user)).await.expect("a record").record.version;
        assert_eq!(found, last, "{user}");
        let sql = "SELECT count(*) FROM users WHERE user = ?1";
        let count: u32 = database.query_row(sql, (&user,), |row| row.get(0)).expect("a count");
        assert_eq!(count, u32::from(last > 0), "{user}");
    }
}

#[tokio::test]
async fn removed_journal_stops_commits_and_loses_none() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    log_in(&port, "ana", Platform::Mac, EPOCH).await;
    fs::remove_file(directory.path().join("presence.journal-0")).expect("to remove");
    let commit = Commit {
        record: Arc::new(Record { version: 1, ..Record::default() }),
        due: Due::default(),
        transitions: Vec::new(),
        sync: false,
    };
    let refused = port.commit(&id("bo"), Revision(0), commit).await;
    let cause = refused.expect_err("no journal").to_string();
    assert!(cause.contains("presence.journal-0 was removed"), "{cause}");
    assert!(port.check().await.is_err());
    drop(port);
    close(store, directory.path());
    let again = reopen(directory.path());
    assert!(knows(&again, "ana").await);
    assert!(!knows(&again, "bo").await);
}

#[tokio::test]
async fn journal_files_alternate_and_stay_small() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let lengths = || {
        ["presence.journal-0", "presence.journal-1"].map(|name| {
            fs::metadata(directory.path().join(name)).expect("a part of the journal").len()
        })
    };
    let mut users = 0;
    // Until both files were written at least twice.
    for round in 1..=16 {
        for _ in 0..250 {
            log_in(&port, &format!("user-{users}"), Platform::Mac, EPOCH).await;
            users += 1;
        }
        settle(&store).await;
        until("marked", async || marked(directory.path()) == users).await;
        assert!(lengths().iter().sum::<u64>() < 4 * 1024 * 1024, "{round}: {:?}", lengths());
    }
    assert!(lengths().iter().all(|length| *length > 1024 * 1024), "{:?}", lengths());
    log_in(&port, "the-last", Platform::Mac, EPOCH).await;
    let copy = copy_of(directory.path());
    let again = open(copy.path()).expect("a store");
    assert!(knows(&again, "the-last").await);
    assert_eq!(again.totals().await.expect("totals").users[State::Online as usize], users + 1);
}

#[tokio::test]
async fn journal_lines_after_a_gap_are_never_replayed_by_a_later_run() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    for user in ["ana", "bo", "cy"] {
        log_in(&port, user, Platform::Mac, EPOCH).await;
    }
    // Damage the middle line; the last line stays valid.
    let copy = copy_of(directory.path());
    let journal = copy.path().join("presence.journal-0");
    let mut bytes = fs::read(&journal).expect("the journal");
    let lines: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    bytes[lines[1] + 20] ^= 1;
    fs::write(&journal, bytes).expect("to write");
    let next_boot = Sign { boot: "b".into(), ..present() };
    let again = || EmbeddedStore::open(copy.path(), RETENTION, SECOND / 20, &next_boot);
    let store = Arc::new(again().expect("what is left"));
    log_in(&(Arc::clone(&store) as _), "di", Platform::Mac, EPOCH).await;
    let third = copy_of(copy.path());
    let store = EmbeddedStore::open(third.path(), RETENTION, SECOND / 20, &next_boot);
    let store = store.expect("a store");
    for (user, is_known) in [("ana", true), ("bo", false), ("cy", false), ("di", true)] {
        assert_eq!(knows(&store, user).await, is_known, "{user}");
    }
}
