use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::journal::JournalFiles;
use super::mark::Marker;
use super::open::OpenFault;
use crate::panics::caught_now;
use crate::store::StoreError;

/// How many pages the write-ahead log may have before writers wait for it to begin anew.
const WAL_PAGES_MAX: i64 = 16 * 1024;
/// How often there is a checkpoint while nothing needs a sync: signs of life are written all the same.
const IDLE: Duration = Duration::from_secs(30);
/// How often is synced where each commit is before it is answered, and little is left to do.
const PAUSE_SYNCED: Duration = Duration::from_millis(50);

/// What is known of the disk below the database, and what forces things to it.
pub(super) struct Disk {
    /// The database and its write-ahead log.
    files: [Watched; 2],
    wal_path: PathBuf,
    /// The write-ahead log, by a handle of our own. It bears no locks, so closing it harms none.
    wal: File,
    journal: Arc<JournalFiles>,
    condition: Mutex<Condition>,
    /// One for soon at most, and one from each caller that waits.
    wishes: Sender<Wish>,
    /// Whether something is to be synced.
    is_dirty: AtomicBool,
    /// Whether the thread that syncs sleeps until it hears of a wish.
    is_asleep: AtomicBool,
    /// Whether the database was written to.
    is_wal_dirty: AtomicBool,
    /// Says how much was committed during this boot of the machine.
    marker: Marker,
    /// The last revision that was committed, the last that the database has, and the last that it
    /// cannot lose.
    committed: AtomicU64,
    /// See `committed`.
    carried: AtomicU64,
    /// See `committed`.
    safe: AtomicU64,
    /// Asks for a checkpoint.
    checkpoint: SyncSender<()>,
}

/// What the thread that syncs is asked for.
enum Wish {
    /// A sync within the interval.
    Soon,
    /// A sync at once, and somebody waits for it.
    Now(oneshot::Sender<Result<(), StoreError>>),
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

/// What may fail apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Commits are written to it.
    Journal,
    /// All else is written to it, and in the end commits too.
    Database,
    /// Records are read from the database.
    Reads,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// What was tried last of each [`Target`] may have failed; the next time it may not. One that
    /// works proves nothing about the others.
    Open([Option<StoreError>; 3]),
    /// Nothing more is committed; what is committed can be carried over.
    Closed(StoreError),
    /// What was written may be lost: nothing that is written from here on could be relied on.
    Broken(StoreError),
}

impl Disk {
    /// Watches over an open database that is at a revision; what is committed is synced each `every`,
    /// and checkpoints are a thread's of their own, so that no sync waits for one. Both threads end
    /// when the last handle goes.
    pub(super) fn watch(
        database: PathBuf,
        connection: Connection,
        journal: Arc<JournalFiles>,
        marker: Marker,
        revision: u64,
        every: Duration,
    ) -> Result<Arc<Self>, OpenFault> {
        let wal_path = wal_of(&database);
        let wal = File::open(&wal_path)?;
        let files = [Watched::new(database)?, Watched::new(wal_path.clone())?];
        let (wishes, asked) = channel();
        let (checkpoint, round) = sync_channel(1);
        let disk = Arc::new(Self {
            files,
            wal_path,
            wal,
            journal,
            condition: Mutex::new(Condition::Open([None, None, None])),
            wishes,
            is_dirty: AtomicBool::new(false),
            is_asleep: AtomicBool::new(true),
            is_wal_dirty: AtomicBool::new(false),
            marker,
            committed: revision.into(),
            carried: revision.into(),
            safe: revision.into(),
            checkpoint,
        });
        disk.marker.write(revision);
        let every = if every.is_zero() { PAUSE_SYNCED } else { every };
        let watched = Arc::downgrade(&disk);
        disk.spawn("store-sync", move || keep_synced(&watched, &asked, every))?;
        let watched = Arc::downgrade(&disk);
        disk.spawn("store-checkpoint", move || keep_short(&watched, &connection, &round))?;
        Ok(disk)
    }

    /// Starts a thread that the store needs. If it panics, nothing more is committed: what is
    /// committed could no longer be relied on.
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
                disk.close(&format!("the thread {name} panicked: {panic}"));
            }
        };
        thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }

    /// Whether reads and writes are well.
    pub(super) fn condition(&self) -> Result<(), StoreError> {
        match &*self.condition.lock() {
            Condition::Open(failing) => {
                failing.iter().flatten().next().cloned().map_or(Ok(()), Err)
            }
            Condition::Closed(error) | Condition::Broken(error) => Err(error.clone()),
        }
    }

    /// Whether anything may be committed at all.
    pub(super) fn takes_commits(&self) -> Result<(), StoreError> {
        match &*self.condition.lock() {
            Condition::Open(_) => Ok(()),
            Condition::Closed(error) | Condition::Broken(error) => Err(error.clone()),
        }
    }

    /// Has nothing committed any more; what is committed is carried over.
    pub(super) fn close(&self, cause: &str) -> StoreError {
        let error = StoreError::unavailable(&cause);
        let mut condition = self.condition.lock();
        if !matches!(*condition, Condition::Broken(_)) {
            *condition = Condition::Closed(error.clone());
            tracing::error!(%error, "the store takes nothing any more: start the hub again");
        }
        error
    }

    /// Whether it is worth trying to write: not where it would be lost.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        if let Condition::Broken(error) = &*self.condition.lock() {
            return Err(error.clone());
        }
        let harmed = self.files.iter().find_map(|file| Some((file, file.harm()?)));
        let Some((file, harm)) = harmed else { return Ok(()) };
        // A write-ahead log that was removed is there for as long as it is open: the database can have
        // what is in it.
        if file.path == self.wal_path
            && harm == Harm::Removed
            && let Err(error) = run(connection, "FULL")
        {
            tracing::error!(%error, "the store's write-ahead log could not be saved");
        }
        Err(self.broke(&file.harmed(harm)))
    }

    pub(super) fn failed(&self, target: Target, error: &StoreError) {
        if let Condition::Open(failing) = &mut *self.condition.lock() {
            failing[target as usize] = Some(error.clone());
        }
    }

    /// Notes that a target worked.
    pub(super) fn succeeded(&self, target: Target) {
        if let Condition::Open(failing) = &mut *self.condition.lock() {
            failing[target as usize] = None;
        }
    }

    /// Whether a target failed the last time.
    pub(super) fn is_failing(&self, target: Target) -> bool {
        matches!(&*self.condition.lock(), Condition::Open(failing) if failing[target as usize].is_some())
    }

    /// Forces to the disk what was written.
    fn sync(&self) -> Result<(), StoreError> {
        self.is_asleep.store(false, SeqCst);
        self.is_dirty.store(false, SeqCst);
        let (committed, carried) = (self.committed.load(Acquire), self.carried.load(Acquire));
        // Once this failed, the kernel may have dropped what was written: trying again would only
        // hide that.
        let is_wal_dirty = self.is_wal_dirty.swap(false, AcqRel);
        // The database first: a commit relies on the signs of life before it.
        let synced = if is_wal_dirty { self.wal.sync_data() } else { Ok(()) };
        let synced = synced.and_then(|()| self.journal.sync());
        synced.map_err(|error| self.broke(&format!("the disk could not be synced: {error}")))?;
        self.safe.store(carried, Release);
        self.marker.write(committed);
        Ok(())
    }

    /// Has what was written forced to the disk within the interval.
    pub(super) fn sync_soon(&self) {
        // While there is something to sync the thread wakes by itself, and looks.
        self.is_dirty.store(true, SeqCst);
        if self.is_asleep.swap(false, SeqCst) {
            self.wishes.send(Wish::Soon).ok();
        }
    }

    /// Whether there is nothing to sync: then the next who wishes for it must say so.
    fn may_sleep(&self) -> bool {
        if self.is_dirty.load(SeqCst) {
            return false;
        }
        self.is_asleep.store(true, SeqCst);
        // Somebody may have written and not said so just before.
        !(self.is_dirty.load(SeqCst) && self.is_asleep.swap(false, SeqCst))
    }

    /// Forces to the disk what was written before this was asked for.
    pub(super) async fn sync_now(&self) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.wishes.send(Wish::Now(done)).ok();
        let stopped = |_| StoreError::unavailable(&"the thread that syncs has stopped");
        answer.await.map_err(stopped)?
    }

    /// Notes the last revision that was committed.
    pub(super) fn committed(&self, revision: u64) {
        self.committed.store(revision, Release);
    }

    /// Notes that the database was written to, and up to which revision it is now.
    pub(super) fn carried(&self, revision: u64) {
        self.is_wal_dirty.store(true, Release);
        self.carried.store(revision, Release);
    }

    /// Up to which revision the database cannot lose anything.
    pub(super) fn safe(&self) -> u64 {
        self.safe.load(Acquire)
    }

    /// Has the database take what is in its write-ahead log, by and by; to be called each second.
    pub(super) fn checkpoint_soon(&self) {
        // One that is late already is enough.
        self.checkpoint.try_send(()).ok();
    }

    pub(super) fn broke(&self, cause: &str) -> StoreError {
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

fn keep_synced(disk: &Weak<Disk>, wishes: &Receiver<Wish>, every: Duration) {
    let mut is_asleep = true;
    loop {
        let wish = if is_asleep {
            wishes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            wishes.recv_timeout(every)
        };
        let was_asleep = std::mem::replace(&mut is_asleep, false);
        let first = match wish {
            // From here on it is the time that wakes.
            Ok(Wish::Soon) if was_asleep => continue,
            Ok(Wish::Now(done)) => Some(done),
            Ok(Wish::Soon) | Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(disk) = disk.upgrade() else { return };
        if first.is_none() && disk.may_sleep() {
            is_asleep = true;
            continue;
        }
        let more = wishes.try_iter().filter_map(|wish| match wish {
            Wish::Soon => None,
            Wish::Now(done) => Some(done),
        });
        let waiting: Vec<_> = first.into_iter().chain(more).collect();
        let synced = disk.sync();
        for done in waiting {
            done.send(synced.clone()).ok();
        }
        if let Err(error) = synced {
            tracing::error!(%error, "the store takes nothing any more: start the hub again");
            return;
        }
    }
}

/// Keeps the write-ahead log short, for as long as it is whole: half of one that is not would make
/// the database neither old nor new.
fn keep_short(disk: &Weak<Disk>, connection: &Connection, due: &Receiver<()>) {
    let mut is_failing = false;
    while due.recv_timeout(IDLE) != Err(RecvTimeoutError::Disconnected) {
        let Some(disk) = disk.upgrade() else { return };
        if matches!(*disk.condition.lock(), Condition::Broken(_)) {
            return;
        }
        let done = checkpoint(connection);
        // Each second would be too often.
        if let Err(error) = &done
            && !is_failing
        {
            tracing::warn!(%error, "checkpoint failed, retrying: the write-ahead log grows");
        }
        is_failing = done.is_err();
    }
}

/// Has the database take what is in its write-ahead log, beside the writer; where the log has grown
/// long all the same, the writer waits once, so that it can begin anew.
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
