//! Tests that a panic of one of the store's threads closes the store, and that it says why.

use std::io::{self, Write};
use std::mem::forget;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::timeout;
use tracing::subscriber::set_default;

use super::EmbeddedStore;
use crate::presence::{NodeId, Record, SignOfLife, Timestamp, UserId};
use crate::store::{Commit, Records, Retention, StoreError, Stored};

const SOON: Duration = Duration::from_secs(10);

/// What a thread logs.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn panic_of_a_thread_closes_the_store_which_says_why_and_can_still_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let retention = Retention { log_ttl: Duration::from_secs(3600), backlog_bytes_max: u64::MAX };
    let (boot, at) = ("a".into(), Timestamp::from_millis(1_780_000_000_000));
    let present = SignOfLife { boot, up_ms: 0, wall: at, now: at, stalls: Arc::default() };
    let store = EmbeddedStore::open(directory.path(), retention, SOON, &present).expect("a store");
    let user = UserId::stored("ana").expect("a user");
    let commit = async |base: &Stored| {
        let record = Arc::new(Record { custom: Some("busy".into()), ..Record::default() });
        let commit = Commit {
            node: NodeId(1),
            record,
            wall_deadline: None,
            transitions: Vec::new(),
            sync: false,
            message: None,
        };
        store.commit(&user, base, commit).await
    };
    commit(&Stored::default()).await.expect("a commit");
    let stored = Records::load(&store, &user).await.expect("a record");
    store.check().await.expect("a store that is well");

    let logged = Logged::default();
    let writer = logged.clone();
    let panics = move || {
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        // For as long as the thread lives: the panic is logged after this function.
        forget(set_default(subscriber));
        panic!("a test wants it so");
    };
    store.parts.disk.spawn("store-test", panics).expect("a thread");
    let closed = async {
        loop {
            if let Err(error) = store.check().await {
                return error;
            }
            yield_now().await;
        }
    };
    let closed = timeout(SOON, closed).await.expect("the store to be closed");
    let cause = "the thread store-test panicked: a test wants it so";
    assert_eq!(closed, StoreError::unavailable(&cause));
    assert_eq!(commit(&stored).await, Err(closed), "nothing is committed any more");
    let again = Records::load(&store, &user).await.expect("a record");
    assert_eq!(again.revision, stored.revision);
    // The log is written a moment later.
    let says = async {
        while !String::from_utf8_lossy(&logged.0.lock()).contains("until the hub is restarted") {
            yield_now().await;
        }
    };
    timeout(SOON, says).await.expect("a line in the log");
    let log = String::from_utf8_lossy(&logged.0.lock()).into_owned();
    assert!(log.contains("ERROR") && log.contains(cause), "{log}");
}
