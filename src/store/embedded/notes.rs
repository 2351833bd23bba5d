//! What nodes and webhooks left for the next run.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, Result, Row};
use serde_json::value::RawValue;

use super::columns::{bytes, int, note, note_at, number, number_at, text_of_user, user_at};
use super::damage::Damage;
use super::queries::{UserRow, each_record, log_before};
use crate::presence::{NodeId, SignOfLife, Timestamp, UserId};
use crate::store::{Cursor, Damaged, Day, Dead, HeldUser, LogEntry, Progress, WebhookName};

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

/// The first event of each user whose events a webhook holds.
pub(super) type HeldFrom = BTreeMap<(WebhookName, UserId), Cursor>;

/// The positions of the webhooks with a name. None is damaged: a start mends them.
pub(super) fn positions(connection: &Connection) -> Result<BTreeMap<WebhookName, Cursor>> {
    let mut found = connection.prepare_cached("SELECT webhook, position, crc FROM hooks")?;
    let positions = found.query_map((), |row| note_at(row, 1))?;
    positions.filter_map(Result::transpose).collect()
}

/// Writes the position of a webhook with a name.
pub(super) fn save_position(
    connection: &Connection,
    webhook: &WebhookName,
    position: Cursor,
) -> Result<()> {
    // With the name, so that a damaged name is noticed.
    let (note, crc) = note(&(webhook, position));
    let sql = "INSERT OR REPLACE INTO hooks VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((webhook.as_str(), note, crc)).map(drop)
}

/// The first event of each user whose events some webhook holds.
pub(super) fn all_held(
    connection: &Connection,
    latest: Timestamp,
    damage: &Damage,
) -> Result<HeldFrom> {
    let mut all = HeldFrom::new();
    for webhook in positions(connection)?.into_keys().chain([WebhookName::UNNAMED]) {
        let progress = progress(connection, &webhook, latest, damage)?;
        let held = progress.into_iter().flat_map(|progress| progress.held);
        all.extend(held.map(|held| ((webhook.clone(), held.user), held.from)));
    }
    Ok(all)
}

fn position(connection: &Connection, webhook: &WebhookName) -> Result<Option<Cursor>> {
    if !webhook.is_unnamed() {
        return Ok(positions(connection)?.remove(webhook));
    }
    let sql = "SELECT position FROM state";
    let position: Option<i64> = connection.query_row(sql, (), |row| row.get(0))?;
    Ok(position.map(|position| Cursor(number(position))))
}

/// A webhook's progress. A held user whose row is damaged is held from the oldest entry on: posting
/// twice is better than never.
pub(super) fn progress(
    connection: &Connection,
    webhook: &WebhookName,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>> {
    let Some(position) = position(connection, webhook)? else { return Ok(None) };
    let sql = "SELECT user, held, crc FROM held WHERE webhook = ?1 ORDER BY user";
    let mut found = connection.prepare_cached(sql)?;
    let mut rows = found.query((webhook.as_str(),))?;
    let mut held = Vec::new();
    while let Some(row) = rows.next()? {
        let (user, is_whole) = user_at(row, 0)?;
        let noted: Option<(WebhookName, HeldUser)> = note_at(row, 1)?;
        let is_right = |(of, one): &(WebhookName, HeldUser)| of == webhook && one.user == user;
        if let Some((_, one)) = noted.filter(|noted| is_whole && is_right(noted)) {
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
    Ok(Some(Progress { position, held, ..Progress::default() }))
}

/// A webhook's position, and how many events of each user it holds.
pub(super) fn progress_and_behind(
    connection: &Connection,
    webhook: &WebhookName,
    latest: Timestamp,
    damage: &Damage,
) -> Result<Option<Progress>> {
    let Some(mut progress) = progress(connection, webhook, latest, damage)? else {
        return Ok(None);
    };
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
pub(super) fn dead_waiting(connection: &Connection, webhook: &WebhookName) -> Result<u64> {
    let sql = "SELECT count(*) FROM dead WHERE webhook = ?1 AND put_back = 0";
    let mut counted = connection.prepare_cached(sql)?;
    Ok(number(counted.query_row((webhook.as_str(),), |row| row.get(0))?))
}

/// The webhooks with a name that have progress or dead letters. A damaged name is left out.
pub(super) fn webhooks(connection: &Connection) -> Result<Vec<WebhookName>> {
    let sql = "SELECT webhook FROM hooks UNION SELECT webhook FROM dead ORDER BY 1";
    let mut found = connection.prepare_cached(sql)?;
    let mut rows = found.query(())?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        let name = String::from_utf8_lossy(bytes(row, 0)?).into_owned();
        names.extend(WebhookName::try_from(name).ok().filter(|name| !name.is_unnamed()));
    }
    Ok(names)
}

/// Dead letters after a cursor.
pub(super) fn dead(
    connection: &Connection,
    webhook: &WebhookName,
    after: Option<Cursor>,
    put_back: bool,
    limit: usize,
    damage: &Damage,
) -> Result<Vec<Dead>> {
    let mut found = connection.prepare_cached(&format!(
        "SELECT {DEAD} FROM dead WHERE webhook = ?1 AND cursor > ?2 AND put_back = ?3
         ORDER BY cursor"
    ))?;
    let after = after.map_or(-1, |after| int(after.0));
    let mut rows = found.query((webhook.as_str(), after, put_back))?;
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

/// The figures of the days from a number on.
pub(super) fn days(connection: &Connection, from: u32, damage: &Damage) -> Result<Vec<Day>> {
    let sql = "SELECT day, figures, crc FROM days WHERE day >= ?1 ORDER BY day";
    let mut found = connection.prepare_cached(sql)?;
    let mut rows = found.query((from,))?;
    let mut days = Vec::new();
    while let Some(row) = rows.next()? {
        let day = u32::try_from(number(row.get(0)?)).unwrap_or(u32::MAX);
        let noted: Option<(u32, Box<RawValue>)> = note_at(row, 1)?;
        match noted.filter(|(of, _)| *of == day) {
            Some((_, figures)) => days.push((day, figures.get().into())),
            None => damage.found("days", &day.to_string()),
        }
    }
    Ok(days)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
