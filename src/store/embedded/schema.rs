use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::checked::note;
use super::open::OpenFault;
use super::reader::ReadFault;

/// Marks a database as one of this program's.
const APPLICATION_ID: i32 = 0x7072_6573;
/// The layout below.
const VERSION: i32 = 1;
/// What looks for damage: everywhere in the structure, and whether each user is found where the
/// indexes say, for one who is not would pass for one who is unknown.
const CHECKS: [&str; 2] = ["PRAGMA quick_check(1)", "PRAGMA integrity_check(users)"];
/// How many steps of the database's a start may spend on each of them, which is a second or two; what
/// is not seen then shows when it is read.
const CHECK_STEPS_MAX: i32 = 100_000_000;

/// Records and events are JSON, each with its CRC-32, so that damage is never read as a state; what
/// nodes and the webhook note has its own inside.
///
/// `log.entries` and `log.bytes` count from the first entry ever, so that what lies between two
/// places is a difference.
const TABLES: &str = "
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        head INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        log_before INTEGER NOT NULL,
        totals TEXT NOT NULL,
        position INTEGER
    );
    CREATE TABLE users (
        user TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        state INTEGER,
        due_running INTEGER,
        due_wall INTEGER,
        record TEXT NOT NULL,
        crc INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE log (
        cursor INTEGER PRIMARY KEY,
        user TEXT NOT NULL,
        at INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        event TEXT NOT NULL,
        crc INTEGER NOT NULL
    );
    CREATE TABLE nodes (node TEXT PRIMARY KEY, sign TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE held (user TEXT PRIMARY KEY, held TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE dead (
        cursor INTEGER PRIMARY KEY,
        user TEXT NOT NULL,
        event TEXT NOT NULL,
        at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        put_back INTEGER NOT NULL
    );
";

/// The indexes, and what a database of an earlier version lacks: the cursors that each run gave out,
/// from its first to its last, and damaged records whose users began anew, so that operators can look
/// into them. `users_by_state` is for lists, `dead_waiting` counts.
const INDEXES: &str = "
    DROP INDEX IF EXISTS users_present;
    CREATE INDEX IF NOT EXISTS users_due_running ON users (due_running)
        WHERE due_running IS NOT NULL;
    CREATE INDEX IF NOT EXISTS users_due_wall ON users (due_wall) WHERE due_wall IS NOT NULL;
    CREATE INDEX IF NOT EXISTS log_by_user ON log (user);
    CREATE INDEX IF NOT EXISTS users_by_state ON users (state, user) WHERE state IS NOT NULL;
    CREATE INDEX IF NOT EXISTS dead_waiting ON dead (put_back) WHERE put_back = 0;
    CREATE TABLE IF NOT EXISTS runs (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS damaged (user TEXT, revision INTEGER, record BLOB, crc INTEGER);
";

/// Makes a new database's tables, or checks those of an old one.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), OpenFault> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, version, tables) {
        (0, 0, 0) => create(connection),
        (APPLICATION_ID, VERSION, _) => {
            check(connection)?;
            complete(connection)?;
            compare(connection)
        }
        (APPLICATION_ID, newer, _) => Err(OpenFault::Newer(newer)),
        _ => Err(OpenFault::Foreign),
    }
}

fn create(connection: &Connection) -> Result<(), OpenFault> {
    let begin = connection.unchecked_transaction()?;
    begin.execute_batch(TABLES)?;
    complete(&begin)?;
    begin.execute(
        "INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, ?1, NULL)",
        params![note(&crate::store::Totals::default())],
    )?;
    begin.pragma_update(None, "application_id", APPLICATION_ID)?;
    begin.pragma_update(None, "user_version", VERSION)?;
    Ok(begin.commit()?)
}

/// Adds what a database does not have yet.
fn complete(connection: &Connection) -> Result<(), OpenFault> {
    connection.execute_batch(INDEXES)?;
    let has_crc = "SELECT 1 FROM pragma_table_info('dead') WHERE name = 'crc'";
    if !connection.prepare(has_crc)?.exists(())? {
        connection.execute_batch("ALTER TABLE dead ADD COLUMN crc INTEGER")?;
    }
    Ok(())
}

/// Compares tables and indexes with those of a new database: SQLite believes whatever its own table
/// of them says, be it damaged.
fn compare(connection: &Connection) -> Result<(), OpenFault> {
    let new = Connection::open_in_memory()?;
    create(&new)?;
    let found = layout(connection)?;
    for (name, sql) in layout(&new)? {
        if found.get(&name) != Some(&sql) {
            return Err(OpenFault::Damaged(format!(
                "its layout of {name} is not the one expected"
            )));
        }
    }
    Ok(())
}

/// What each table and index was made with, but for its spaces.
fn layout(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut made = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql <> ''")?;
    let made = made.query_map((), |row| {
        let sql: String = row.get(1)?;
        Ok((row.get(0)?, sql.split_whitespace().collect()))
    })?;
    made.collect()
}

/// Looks for damage, for as long as a start may wait.
fn check(connection: &mut Connection) -> Result<(), OpenFault> {
    CHECKS.into_iter().try_for_each(|check| run(connection, check))
}

fn run(connection: &mut Connection, check: &str) -> Result<(), OpenFault> {
    let found = for_a_while(connection, |connection| {
        Ok(connection.query_row(check, [], |row| row.get::<_, String>(0)).optional()?)
    })?;
    match found.flatten() {
        Some(found) if found != "ok" => Err(OpenFault::Damaged(found)),
        Some(_) | None => Ok(()),
    }
}

/// Reads for no longer than a start may wait; `None` if it took longer.
pub(super) fn for_a_while<T>(
    connection: &mut Connection,
    read: impl FnOnce(&Connection) -> Result<T, ReadFault>,
) -> Result<Option<T>, OpenFault> {
    connection.progress_handler(CHECK_STEPS_MAX, Some(|| true))?;
    let found = read(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Err(ReadFault::Database(error))
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
        {
            Ok(None)
        }
        found => Ok(Some(found?)),
    }
}

/// A number as the database has it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of the database's, which are never negative.
pub(super) fn number(int: i64) -> u64 {
    u64::try_from(int).unwrap_or_default()
}
