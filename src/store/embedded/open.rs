//! Opening: what is damaged or missing is refused, what an earlier run left is taken over.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Result;

use super::connection::{self, wal_of};
use super::damage::Damage;
use super::disk::StoreDisk;
use super::error::{DATABASE, OpenFault};
use super::job::Queued;
use super::mark::{MARK, Marker};
use super::mend::mend;
use super::queue::{Giver, queue};
use super::reader::Readers;
use super::runs::Runs;
use super::tail::Tail;
use super::view::View;
use super::writer::Writer;
use super::{notes, queries};
use crate::presence::{NodeId, SignOfLife, Timestamp};
use crate::store::Retention;

/// The file that the process which has the directory open holds a lock on.
const LOCK: &str = "presence.lock";

/// An open store's parts.
pub(super) struct Opened {
    pub(super) view: Arc<View>,
    pub(super) disk: Arc<StoreDisk>,
    pub(super) jobs: Giver<Box<dyn Queued>>,
    pub(super) readers: Arc<Readers>,
    /// The nodes before this one, with their last signs of life.
    pub(super) lost: Vec<(NodeId, SignOfLife)>,
    /// The latest time that an earlier run left.
    pub(super) latest: Timestamp,
    pub(super) runs: Runs,
    /// Held for as long as the database is open.
    pub(super) _lock: Arc<File>,
}

/// Opens the database in a directory, and makes both where they are not there.
pub(super) fn open(
    directory: &Path,
    retention: Retention,
    sync: Duration,
    present: &SignOfLife,
) -> Result<Opened, OpenFault> {
    fs::create_dir_all(directory)?;
    let lock = Arc::new(lock(directory)?);
    let database = directory.join(DATABASE);
    let (marker, mark) = Marker::open(directory, &present.boot)?;
    // SQLite takes an empty file for a new database, and removes what is in its log.
    if is_empty(&database)? && (mark.commits > 0 || !is_empty(&wal_of(&database))?) {
        return Err(OpenFault::Damaged("it is gone or empty, and was not".into()));
    }
    let mut connection = connection::to_write(&database)?;
    let mut tail = Tail::read(&connection)?;
    let missing = mark.commits.saturating_sub(tail.revision);
    if missing > 0 {
        let damage =
            format!("its last {missing} changes are missing: to go on without them, remove {MARK}");
        // After a power cut that is to be expected. While the machine was up another program did it.
        if mark.boot == present.boot && !present.boot.is_empty() {
            return Err(OpenFault::Damaged(damage));
        }
        tracing::error!(damage, "what was committed last before the machine stopped is lost");
    }
    connection::checkpoint_on_close(&connection)?;

    let damage = Damage::default();
    mend(&mut connection, &mut tail, &damage)?;
    let lost = notes::signs(&connection, present, &damage)?;
    let signed = lost.iter().map(|(_, sign)| sign.now).max().unwrap_or_default();
    let latest = signed.max(queries::last_entry(&connection)?);
    let runs = Runs::begin(&mut connection, &mut tail, present.wall.max(latest))?;
    let positions = Arc::new(notes::positions(&connection)?);
    let held = Arc::new(notes::all_held(&connection, latest, &damage)?);
    let due = queries::first_due(&connection)?;

    let disk = StoreDisk::watch(&database, marker, tail.revision, sync)?;
    let view = Arc::new(View::new(damage, tail, due));
    let (jobs, queue) = queue();
    let writer = Writer {
        connection,
        jobs: queue,
        view: Arc::clone(&view),
        disk: Arc::clone(&disk),
        retention,
        tail,
        positions,
        held,
        due,
        _lock: Arc::clone(&lock),
    };
    disk.spawn("store-writer", || writer.run())?;
    let readers = Readers::new(database, Arc::clone(&view))?;
    Ok(Opened { view, disk, jobs, readers, lost, latest, runs, _lock: lock })
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

/// Whether a file is not there, or is empty for SQLite, which ignores a single byte.
fn is_empty(file: &Path) -> io::Result<bool> {
    match fs::metadata(file) {
        Ok(found) => Ok(found.len() <= 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
