//! Connections to the database: one writes, one makes checkpoints, some read.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Result};

use super::error::OpenFault;
use super::schema;

/// How long one connection waits for another, for example for a checkpoint.
const BUSY: Duration = Duration::from_secs(10);
/// How much of the database a connection that reads keeps in memory.
const READER_KIB: i32 = 512;
/// The same for the connection that writes: enough for the pages that busy users share.
const WRITER_KIB: i32 = 4 * 1024;

/// Opens the database for the thread that writes, and makes its tables where there are none. Until
/// [`checkpoint_on_close`] is called, closing it leaves the files as they are.
pub(super) fn to_write(database: &Path) -> Result<Connection, OpenFault> {
    // Presence is private; SQLite gives the files beside it the same mode.
    File::options().create(true).append(true).mode(0o600).open(database)?;
    let mut connection = open(database)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The sync thread syncs the write-ahead log; a checkpoint still syncs it before the database.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -WRITER_KIB)?;
    schema::prepare(&mut connection)?;
    Ok(connection)
}

/// From now on closing the last connection moves everything into the database file.
pub(super) fn checkpoint_on_close(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// Opens the database to read: hot records are in the cache, and the kernel caches the rest.
pub(super) fn to_read(database: &Path) -> Result<Connection> {
    let connection = open(database)?;
    connection.pragma_update(None, "cache_size", -READER_KIB)?;
    Ok(connection)
}

/// Opens the database.
pub(super) fn open(database: &Path) -> Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Where a database's write-ahead log is.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
