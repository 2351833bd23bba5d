//! The tables, and the checks of a database that an earlier run made.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::note;
use super::error::OpenFault;
use crate::store::Totals;

/// Marks a database as one of this program's.
const APPLICATION_ID: i32 = 0x7072_6573;
/// The layout below, which is that of 0.2.0; layouts below this one were never released. A change of it must read this
/// one, too: `tests/data` has a store of each release.
const VERSION: i32 = 5;
/// The first looks for damage of the structure, the second for users who are not where the indexes say: such a
/// user would pass for one who is unknown.
const CHECKS: [&str; 2] = ["PRAGMA quick_check(1)", "PRAGMA integrity_check(users)"];
/// How many steps of SQLite's virtual machine each check may take at a start, about a second; damage that is not
/// found then shows when it is read.
const CHECK_STEPS_MAX: i32 = 100_000_000;

/// Records, events and notes are JSON, each with its CRC-32, so that damage is never read as a state.
///
/// `state.revision` counts commits and transactions: a transaction without a commit counts as one, so
/// that each has its own number. `log.entries` and `log.bytes` count from the first entry ever, so that
/// what lies between two entries is a difference. `state.position` is that of the webhook without a name, and `hooks`
/// has those of the others; in `held` and `dead` its name is empty. `runs` has the first and the last cursor of each run,
/// `damaged` what was set aside, `proof` what was written
/// to prove that the disk takes a commit.
const TABLES: &str = "
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        head INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        log_before INTEGER NOT NULL,
        totals TEXT NOT NULL,
        crc INTEGER NOT NULL,
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
    CREATE TABLE watch_lists (
        user TEXT PRIMARY KEY, list TEXT NOT NULL, crc INTEGER NOT NULL
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
    CREATE TABLE runs (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE nodes (
        node TEXT PRIMARY KEY, sign TEXT NOT NULL, crc INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE hooks (
        webhook TEXT PRIMARY KEY, position TEXT NOT NULL, crc INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE held (
        webhook TEXT NOT NULL,
        user TEXT NOT NULL,
        held TEXT NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (webhook, user)
    ) WITHOUT ROWID;
    CREATE TABLE dead (
        webhook TEXT NOT NULL,
        cursor INTEGER NOT NULL,
        user TEXT NOT NULL,
        event TEXT NOT NULL,
        at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        put_back INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (webhook, cursor)
    ) WITHOUT ROWID;
    CREATE TABLE days (
        day INTEGER PRIMARY KEY, figures TEXT NOT NULL, crc INTEGER NOT NULL
    );
    CREATE TABLE proof (bytes BLOB);
    CREATE TABLE damaged (user TEXT, revision INTEGER, record BLOB, crc INTEGER);
";

/// The indexes, which a start makes again where they are missing: `users_by_state` is for lists,
/// `dead_waiting` counts.
const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS users_due_running ON users (due_running)
        WHERE due_running IS NOT NULL;
    CREATE INDEX IF NOT EXISTS users_due_wall ON users (due_wall) WHERE due_wall IS NOT NULL;
    CREATE INDEX IF NOT EXISTS users_by_state ON users (state, user) WHERE state IS NOT NULL;
    CREATE INDEX IF NOT EXISTS log_by_user ON log (user);
    CREATE INDEX IF NOT EXISTS dead_waiting ON dead (webhook) WHERE put_back = 0;
";

/// Makes a new database's tables, or checks those of an old one.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), OpenFault> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, version, tables) {
        (0, 0, 0) => Ok(create(connection)?),
        (APPLICATION_ID, VERSION, _) => {
            CHECKS.into_iter().try_for_each(|sql| check(connection, sql))?;
            connection.execute_batch(INDEXES)?;
            compare(connection)
        }
        (APPLICATION_ID, ..VERSION, _) => Err(OpenFault::Older(version)),
        (APPLICATION_ID, newer, _) => Err(OpenFault::Newer(newer)),
        _ => Err(OpenFault::Foreign),
    }
}

fn create(connection: &Connection) -> Result<()> {
    let begin = connection.unchecked_transaction()?;
    begin.execute_batch(TABLES)?;
    begin.execute_batch(INDEXES)?;
    let (totals, crc) = note(&Totals::default());
    begin.execute("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, ?1, ?2, NULL)", (totals, crc))?;
    begin.execute("INSERT INTO proof VALUES (x'')", ())?;
    begin.pragma_update(None, "application_id", APPLICATION_ID)?;
    begin.pragma_update(None, "user_version", VERSION)?;
    begin.commit()
}

/// Compares tables and indexes with those of a new database: SQLite believes whatever its own table
/// of them says, be it damaged.
fn compare(connection: &Connection) -> Result<(), OpenFault> {
    let new = Connection::open_in_memory()?;
    create(&new)?;
    let found = layout(connection)?;
    for (name, sql) in layout(&new)? {
        if found.get(&name) != Some(&sql) {
            let damage = format!("its layout of {name} is not the one expected");
            return Err(OpenFault::Damaged(damage));
        }
    }
    Ok(())
}

/// What each table and index was made with, but for its spaces.
fn layout(connection: &Connection) -> Result<BTreeMap<String, String>> {
    let mut made = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql <> ''")?;
    let made = made.query_map((), |row| {
        let sql: String = row.get(1)?;
        Ok((row.get(0)?, sql.split_whitespace().collect()))
    })?;
    made.collect()
}

/// Looks for damage, for as long as a start may wait.
fn check(connection: &mut Connection, sql: &str) -> Result<(), OpenFault> {
    let found = for_a_while(connection, |connection| {
        connection.query_row(sql, [], |row| row.get::<_, String>(0)).optional()
    })?;
    match found.flatten() {
        Some(found) if found != "ok" => Err(OpenFault::Damaged(found)),
        Some(_) | None => Ok(()),
    }
}

/// Reads for no longer than a start may wait; `None` if it took longer.
pub(super) fn for_a_while<T>(
    connection: &mut Connection,
    read: impl FnOnce(&Connection) -> Result<T>,
) -> Result<Option<T>> {
    connection.progress_handler(CHECK_STEPS_MAX, Some(|| true))?;
    let found = read(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
        {
            Ok(None)
        }
        found => found.map(Some),
    }
}
