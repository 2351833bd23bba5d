use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::OpenFault;
use crate::store::StoreError;

/// How many pages the write-ahead log may have before writers wait for it to begin anew.
const WAL_PAGES_MAX: i64 = 16 * 1024;
/// How often there is a checkpoint while nothing needs a sync: signs of life are written all the same.
const IDLE: Duration = Duration::from_secs(30);
/// How often there is a checkpoint while much is written.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How often is synced where each commit is before it is answered, and little is left to do.
const PAUSE_SYNCED: Duration = Duration::from_millis(50);

/// What is known of the disk below the database, and what forces things to it.
pub(super) struct Disk {
    /// The database and its write-ahead log.
    files: [Watched; 2],
    /// The write-ahead log, by a handle of our own. It bears no locks, so closing it harms none.
    wal: File,
    condition: Mutex<Condition>,
    /// Wakes the thread that syncs.
    dirty: SyncSender<()>,
}

/// A file that was opened: another in its place, or none, is not ours, and it never becomes shorter.
struct Watched {
    path: PathBuf,
    identity: (u64, u64),
    length: AtomicU64,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Removed,
    Truncated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Well,
    /// The last write failed; the next may not.
    Failing(StoreError),
    /// What was written may be lost: nothing that is written from here on could be relied on.
    Broken(StoreError),
}

impl Disk {
    /// Watches over an open database; what is committed is synced each `every`, and carried over
    /// from the write-ahead log by a thread of its own, so that no sync waits for that. Both end when
    /// the last handle goes.
    pub(super) fn watch(
        database: PathBuf,
        connection: Connection,
        every: Duration,
    ) -> Result<Arc<Self>, OpenFault> {
        let log = wal_of(&database);
        let wal = File::open(&log)?;
        let (dirty, wake) = sync_channel(1);
        let files = [Watched::new(database)?, Watched::new(log)?];
        let condition = Mutex::new(Condition::Well);
        let disk = Arc::new(Self { files, wal, condition, dirty });
        let every = if every.is_zero() { PAUSE_SYNCED } else { every };
        let watched = Arc::downgrade(&disk);
        let (due, round) = sync_channel(1);
        let work = move || keep_synced(&watched, &wake, every, &due);
        thread::Builder::new().name("store-sync".into()).spawn(work)?;
        let watched = Arc::downgrade(&disk);
        let work = move || keep_short(&watched, &connection, &round);
        thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(disk)
    }

    /// Whether writes are well.
    pub(super) fn condition(&self) -> Result<(), StoreError> {
        match &*self.condition.lock() {
            Condition::Well => Ok(()),
            Condition::Failing(error) | Condition::Broken(error) => Err(error.clone()),
        }
    }

    /// Whether it is worth trying to write: not where it would be lost.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        if let Condition::Broken(error) = &*self.condition.lock() {
            return Err(error.clone());
        }
        let [database, wal] = &self.files;
        match (database.harm(), wal.harm()) {
            (None, None) => Ok(()),
            (Some(harm), _) => Err(self.broke(&database.harmed(harm))),
            (None, Some(harm)) => {
                // One that was removed is there for as long as it is open, and can be carried over.
                if harm == Harm::Removed
                    && let Err(error) = run(connection, "FULL")
                {
                    tracing::error!(%error, "the store's write-ahead log could not be saved");
                }
                Err(self.broke(&wal.harmed(harm)))
            }
        }
    }

    pub(super) fn failed(&self, error: &StoreError) {
        let mut condition = self.condition.lock();
        if !matches!(*condition, Condition::Broken(_)) {
            *condition = Condition::Failing(error.clone());
        }
    }

    pub(super) fn succeeded(&self) {
        let mut condition = self.condition.lock();
        if matches!(*condition, Condition::Failing(_)) {
            *condition = Condition::Well;
        }
    }

    /// Forces to the disk what was committed.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        // Once this failed, the kernel may have dropped what was written: trying again would only
        // hide that.
        let synced = self.wal.sync_data();
        synced.map_err(|error| self.broke(&format!("the disk could not be synced: {error}")))
    }

    /// Has what was committed forced to the disk within the interval.
    pub(super) fn sync_soon(&self) {
        // A wake-up that waits already is enough.
        self.dirty.try_send(()).ok();
    }

    fn broke(&self, cause: &str) -> StoreError {
        let error = StoreError::unavailable(&cause);
        *self.condition.lock() = Condition::Broken(error.clone());
        error
    }
}

impl Watched {
    fn new(path: PathBuf) -> io::Result<Self> {
        let found = fs::metadata(&path)?;
        Ok(Self { path, identity: identity(&found), length: found.len().into() })
    }

    /// What was done to it since it was last looked at.
    fn harm(&self) -> Option<Harm> {
        let found = fs::metadata(&self.path);
        let Some(found) = found.ok().filter(|found| identity(found) == self.identity) else {
            return Some(Harm::Removed);
        };
        let before = self.length.fetch_max(found.len(), Relaxed);
        (found.len() < before).then_some(Harm::Truncated)
    }

    fn harmed(&self, harm: Harm) -> String {
        let harm = match harm {
            Harm::Removed => "removed",
            Harm::Truncated => "truncated",
        };
        format!("{} was {harm}: start again", self.path.display())
    }
}

fn keep_synced(disk: &Weak<Disk>, wake: &Receiver<()>, every: Duration, due: &SyncSender<()>) {
    let mut since_checkpoint = Duration::ZERO;
    while wake.recv().is_ok() {
        thread::sleep(every);
        let Some(disk) = disk.upgrade() else { return };
        if let Err(error) = disk.sync() {
            tracing::error!(%error, "the store takes nothing any more: start the hub again");
            return;
        }
        since_checkpoint += every;
        if since_checkpoint >= CHECKPOINT_EVERY {
            since_checkpoint = Duration::ZERO;
            // One that is late already is enough.
            due.try_send(()).ok();
        }
    }
}

/// Keeps the write-ahead log short, for as long as it is whole: half of one that is not would make
/// the database neither old nor new.
fn keep_short(disk: &Weak<Disk>, connection: &Connection, due: &Receiver<()>) {
    while due.recv_timeout(IDLE) != Err(RecvTimeoutError::Disconnected) {
        let Some(disk) = disk.upgrade() else { return };
        if matches!(*disk.condition.lock(), Condition::Broken(_)) {
            return;
        }
        if let Err(error) = checkpoint(connection) {
            tracing::warn!(%error, "the store's write-ahead log waits");
        }
    }
}

/// Carries what is committed over from the write-ahead log, beside the writer; where the log has
/// grown long all the same, the writer waits once, so that it can begin anew.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    if run(connection, "PASSIVE")? > WAL_PAGES_MAX {
        run(connection, "RESTART")?;
    }
    Ok(())
}

/// Runs a checkpoint; returns how many pages the log has.
fn run(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| row.get("log"))
}

/// Where a database's write-ahead log is.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
