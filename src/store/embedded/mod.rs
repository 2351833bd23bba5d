//! A database in a directory of the hub's own: SQLite, with one thread that writes.
//!
//! ```text
//!   commit ─▶ handoff ─▶ writer: one transaction for all that is there ─▶ cache ─▶ head ─▶ answers
//!                                     │                                            (who reads)
//!                                     └─▶ sync thread: fdatasync each `store.sync`
//!                                             └─▶ checkpoint thread: keeps the write-ahead log short
//! ```
//!
//! A commit is handed to the kernel before it is answered, so the death of the process undoes
//! nothing; a power cut undoes at most what is not synced yet, and whole commits from the end. What
//! somebody else takes from the files is noticed: while the hub runs, by their lengths, and at a start,
//! by the mark that says how much was committed.
//!
//! SQLite, because it rolls back on a full disk and goes on, opens within milliseconds after a kill, and
//! is one file that operators can look into. A tree of logs takes more commits in a second, but one
//! transaction for all that is queued takes more than a hub has logins to write.

mod cache;
mod disk;
mod handoff;
mod mark;
mod reader;
mod schema;
mod wal;
mod writer;

use std::fs::{self, File, TryLockError};
use std::future::ready;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use self::cache::Cache;
use self::disk::Disk;
use self::handoff::{Giver, handoff};
use self::mark::{MARK, Mark, Marker};
use self::reader::{ReadFault, Readers};
use self::writer::{Job, MORE_TO_TRIM, RecordWrite, Shown, Tail, Unread, Write, Writer};
use super::log::json;
use super::{
    Among, Backlog, Commit, Cursor, Dead, Listed, LogEntry, Outbox, Part, Progress, Retention,
    Revision, Save, Store, StoreError, Stored, Totals, Which,
};
use crate::presence::{NodeId, Sign, Timestamp, UserId};

/// The database's name in its directory.
const DATABASE: &str = "presence.db";
/// What whoever has the directory open holds a lock on.
const LOCK: &str = "presence.lock";
/// How long one connection waits for another, as for a checkpoint.
const BUSY: Duration = Duration::from_secs(10);
/// How many pieces of the log one call lets go, and how long others have the writer in between.
const TRIMS_MAX: usize = 100;
/// See [`TRIMS_MAX`].
const TRIM_PAUSE: Duration = Duration::from_millis(5);

/// Keeps everything in a database that outlives the process.
pub struct EmbeddedStore {
    jobs: Giver<Job>,
    cache: Arc<Cache>,
    readers: Arc<Readers>,
    head: watch::Receiver<Cursor>,
    shown: Arc<Mutex<Shown>>,
    disk: Arc<Disk>,
    /// The hubs that had signed when it was opened: they are gone.
    lost: Mutex<Vec<(NodeId, Sign)>>,
    /// Held for as long as the database is open.
    _lock: File,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// Another process has it.
    #[error("another hub is running on it")]
    Locked,
    /// It was made by a later version.
    #[error("it was made by a later version of presence-hub (layout {0})")]
    Newer(i32),
    /// It is something else's.
    #[error("{DATABASE} is not a database of presence-hub")]
    Foreign,
    /// It is broken.
    #[error(
        "{DATABASE} is damaged ({0}): bring back a copy of all the presence.* files, or move them away \
         to begin anew"
    )]
    Damaged(String),
    /// The database's own words.
    #[error("{DATABASE}: {0}")]
    Database(rusqlite::Error),
    /// The file system's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for OpenFault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Database(error),
        }
    }
}

impl From<ReadFault> for OpenFault {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Database(error) => error.into(),
            ReadFault::Damaged(_) => Self::Damaged(fault.to_string()),
        }
    }
}

impl EmbeddedStore {
    /// Opens the database in a directory, and makes both where they are not there.
    ///
    /// What is committed is forced to the disk each `sync`, or at once where that is zero; `present`
    /// is when the new run begins.
    ///
    /// # Errors
    ///
    /// Where it cannot be read and written.
    pub fn open(
        directory: &Path,
        retention: Retention,
        sync: Duration,
        present: &Sign,
    ) -> Result<Self, OpenFault> {
        fs::create_dir_all(directory)?;
        let lock = File::options().create(true).append(true).open(directory.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenFault::Locked,
            TryLockError::Error(error) => OpenFault::Io(error),
        })?;
        let database = directory.join(DATABASE);
        let (marker, mark) = Marker::open(directory)?;
        // SQLite takes an empty file for a new database, and removes what is in its log.
        if is_empty(&database)? && (mark.commits > 0 || !is_empty(&disk::wal_of(&database))?) {
            return Err(OpenFault::Damaged("it is gone or empty, and was not".into()));
        }
        // Before it is opened, which may begin the log anew.
        let lost_pages = wal::lost_pages(&disk::wal_of(&database))?;
        // Who was where is nobody else's business; the files beside it are made with the same mode.
        File::options().create(true).append(true).mode(0o600).open(&database)?;
        let mut connection = connect(&database)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Syncs are the sync thread's, unless nobody may be answered before them.
        let synchronous = if sync.is_zero() { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        schema::prepare(&mut connection)?;
        let lost = reader::signs(&connection)?;
        if lost_pages > 0 {
            let is_same_boot = lost.iter().any(|(_, sign)| is_same(&sign.boot, &present.boot));
            let damage = format!("its -wal file has {lost_pages} pages that can no longer be read");
            mourn(damage, is_same_boot)?;
        }
        let missing = mark.commits.saturating_sub(reader::revision(&connection)?);
        if missing > 0 {
            let damage = format!(
                "its last {missing} changes are missing: to go on without them, remove {MARK}"
            );
            mourn(damage, is_same(&mark.boot, &present.boot))?;
        }
        let tail = Tail::begin(&connection, present.wall)?;
        let unread = reader::progress(&connection)?.map(Unread::from).unwrap_or_default();

        marker.write(&Mark { boot: present.boot.clone(), commits: tail.revision });
        let disk = Disk::watch(database.clone(), connect(&database)?, sync)?;
        let cache = Arc::new(Cache::new());
        let (jobs, queue) = handoff();
        let (sender, head) = watch::channel(tail.head);
        let shown = Arc::new(Mutex::new(tail.shown));
        let writer = Writer {
            connection,
            jobs: queue,
            cache: Arc::clone(&cache),
            head: sender,
            shown: Arc::clone(&shown),
            disk: Arc::clone(&disk),
            marker,
            boot: present.boot.clone(),
            retention,
            tail,
            unread,
        };
        thread::Builder::new().name("store-writer".into()).spawn(|| writer.run())?;
        let (readers, lost) = (Readers::new(database)?, Mutex::new(lost));
        Ok(Self { jobs, cache, readers, head, shown, disk, lost, _lock: lock })
    }

    async fn write(&self, write: Write) -> Result<u64, StoreError> {
        let (done, answer) = oneshot::channel();
        self.jobs.give(Job { write, done });
        let stopped = |_| StoreError::unavailable(&"the thread that writes has stopped");
        answer.await.map_err(stopped)?
    }

    async fn load(&self, user: &UserId) -> Result<Stored, StoreError> {
        if let Some(stored) = self.cache.get(user) {
            return Ok(stored);
        }
        let mark = self.cache.mark(user);
        let (stored, bytes) = self.readers.load(user).await?;
        self.cache.fill(user, &stored, bytes, mark);
        Ok(stored)
    }

    async fn swap(
        &self,
        user: &UserId,
        expected: Revision,
        commit: Commit,
    ) -> Result<(), StoreError> {
        let current = self.load(user).await?;
        if current.revision != expected {
            return Err(StoreError::Conflict);
        }
        let Commit { record, due, transitions, sync } = commit;
        let events = transitions.iter().map(|t| (t.at, LogEntry::encode(user, t))).collect();
        let write = RecordWrite {
            user: user.clone(),
            expected,
            before: current.record.census(),
            after: record.census(),
            is_due_anew: due != current.due,
            json: json(&*record),
            stored: Stored { record, due, revision: expected },
            events,
            sync,
        };
        self.write(Write::Record(Box::new(write))).await.map(|_| ())
    }

    async fn read_log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let head = *self.head.borrow();
        let before = self.shown.lock().log_before;
        let after = after.unwrap_or(before);
        if after < before || after > head {
            return Err(StoreError::CursorExpired);
        }
        let read = move |connection: &Connection| reader::log(connection, after, head, limit);
        let entries = self.readers.read(read).await?;
        // Some may have been let go meanwhile.
        if after < self.shown.lock().log_before {
            return Err(StoreError::CursorExpired);
        }
        Ok(entries)
    }

    async fn trim_all(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut lost = 0;
        for _ in 0..TRIMS_MAX {
            let answer = self.write(Write::Trim { now }).await?;
            lost += answer & !MORE_TO_TRIM;
            if answer & MORE_TO_TRIM == 0 {
                break;
            }
            tokio::time::sleep(TRIM_PAUSE).await;
        }
        Ok(lost)
    }
}

/// Says that the last commits cannot be read. After a power cut that is as it must be; while the
/// machine was up somebody else did it, and what they said would be missed by nobody.
fn mourn(damage: String, is_same_boot: bool) -> Result<(), OpenFault> {
    if is_same_boot {
        return Err(OpenFault::Damaged(damage));
    }
    tracing::error!(damage, "what was committed last before the machine stopped is lost");
    Ok(())
}

/// Whether two runs were between the same start and stop of the machine, as far as it says so.
fn is_same(boot: &str, other: &str) -> bool {
    boot == other && !boot.is_empty()
}

/// Whether a file is not there, or is empty for SQLite, to which one byte is nothing.
fn is_empty(file: &Path) -> io::Result<bool> {
    match fs::metadata(file) {
        Ok(found) => Ok(found.len() <= 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::unavailable(&error)
    }
}

impl Store for EmbeddedStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        self.load(user).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        expected: Revision,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.swap(user, expected, commit).boxed()
    }

    fn due(
        &self,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.readers.read(move |connection| reader::due(connection, now, wall, limit)).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let among = among.clone();
        self.readers.read(move |connection| reader::users(connection, &among, limit)).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        ready(Ok(self.shown.lock().totals)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.disk.condition()).boxed()
    }

    fn head(&self) -> watch::Receiver<Cursor> {
        self.head.clone()
    }

    fn log(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.read_log(after, limit).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: Part,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        let user = user.clone();
        self.readers.read(move |connection| reader::history(connection, &user, part, limit)).boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        let Shown { entries, bytes, .. } = *self.shown.lock();
        let totals = (entries, bytes);
        self.readers.read(move |connection| reader::backlog(connection, after, totals)).boxed()
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.trim_all(now).boxed()
    }

    fn sign(&self, node: NodeId, sign: Sign) -> BoxFuture<'_, Result<(), StoreError>> {
        let sign = Write::Sign { node: node.to_string(), sign: json(&sign) };
        self.write(sign).map(done).boxed()
    }

    fn lost(&self) -> BoxFuture<'_, Result<Vec<(NodeId, Sign)>, StoreError>> {
        ready(Ok(self.lost.lock().clone())).boxed()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.write(Write::Retire { node: node.to_string() }).await?;
            self.lost.lock().retain(|(lost, _)| *lost != node);
            Ok(())
        }
        .boxed()
    }
}

impl Outbox for EmbeddedStore {
    fn progress(&self) -> BoxFuture<'_, Result<Option<Progress>, StoreError>> {
        self.readers.read(reader::progress).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::Progress(save)).map(done).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::NoProgress).map(done).boxed()
    }

    fn dead(
        &self,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Dead>, StoreError>> {
        let read = move |connection: &Connection| reader::dead(connection, after, put_back, limit);
        self.readers.read(read).boxed()
    }

    fn put_back(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(Write::PutBack(which)).boxed()
    }

    fn drop_dead(&self, which: Which) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(Write::DropDead(which)).boxed()
    }
}

fn done(written: Result<u64, StoreError>) -> Result<(), StoreError> {
    written.map(|_| ())
}
