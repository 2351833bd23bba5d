use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;

use super::EmbeddedStore;
use super::cache::Cache;
use super::damage::Damage;
use super::disk::{self, Disk};
use super::handoff::handoff;
use super::journal::Journal;
use super::ledger::{Ledger, Tail};
use super::mark::{MARK, Marker};
use super::reader::{self, ReadFault, Readers};
use super::runs::Runs;
use super::writer::{self, Unread, Writer};
use super::{mend, notes, schema, wal};
use crate::presence::{NodeId, Sign, Timestamp};
use crate::store::Retention;

/// The database's name in its directory.
const DATABASE: &str = "presence.db";
/// What whoever has the directory open holds a lock on.
const LOCK: &str = "presence.lock";
/// How long one connection waits for another, as for a checkpoint.
const BUSY: Duration = Duration::from_secs(10);

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
        use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType};
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let is_corrupt = matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase));
        let is_mistyped = matches!(error, InvalidColumnType(..) | FromSqlConversionFailure(..));
        if is_corrupt || is_mistyped {
            return Self::Damaged(error.to_string());
        }
        Self::Database(error)
    }
}

impl From<ReadFault> for OpenFault {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Database(error) => error.into(),
            ReadFault::Damaged(_) => Self::Damaged("a user's record".into()),
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
        let lock = Arc::new(lock(directory)?);
        let database = directory.join(DATABASE);
        let (marker, mark) = Marker::open(directory, &present.boot)?;
        let (journal, lines) = Journal::open(directory)?;
        // SQLite takes an empty file for a new database, and removes what is in its log.
        let was_there = mark.commits > 0 || !lines.is_empty();
        if is_empty(&database)? && (was_there || !is_empty(&disk::wal_of(&database))?) {
            return Err(OpenFault::Damaged("it is gone or empty, and was not".into()));
        }
        // Before it is opened, which may begin the log anew.
        let lost_pages = wal::lost_pages(&disk::wal_of(&database))?;
        let mut connection = connect_to_write(&database, sync)?;
        let damage = Arc::new(Damage::default());
        let lost = notes::signs(&connection, present, &damage)?;
        if lost_pages > 0 {
            let is_same_boot = lost.iter().any(|(_, sign)| is_same(&sign.boot, &present.boot));
            let damage = format!("its -wal file has {lost_pages} pages that can no longer be read");
            mourn(damage, is_same_boot)?;
        }
        let mut tail = Tail::read(&connection)?;
        writer::replay(&mut connection, &mut tail, &retention, lines)?;
        let missing = mark.commits.saturating_sub(tail.revision);
        if missing > 0 {
            let damage = format!(
                "its last {missing} changes are missing: to go on without them, remove {MARK}"
            );
            mourn(damage, is_same(&mark.boot, &present.boot))?;
        }
        tail.totals = mend::mend(&mut connection, &damage)?.unwrap_or(tail.totals);
        let latest = latest(&connection, &lost)?;
        let runs = Runs::begin(&connection, &mut tail, present.wall.max(latest))?;
        let progress = notes::progress(&connection, latest, &damage)?;
        let unread = progress.map(Unread::from).unwrap_or_default();

        File::open(disk::wal_of(&database))?.sync_data()?;
        journal.begin()?;
        let (files, revision) = (Arc::clone(journal.files()), tail.revision);
        let checkpoints = connect(&database)?;
        let disk = Disk::watch(database.clone(), checkpoints, files, marker, revision, sync)?;
        let due = reader::first_due(&connection)?;
        let ledger = Arc::new(Mutex::new(Ledger::new(journal, tail, due)));
        let cache = Arc::new(Cache::new());
        let (jobs, queue) = handoff();
        let writer = Writer {
            connection,
            jobs: queue,
            ledger: Arc::clone(&ledger),
            cache: Arc::clone(&cache),
            disk: Arc::clone(&disk),
            retention,
            saved: (tail, unread.position),
            tail,
            unread,
            signs: 0,
            is_wal_used: true,
            _lock: Arc::clone(&lock),
        };
        disk.spawn("store-writer", || writer.run())?;
        Ok(Self {
            ledger,
            cache,
            head: watch::Sender::new(tail.head),
            disk,
            syncs_each: sync.is_zero(),
            jobs,
            readers: Readers::new(database, Arc::clone(&damage))?,
            lost: Mutex::new(lost),
            latest,
            runs,
            damage,
            _lock: lock,
        })
    }
}

/// Takes the directory's lock, which is held for as long as the file is open.
fn lock(directory: &Path) -> Result<File, OpenFault> {
    let lock = File::options().create(true).append(true).open(directory.join(LOCK))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenFault::Locked,
        TryLockError::Error(error) => OpenFault::Io(error),
    })?;
    Ok(lock)
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

/// Opens the database for the one who writes, and makes its tables where there are none.
fn connect_to_write(database: &Path, sync: Duration) -> Result<Connection, OpenFault> {
    // Who was where is nobody else's business; the files beside it are made with the same mode.
    File::options().create(true).append(true).mode(0o600).open(database)?;
    let mut connection = connect(database)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Syncs are the sync thread's, unless nobody may be answered before them.
    let synchronous = if sync.is_zero() { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    schema::prepare(&mut connection)?;
    Ok(connection)
}

/// The latest time that earlier runs left.
fn latest(connection: &Connection, lost: &[(NodeId, Sign)]) -> Result<Timestamp, ReadFault> {
    let signed = lost.iter().map(|(_, sign)| sign.now).max().unwrap_or_default();
    Ok(signed.max(reader::last_entry(connection)?))
}

pub(super) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}
