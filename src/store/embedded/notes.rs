//! What hubs and the webhook noted for the next run.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::value::RawValue;

use super::damage::Damage;
use super::reader::{ReadFault, bytes, log_before, parsed, shown, whole};
use super::schema::{int, number};
use crate::presence::{NodeId, Sign, Timestamp};
use crate::store::{Cursor, Damaged, Dead, Held, LogEntry, Progress};

/// Every hub's last sign of life. A damaged sign counts as one of now, so that no session ends early.
pub(super) fn signs(
    connection: &Connection,
    present: &Sign,
    damage: &Damage,
) -> Result<Vec<(NodeId, Sign)>, ReadFault> {
    let unknown = || Sign { boot: Box::default(), ..present.clone() };
    let mut found = connection.prepare_cached("SELECT node, sign FROM nodes")?;
    let mut rows = found.query(())?;
    let (mut signs, mut is_any_nameless) = (Vec::new(), false);
    while let Some(row) = rows.next()? {
        let name = String::from_utf8_lossy(bytes(row, 0)?).into_owned();
        let sign = serde_json::from_slice(bytes(row, 1)?);
        let node = u64::from_str_radix(&name, 16).map(NodeId);
        if sign.is_err() || node.is_err() {
            damage.found("nodes", &name);
        }
        match node {
            Ok(node) => signs.push((node, sign.unwrap_or_else(|_| unknown()))),
            Err(_) => is_any_nameless = true,
        }
    }
    if is_any_nameless {
        let known: HashSet<_> = signs.iter().map(|(node, _)| *node).collect();
        let nameless = nodes_in_records(connection)?.into_iter().filter(|n| !known.contains(n));
        signs.extend(nameless.map(|node| (node, unknown())));
    }
    Ok(signs)
}

/// The hubs that records name.
fn nodes_in_records(connection: &Connection) -> Result<HashSet<NodeId>, ReadFault> {
    let mut found = connection.prepare("SELECT record, crc FROM users WHERE state > 0")?;
    let mut rows = found.query(())?;
    let mut nodes = HashSet::new();
    while let Some(row) = rows.next()? {
        if let Some((record, _)) = parsed(whole(row, 0, 1)?) {
            nodes.extend(record.terminals.iter().map(|terminal| terminal.connection.node));
        }
    }
    Ok(nodes)
}

/// The webhook's progress. A held user whose row is damaged is held from the oldest entry on: posting
/// twice is better than never.
pub(super) fn progress(
    connection: &Connection,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>, ReadFault> {
    let position: Option<i64> =
        connection.query_row("SELECT position FROM state", (), |row| row.get(0))?;
    let Some(position) = position else { return Ok(None) };
    let mut found = connection.prepare_cached("SELECT user, held FROM held ORDER BY user")?;
    let mut rows = found.query(())?;
    let mut held = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(one) = serde_json::from_slice::<Held>(bytes(row, 1)?) {
            held.push(one);
            continue;
        }
        let (user, is_whole) = shown(row, 0)?;
        damage.found("held", user.as_str());
        if is_whole {
            let from = Cursor(log_before(connection)?.0 + 1);
            let last_error = "what was noted of it is damaged".into();
            held.push(Held { user, from, refused: latest, worked_ms: 0, attempts: 0, last_error });
        }
    }
    let position = Cursor(number(position));
    Ok(Some(Progress { position, held, ..Progress::default() }))
}

/// How far the webhook is, and how many events each user who is held is behind.
pub(super) fn progress_and_behind(
    connection: &Connection,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>, ReadFault> {
    let Some(mut progress) = progress(connection, latest, damage)? else { return Ok(None) };
    let sql = "SELECT count(*) FROM log WHERE user = ?1 AND cursor BETWEEN ?2 AND ?3";
    let mut counted = connection.prepare_cached(sql)?;
    for Held { user, from, .. } in &progress.held {
        let part = (user.as_str(), int(from.0), int(progress.position.0));
        let count: i64 = counted.query_row(part, |row| row.get(0))?;
        let count = usize::try_from(count).unwrap_or_default();
        progress.behind.insert(user.clone(), count);
    }
    Ok(Some(progress))
}

/// Counts the dead letters that were not put back, by their index.
pub(super) fn dead_waiting(connection: &Connection) -> Result<u64, ReadFault> {
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
) -> Result<Vec<Dead>, ReadFault> {
    let mut found = connection.prepare_cached(
        "SELECT cursor, user, event, at, attempts, last_error FROM dead
         WHERE cursor > ?1 AND put_back = ?2 ORDER BY cursor",
    )?;
    let after = after.map_or(-1, |after| int(after.0));
    let mut rows = found.query((after, put_back))?;
    let mut dead = Vec::new();
    while dead.len() < limit
        && let Some(row) = rows.next()?
    {
        let cursor = Cursor(number(row.get(0)?));
        let (user, event) = (shown(row, 1)?.0, bytes(row, 2)?);
        let json = serde_json::from_slice::<&RawValue>(event).ok();
        if json.is_none() && !event.is_empty() {
            damage.found("dead", &format!("{cursor} of {user}"));
        }
        let event = json.map(|json| json.get().into()).ok_or(Damaged);
        // A number that is damaged says nothing; the letter is still there.
        let count = |column| -> rusqlite::Result<u64> {
            Ok(row.get_ref(column)?.as_i64().map(number).unwrap_or_default())
        };
        let at = Timestamp::from_millis(count(3)?);
        let attempts = count(4).map(|count| u32::try_from(count).unwrap_or(u32::MAX))?;
        let last_error = String::from_utf8_lossy(bytes(row, 5)?).into();
        let entry = LogEntry { cursor, user, event };
        dead.push(Dead { entry, at, attempts, last_error });
    }
    Ok(dead)
}
