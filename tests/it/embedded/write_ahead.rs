//! The write-ahead log: what was committed and is not in the database file yet, and how it comes back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use presence_hub::presence::{NodeId, Platform, Record, SignOfLife, State};
use presence_hub::store::{Commit, EmbeddedStore, Log, OpenFault, Records, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{close, copy_of, cut, open, reopen};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, commit_of, log_in, present};
use crate::support::until;

const LOG: &str = "presence.db-wal";
/// A page of the log, and the head before it.
const FRAME: usize = 24 + 4096;

fn length(directory: &Path) -> u64 {
    fs::metadata(directory.join(LOG)).expect("the log").len()
}

/// The next run after the machine was stopped and started.
fn next_boot() -> SignOfLife {
    SignOfLife { boot: "b".into(), ..present() }
}

fn open_after_a_power_cut(directory: &Path) -> Result<EmbeddedStore, OpenFault> {
    EmbeddedStore::open(directory, RETENTION, SECOND / 20, &next_boot())
}

/// Whether a store knows a user.
async fn knows(store: &EmbeddedStore, user: &str) -> bool {
    Records::load(store, &id(user)).await.expect("a record").record.version > 0
}

/// Commits a record that is due at a time, if any.
async fn commit(store: &EmbeddedStore, user: &str, version: u64, due: Option<u32>) {
    let base = Records::load(store, &id(user)).await.expect("a record");
    let wall_deadline = due.map(|seconds| EPOCH + seconds * SECOND);
    let commit = commit_of(Record { version, ..Record::default() }, Vec::new());
    let commit = Commit { wall_deadline, ..commit };
    Records::commit(store, &id(user), &base, commit).await.expect("a commit");
}

#[tokio::test]
async fn commits_that_were_cut_off_are_missed() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    for user in ["ana", "bo"] {
        log_in(&(Arc::clone(&store) as _), user, Platform::Mac, EPOCH).await;
    }
    let length = length(directory.path());
    for left in [0, 100, length / 2, length - 1] {
        let copy = copy_of(directory.path());
        cut(copy.path(), LOG, left);
        for _ in 0..2 {
            let Err(fault) = open(copy.path()) else { panic!("it opened with {left} bytes") };
            let said = fault.to_string();
            assert!(said.contains("changes are missing") || left == 0, "{said}");
            assert!(matches!(fault, OpenFault::Damaged(_)), "{said}");
        }
        if left > 0 {
            open_after_a_power_cut(copy.path()).expect("what is left");
        }
    }
    let copy = copy_of(directory.path());
    assert!(knows(&open(copy.path()).expect("a store"), "bo").await);
}

#[tokio::test]
async fn a_start_that_refuses_leaves_the_files_as_they_are() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    for user in ["ana", "bo"] {
        log_in(&(Arc::clone(&store) as _), user, Platform::Mac, EPOCH).await;
    }
    let copy = copy_of(directory.path());
    cut(copy.path(), LOG, length(directory.path()) - 1);
    let files =
        || [LOG, "presence.db", "presence.mark"].map(|n| fs::read(copy.path().join(n)).ok());
    let before = files();
    assert!(open(copy.path()).is_err());
    assert!(files() == before, "an operator may want to look into them");
    fs::remove_file(copy.path().join("presence.mark")).expect("to remove");
    let store = open(copy.path()).expect("to go on without what is missing");
    assert!(knows(&store, "ana").await && !knows(&store, "bo").await);
}

#[tokio::test]
async fn a_damaged_page_of_the_log_is_missed() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    for n in 0..20 {
        log_in(&(Arc::clone(&store) as _), &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    for part in 1..10 {
        let copy = copy_of(directory.path());
        let path = copy.path().join(LOG);
        let mut bytes = fs::read(&path).expect("the log");
        let at = bytes.len() * part / 10;
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("to write");
        let Err(fault) = open(copy.path()) else { panic!("it opened, damaged at {at}") };
        assert!(matches!(fault, OpenFault::Damaged(_)), "{at}: {fault}");
    }
    // What the death of the process alone leaves is whole.
    let copy = copy_of(directory.path());
    let whole = open(copy.path()).expect("a store");
    for n in 0..20 {
        assert!(knows(&whole, &format!("user-{n}")).await);
    }
    let log = store.entries(None, 100).await.expect("the log");
    assert_eq!(whole.entries(None, 100).await.expect("the log"), log);
}

#[tokio::test]
async fn a_commit_that_was_being_written_when_the_process_died_never_was() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    log_in(&(Arc::clone(&store) as _), "ana", Platform::Mac, EPOCH).await;
    let first = length(directory.path());
    let mark = fs::read(directory.path().join("presence.mark")).expect("the mark");
    log_in(&(Arc::clone(&store) as _), "bo", Platform::Mac, EPOCH).await;
    let both = length(directory.path());
    for left in (first..both).step_by(997).chain([both - 1]) {
        let copy = copy_of(directory.path());
        cut(copy.path(), LOG, left);
        // The mark is written after the log.
        fs::write(copy.path().join("presence.mark"), &mark).expect("to write");
        let store = open(copy.path()).expect("a store");
        assert!(knows(&store, "ana").await, "{left}");
        assert!(!knows(&store, "bo").await, "{left}");
    }
}

#[tokio::test]
async fn what_an_earlier_round_of_the_log_left_behind_its_end_is_no_damage() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    for user in ["ana", "bo"] {
        log_in(&(Arc::clone(&store) as _), user, Platform::Mac, EPOCH).await;
    }
    let copy = TempDir::new().expect("a directory");
    for name in ["presence.db", LOG] {
        fs::copy(directory.path().join(name), copy.path().join(name)).expect("to copy");
    }
    // The head of the last page is written, and below it and behind it are an earlier round's pages.
    let path = copy.path().join(LOG);
    let mut bytes = fs::read(&path).expect("the log");
    let last = bytes.len() - FRAME;
    let mut earlier = bytes[last..].to_vec();
    earlier[8..16].fill(0);
    bytes[last + 24..].fill(0);
    bytes.extend(earlier);
    fs::write(&path, bytes).expect("to write");
    let store = open(copy.path()).expect("the store as it was before the last commit");
    assert!(knows(&store, "ana").await);
}

#[tokio::test]
async fn what_a_power_cut_left_of_a_run_is_never_taken_for_a_part_of_the_next() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    log_in(&port, "ana", Platform::Mac, EPOCH).await;
    let first = usize::try_from(length(directory.path())).expect("a length");
    for user in ["bo", "cy"] {
        log_in(&port, user, Platform::Mac, EPOCH).await;
    }
    // A page in the middle is lost, and those after it are whole.
    let copy = copy_of(directory.path());
    let mut bytes = fs::read(copy.path().join(LOG)).expect("the log");
    bytes[first + 100] ^= 1;
    fs::write(copy.path().join(LOG), bytes).expect("to write");
    let store = Arc::new(open_after_a_power_cut(copy.path()).expect("what is left"));
    log_in(&(Arc::clone(&store) as _), "di", Platform::Mac, EPOCH).await;
    let third = copy_of(copy.path());
    let store = open_after_a_power_cut(third.path()).expect("a store");
    for (user, is_known) in [("ana", true), ("bo", false), ("cy", false), ("di", true)] {
        assert_eq!(knows(&store, user).await, is_known, "{user}");
    }
}

#[tokio::test]
async fn the_log_stays_short_under_load() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let mut users = 0;
    for round in 0..12 {
        for _ in 0..250 {
            log_in(&port, &format!("user-{users}"), Platform::Mac, EPOCH).await;
            users += 1;
        }
        port.save_sign_of_life(NodeId(1), present(), "{}".into()).await.expect("a sign of life");
        // It begins anew once the database has all of it.
        let database = Connection::open(directory.path().join("presence.db")).expect("it");
        let is_done = || {
            let run = "PRAGMA wal_checkpoint(PASSIVE)";
            // Busy while the store's own is under way.
            let (busy, log, done): (bool, i64, i64) = database
                .query_row(run, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .expect("a checkpoint");
            !busy && log == done
        };
        until("a checkpoint", async || is_done()).await;
        assert!(length(directory.path()) < 16 * 1024 * 1024, "{round}");
    }
    log_in(&port, "the-last", Platform::Mac, EPOCH).await;
    let again = open(copy_of(directory.path()).path()).expect("a store");
    assert!(knows(&again, "the-last").await);
    assert_eq!(again.totals().await.expect("totals").users[State::Online as usize], users + 1);
}

#[tokio::test]
async fn who_is_due_is_known_as_of_the_last_commit() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("a store");
    let due = async |limit| {
        let users =
            store.due(NodeId(1), EPOCH, EPOCH + 50 * SECOND, limit).await.expect("who is due");
        users.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(due(9).await.is_empty());
    commit(&store, "ana", 1, Some(10)).await;
    commit(&store, "bo", 1, Some(20)).await;
    assert_eq!(due(9).await, ["ana", "bo"]);
    commit(&store, "ana", 2, Some(500)).await;
    assert_eq!(due(1).await, ["bo"], "a user who is due later hides the user who is due");
    commit(&store, "bo", 2, Some(30)).await;
    assert_eq!(due(9).await, ["bo"]);
    commit(&store, "bo", 3, Some(600)).await;
    assert!(due(9).await.is_empty());
    commit(&store, "cy", 1, Some(40)).await;
    assert_eq!(due(9).await, ["cy"]);
}

#[tokio::test]
async fn a_user_may_be_forgotten_and_come_back() {
    let directory = TempDir::new().expect("a directory");
    let store = Arc::new(open(directory.path()).expect("a store"));
    // Without a version there is nothing to be kept.
    let stories: [&[u64]; 6] = [&[1, 2, 3], &[1, 0], &[1, 0, 2], &[0], &[1, 2, 0], &[1, 0, 0, 2]];
    for (n, story) in stories.iter().enumerate() {
        for version in *story {
            commit(&store, &format!("user-{n}"), *version, None).await;
        }
    }
    close(store, directory.path());
    let again = reopen(directory.path());
    let database = Connection::open(directory.path().join("presence.db")).expect("the database");
    for (n, story) in stories.iter().enumerate() {
        let last = *story.last().expect("a commit");
        let user = format!("user-{n}");
        let found = Records::load(&again, &id(&user)).await.expect("a record").record.version;
        assert_eq!(found, last, "{user}");
        let sql = "SELECT count(*) FROM users WHERE user = ?1";
        let count: u32 = database.query_row(sql, (&user,), |row| row.get(0)).expect("a count");
        assert_eq!(count, u32::from(last > 0), "{user}");
    }
}
