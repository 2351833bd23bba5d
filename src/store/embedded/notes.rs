//! What nodes and the webhook left for the next run.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, Result, Row};
use serde_json::value::RawValue;

use super::columns::{bytes, int, note_at, number, number_at, text_of_user, user_at};
use super::damage::Damage;
use super::queries::{UserRow, each_record, log_before};
use crate::presence::{NodeId, SignOfLife, Timestamp};
use crate::store::{Cursor, Damaged, Dead, HeldUser, LogEntry, Progress};

/// The columns that [`dead_at`] reads.
pub(super) const DEAD: &str = "cursor, user, crc, event, at, attempts, last_error";

/// Every node's last sign of life. A damaged sign counts as one of now, so that no session ends early.
pub(super) fn signs(
    connection: &Connection,
    present: &SignOfLife,
    damage: &Damage,
) -> Result<Vec<(NodeId, SignOfLife)>> {
    let unknown = || SignOfLife { boot: Box::default(), ..present.clone() };
    let mut found = connection.prepare_cached("SELECT node, sign, crc FROM nodes")?;
    let mut rows = found.query(())?;
    let (mut signs, mut may_lack_a_node) = (Vec::new(), false);
    while let Some(row) = rows.next()? {
        let name = String::from_utf8_lossy(bytes(row, 0)?).into_owned();
        let noted: Option<(String, SignOfLife)> = note_at(row, 1)?;
        let sign = noted.filter(|(of, _)| *of == name).map(|(_, sign)| sign);
        if sign.is_none() {
            damage.found("nodes", &name);
            may_lack_a_node = true;
        }
        if let Ok(node) = u64::from_str_radix(&name, 16) {
            signs.push((NodeId(node), sign.unwrap_or_else(unknown)));
        }
    }
    if may_lack_a_node {
        let known: HashSet<_> = signs.iter().map(|(node, _)| *node).collect();
        let others = nodes_in_records(connection)?.into_iter().filter(|n| !known.contains(n));
        signs.extend(others.map(|node| (node, unknown())));
    }
    Ok(signs)
}

/// The nodes that records name.
fn nodes_in_records(connection: &Connection) -> Result<HashSet<NodeId>> {
    let mut nodes = HashSet::new();
    each_record(connection, |found| {
        if let UserRow::Whole(stored, _) = found {
            let terminals = &stored.record.terminals;
            nodes.extend(terminals.iter().map(|terminal| terminal.connection.node));
        }
    })?;
    Ok(nodes)
}

/// The webhook's progress. A held user whose row is damaged is held from the oldest entry on: posting
/// twice is better than never.
pub(super) fn progress(
    connection: &Connection,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>> {
    let position: Option<i64> =
        connection.query_row("SELECT position FROM state", (), |row| row.get(0))?;
    let Some(position) = position else { return Ok(None) };
    let mut found = connection.prepare_cached("SELECT user, held, crc FROM held ORDER BY user")?;
    let mut rows = found.query(())?;
    let mut held = Vec::new();
    while let Some(row) = rows.next()? {
        let (user, is_whole) = user_at(row, 0)?;
        let noted: Option<HeldUser> = note_at(row, 1)?;
        if let Some(one) = noted.filter(|one| is_whole && one.user == user) {
            held.push(one);
            continue;
        }
        damage.found("held", user.as_str());
        if is_whole {
            let from = Cursor(log_before(connection)?.0 + 1);
            let last_error = "what was noted of it is damaged".into();
            held.push(HeldUser {
                user,
                from,
                refused: latest,
                worked_ms: 0,
                attempts: 0,
                last_error,
            });
        }
    }
    let position = Cursor(number(position));
    Ok(Some(Progress { position, held, ..Progress::default() }))
}

/// The webhook's position, and how many events of each user it holds.
pub(super) fn progress_and_behind(
    connection: &Connection,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>> {
    let Some(mut progress) = progress(connection, latest, damage)? else { return Ok(None) };
    let sql = "SELECT count(*) FROM log WHERE user = ?1 AND cursor BETWEEN ?2 AND ?3";
    let mut counted = connection.prepare_cached(sql)?;
    for HeldUser { user, from, .. } in &progress.held {
        let part = (user.as_str(), int(from.0), int(progress.position.0));
        let count: i64 = counted.query_row(part, |row| row.get(0))?;
        let count = usize::try_from(count).unwrap_or_default();
        progress.behind.insert(user.clone(), count);
    }
    Ok(Some(progress))
}

/// Counts the dead letters that were not put back, by their index.
pub(super) fn dead_waiting(connection: &Connection) -> Result<u64> {
    let sql = "SELECT count(*) FROM dead WHERE put_back = 0";
    Ok(number(connection.prepare_cached(sql)?.query_row((), |row| row.get(0))?))
}

/// Dead letters after a cursor.
pub(super) fn dead(
    connection: &Connection,
    after: Option<Cursor>,
    put_back: bool,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<Dead>> {
    let mut found = connection.prepare_cached(&format!(
        "SELECT {DEAD} FROM dead WHERE cursor > ?1 AND put_back = ?2 ORDER BY cursor"
    ))?;
    let after = after.map_or(-1, |after| int(after.0));
    let mut rows = found.query((after, put_back))?;
    let mut letters = Vec::new();
    while letters.len() < limit
        && let Some(row) = rows.next()?
    {
        let dead = dead_at(row)?;
        if dead.entry.is_damaged() && !bytes(row, 3)?.is_empty() {
            damage.found("dead", &format!("{} of {}", dead.entry.cursor, dead.entry.user));
        }
        letters.push(dead);
    }
    Ok(letters)
}

/// A dead letter in the columns of [`DEAD`]. An empty event stands for one that was damaged in the
/// log; a number that is damaged counts as 0.
pub(super) fn dead_at(row: &Row<'_>) -> Result<Dead> {
    let cursor = Cursor(number(row.get(0)?));
    let (user, is_whole) = user_at(row, 1)?;
    let event = text_of_user(row, 1)?.filter(|event| is_whole && is_json(event));
    let at = Timestamp::from_millis(number_at(row, 4)?.unwrap_or_default());
    let attempts = u32::try_from(number_at(row, 5)?.unwrap_or_default()).unwrap_or(u32::MAX);
    let last_error = String::from_utf8_lossy(bytes(row, 6)?).into();
    let entry = LogEntry { cursor, user, event: event.map(Arc::from).ok_or(Damaged) };
    Ok(Dead { entry, at, attempts, last_error })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
