//! The disk below the database: whether it can be written and read, and what forces writes to it.

use std::fmt::Display;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::connection::{self, wal_of};
use super::error::{OpenFault, is_failed_sync};
use super::mark::Marker;
use crate::panics::caught_now;
use crate::store::StoreError;

/// How many pages the write-ahead log may have before the writer waits for it to begin anew.
const WAL_PAGES_MAX: i64 = 16 * 1024;
/// How many signs of life there may be between two checkpoints while there are no commits.
const IDLE_SIGNS: u32 = 30;
/// The sync interval if each commit is synced before its answer: for what the webhook saves, and for nodes
/// that are removed.
const PAUSE_SYNCED: Duration = Duration::from_millis(50);
/// How much room is kept for the next commits, so that a full disk shows before one of them fails.
const ROOM_BYTES: u64 = 128 * 1024;

/// The disk below the database.
pub(super) struct StoreDisk {
    /// The database and its write-ahead log.
    files: [Watched; 2],
    wal_path: PathBuf,
    /// Our own handle of the write-ahead log. SQLite keeps no locks on that file, so closing it drops none.
    wal: File,
    condition: Mutex<DiskCondition>,
    /// Says how much was written during this boot of the machine.
    marker: Marker,
    syncs: Arc<Syncs>,
    checkpoints: Mutex<Connection>,
    /// Whether there were commits since the last checkpoint, and how many signs of life.
    has_commits: AtomicBool,
    signs: AtomicU32,
}

/// Reads and writes fail independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Writes,
    Reads,
}

/// Whether the disk can be written and read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DiskCondition {
    /// What failed the last time; the next time it may not. One that works proves nothing about the other.
    Open { failing: [Option<StoreError>; 2] },
    /// Nothing more is written, for it could not be relied on.
    Stopped(StoreError),
}

/// What the sync thread is asked for.
struct Syncs {
    wanted: Mutex<SyncRequests>,
    asked: Condvar,
}

#[derive(Default)]
struct SyncRequests {
    /// Whether something was written since the last sync.
    is_dirty: bool,
    /// Who waits for a sync at once.
    now: Vec<oneshot::Sender<Result<(), StoreError>>>,
    is_over: bool,
}

/// A file of ours: another program may not remove, replace or truncate it.
struct Watched {
    path: PathBuf,
    identity: (u64, u64),
    length: AtomicU64,
}

/// What another program did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Removed,
    Truncated,
}

impl StoreDisk {
    /// Watches an open database that is at a revision; what is written is synced within `every`.
    pub(super) fn watch(
        database: &Path,
        marker: Marker,
        revision: u64,
        every: Duration,
    ) -> Result<Arc<Self>, OpenFault> {
        let wal_path = wal_of(database);
        let wal = File::options().write(true).open(&wal_path)?;
        wal.sync_data()?;
        marker.write(revision);
        let disk = Arc::new(Self {
            files: [Watched::new(database.to_owned())?, Watched::new(wal_path.clone())?],
            wal_path,
            wal,
            condition: Mutex::new(DiskCondition::Open { failing: [None, None] }),
            marker,
            syncs: Arc::new(Syncs { wanted: Mutex::default(), asked: Condvar::new() }),
            checkpoints: Mutex::new(connection::open(database)?),
            has_commits: AtomicBool::new(true),
            signs: AtomicU32::new(0),
        });
        let every = if every.is_zero() { PAUSE_SYNCED } else { every };
        let (watched, syncs) = (Arc::downgrade(&disk), Arc::clone(&disk.syncs));
        disk.spawn("store-sync", move || keep_synced(&watched, &syncs, every))?;
        Ok(disk)
    }

    /// Starts a thread that the store needs: if it panics, nothing more is written.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let disk = Arc::downgrade(self);
        let work = move || {
            if let Err(panic) = caught_now(work)
                && let Some(disk) = disk.upgrade()
            {
                disk.stop(&format!("the thread {name} panicked: {panic}"));
            }
        };
        thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }

    // Whether it can be written and read.

    /// Whether both reads and writes are well.
    pub(super) fn condition(&self) -> Result<(), StoreError> {
        match &*self.condition.lock() {
            DiskCondition::Open { failing } => {
                failing.iter().flatten().next().cloned().map_or(Ok(()), Err)
            }
            DiskCondition::Stopped(error) => Err(error.clone()),
        }
    }

    /// Whether commits may be tried: after a failed write, not before a sign of life proved that they work.
    pub(super) fn takes_commits(&self) -> Result<(), StoreError> {
        match &*self.condition.lock() {
            DiskCondition::Open { failing } => {
                failing[Access::Writes as usize].clone().map_or(Ok(()), Err)
            }
            DiskCondition::Stopped(error) => Err(error.clone()),
        }
    }

    fn stopped(&self) -> Option<StoreError> {
        match &*self.condition.lock() {
            DiskCondition::Stopped(error) => Some(error.clone()),
            DiskCondition::Open { .. } => None,
        }
    }

    pub(super) fn failed(&self, access: Access, error: &StoreError) {
        self.note(access, Some(error.clone()));
    }

    /// Notes that reads or writes were proved to work.
    pub(super) fn recovered(&self, access: Access) {
        self.note(access, None);
    }

    fn note(&self, access: Access, error: Option<StoreError>) {
        if let DiskCondition::Open { failing } = &mut *self.condition.lock() {
            failing[access as usize] = error;
        }
    }

    fn stop(&self, cause: &str) -> StoreError {
        let error = StoreError::unavailable(&cause);
        let mut condition = self.condition.lock();
        if !matches!(*condition, DiskCondition::Stopped(_)) {
            tracing::error!(%error, "the store has stopped until the hub is restarted");
            *condition = DiskCondition::Stopped(error.clone());
        }
        error
    }

    /// Refuses a write that would be lost; to be called before each transaction.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        if let Some(error) = self.stopped() {
            return Err(error);
        }
        let harmed = self.files.iter().find_map(|file| Some((file, file.harm()?)));
        let Some((file, harm)) = harmed else { return Ok(()) };
        // A write-ahead log that was removed exists for as long as it is open: a checkpoint saves it.
        if file.path == self.wal_path
            && harm == Harm::Removed
            && let Err(error) = checkpoint(connection, "FULL")
        {
            tracing::error!(%error, "the store's write-ahead log could not be saved");
        }
        Err(self.stop(&file.harmed(harm)))
    }

    /// Takes the room for the next commits, which proves that the disk has it.
    pub(super) fn keep_room(&self) -> Result<(), StoreError> {
        let room = fs::metadata(&self.wal_path).and_then(|found| {
            match fallocate(&self.wal, FallocateFlags::KEEP_SIZE, found.len(), ROOM_BYTES) {
                // A file system that cannot reserve space shows only in a write that the disk is full.
                Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        let room = room.map_err(|error| StoreError::unavailable(&error));
        room.inspect_err(|error| self.failed(Access::Writes, error))
    }

    // What forces writes to it.

    /// Notes what a transaction wrote.
    pub(super) fn written(&self, revision: u64, needs_sync: bool) {
        self.marker.write(revision);
        if !needs_sync {
            return;
        }
        self.has_commits.store(true, Release);
        let mut wanted = self.syncs.wanted.lock();
        if !wanted.is_dirty {
            wanted.is_dirty = true;
            self.syncs.asked.notify_one();
        }
    }

    /// Syncs what was written before this call.
    pub(super) async fn sync_now(&self) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.syncs.wanted.lock().now.push(done);
        self.syncs.asked.notify_one();
        let stopped = |_| StoreError::unavailable(&"the thread that syncs has stopped");
        answer.await.map_err(stopped)?
    }

    fn sync(&self) -> Result<(), StoreError> {
        if let Some(error) = self.stopped() {
            return Err(error);
        }
        self.wal.sync_data().map_err(|error| self.failed_sync(&error))
    }

    /// The kernel may have dropped what was written: another try would only hide that.
    pub(super) fn failed_sync(&self, error: &impl Display) -> StoreError {
        self.stop(&format!("the disk could not be synced: {error}"))
    }

    /// Moves the write-ahead log into the database, beside the writer; to be called each second. Where the
    /// log has grown long all the same, the writer waits once, so that it can begin anew.
    pub(super) fn checkpoint(&self) {
        let is_due =
            self.has_commits.swap(false, AcqRel) || self.signs.fetch_add(1, Relaxed) >= IDLE_SIGNS;
        // Once the store has stopped, the end of the write-ahead log may be missing: a checkpoint would copy
        // a part of a transaction into the database.
        if !is_due || self.stopped().is_some() {
            return;
        }
        let Some(connection) = self.checkpoints.try_lock() else { return };
        self.signs.store(0, Relaxed);
        let pages = checkpoint(&connection, "PASSIVE");
        let done = pages.and_then(|pages| {
            if pages > WAL_PAGES_MAX { checkpoint(&connection, "RESTART") } else { Ok(pages) }
        });
        match done {
            Ok(_) => (),
            Err(error) if is_failed_sync(&error) => drop(self.failed_sync(&error)),
            Err(error) => {
                tracing::warn!(%error, "checkpoint failed, retrying: the write-ahead log grows");
            }
        }
    }
}

impl Drop for StoreDisk {
    fn drop(&mut self) {
        self.syncs.wanted.lock().is_over = true;
        self.syncs.asked.notify_one();
    }
}

/// Syncs what was written within `every`, and at once if a caller waits for the sync.
fn keep_synced(disk: &Weak<StoreDisk>, syncs: &Syncs, every: Duration) {
    let mut wanted = syncs.wanted.lock();
    loop {
        while !wanted.is_dirty && wanted.now.is_empty() && !wanted.is_over {
            syncs.asked.wait(&mut wanted);
        }
        if wanted.now.is_empty() && !wanted.is_over {
            syncs.asked.wait_for(&mut wanted, every);
        }
        let waiting = std::mem::take(&mut wanted.now);
        wanted.is_dirty = false;
        drop(wanted);
        let Some(disk) = disk.upgrade() else { return };
        let synced = disk.sync();
        for done in waiting {
            done.send(synced.clone()).ok();
        }
        drop(disk);
        wanted = syncs.wanted.lock();
    }
}

impl Watched {
    fn new(path: PathBuf) -> io::Result<Self> {
        let found = fs::metadata(&path)?;
        Ok(Self { path, identity: identity(&found), length: found.len().into() })
    }

    /// What was done to it since the last look.
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

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Runs a checkpoint; returns how many pages the log has.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| row.get("log"))
}
