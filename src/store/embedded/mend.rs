//! Mends, at a start, damage that no later look at a single row could notice.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::columns::{bytes, note_at, user_at};
use super::damage::Damage;
use super::schema::for_a_while;
use super::tail::Tail;
use super::{notes, queries};
use crate::store::{Cursor, HeldUser, WebhookName};

/// Mends due times, positions of webhooks, keys of held users, and user ids.
pub(super) fn mend(connection: &mut Connection, tail: &mut Tail, damage: &Damage) -> Result<()> {
    mend_due(connection)?;
    mend_positions(connection, tail)?;
    mend_held(connection)?;
    set_nameless_aside(connection, tail, damage)
}

/// Sets damaged due times to 0: the user is then due at once, and the next commit computes them from the
/// record. A text counts as greater than any number here.
fn mend_due(connection: &Connection) -> Result<()> {
    let mend = |column| {
        let is_damaged = format!("{column} > {}", i64::MAX);
        let sql = format!("UPDATE users SET {column} = 0 WHERE {is_damaged}");
        connection.execute(&sql, ())
    };
    let users = mend("due_running")? + mend("due_wall")?;
    if users > 0 {
        tracing::error!(
            users,
            "the store has damaged due times: check the disk; they are made anew"
        );
    }
    Ok(())
}

/// Begins with the oldest entry for a webhook whose position is damaged: posting twice is better than never. A webhook
/// whose name is damaged, too, begins with the next entry.
fn mend_positions(connection: &mut Connection, tail: &Tail) -> Result<()> {
    let begin = connection.transaction()?;
    let rows = {
        let mut found = begin.prepare("SELECT webhook, position, crc FROM hooks")?;
        let rows = found.query_map((), |row| {
            let key = String::from_utf8_lossy(bytes(row, 0)?).into_owned();
            let note: Option<(WebhookName, Cursor)> = note_at(row, 1)?;
            Ok((key, note))
        })?;
        rows.collect::<Result<Vec<_>>>()?
    };
    let is_right = |(key, note): &(String, Option<(WebhookName, Cursor)>)| {
        note.as_ref().is_some_and(|(of, _)| of.as_str() == key)
    };
    if rows.iter().all(is_right) {
        return Ok(());
    }
    tracing::error!("the store has a damaged position of a webhook: check the disk; it is mended");
    begin.execute("DELETE FROM hooks", ())?;
    for (key, note) in rows {
        let (webhook, position) = match (note, WebhookName::try_from(key)) {
            (Some(note), _) => note,
            (None, Ok(webhook)) if !webhook.is_unnamed() => (webhook, tail.log_before),
            (None, _) => continue,
        };
        notes::save_position(&begin, &webhook, position)?;
    }
    begin.commit()
}

/// Writes the notes of held users anew where a key is not the user whom its note names: a damaged key may
/// look like another user, and is not in order, so SQLite would not find its row.
fn mend_held(connection: &mut Connection) -> Result<()> {
    let begin = connection.transaction()?;
    let rows = {
        let mut found = begin.prepare("SELECT webhook, user, held, crc FROM held")?;
        let rows = found.query_map((), |row| {
            let (webhook, user, held, crc): (Value, Value, Value, Value) = row.try_into()?;
            let key = (webhook, user);
            let note: Option<(WebhookName, HeldUser)> = note_at(row, 2)?;
            let named = note.map_or_else(
                || key.clone(),
                |(webhook, held)| (webhook.to_string().into(), held.user.to_string().into()),
            );
            Ok((key, named, held, crc))
        })?;
        rows.collect::<Result<Vec<_>>>()?
    };
    if rows.iter().all(|(key, named, ..)| key == named) {
        return Ok(());
    }
    tracing::error!("the store has a damaged key of a held user: check the disk; it is mended");
    begin.execute("DELETE FROM held", ())?;
    for (_, (webhook, user), held, crc) in rows {
        let sql = "INSERT OR REPLACE INTO held VALUES (?1, ?2, ?3, ?4)";
        begin.execute(sql, (webhook, user, held, crc))?;
    }
    begin.commit()
}

/// Moves records whose user id cannot be read to the table `damaged`: no caller can ask for them, so
/// nothing else would ever mend them.
fn set_nameless_aside(connection: &mut Connection, tail: &mut Tail, damage: &Damage) -> Result<()> {
    let ids = for_a_while(connection, |connection| nameless(connection, damage))?;
    let ids = ids.unwrap_or_default();
    if ids.is_empty() {
        return Ok(());
    }
    let begin = connection.transaction()?;
    for (id, is_text) in ids {
        let user = if is_text { "CAST(?1 AS TEXT)" } else { "?1" };
        let keep = format!(
            "INSERT INTO damaged (user, revision, record, crc)
             SELECT user, revision, record, crc FROM users WHERE user = {user}"
        );
        begin.execute(&keep, (&id,))?;
        begin.execute(&format!("DELETE FROM users WHERE user = {user}"), (&id,))?;
    }
    tail.totals = queries::recount(&begin)?;
    tail.write(&begin)?;
    begin.commit()
}

/// The bytes of the ids that cannot be read, and whether they are a text.
fn nameless(connection: &Connection, damage: &Damage) -> Result<Vec<(Vec<u8>, bool)>> {
    // By this condition SQLite reads an index, which is a fraction of the table.
    let mut ids = connection.prepare("SELECT user FROM users WHERE state IS NOT NULL")?;
    let mut rows = ids.query(())?;
    let mut nameless = Vec::new();
    while let Some(row) = rows.next()? {
        let (shown, is_whole) = user_at(row, 0)?;
        if !is_whole {
            damage.found("users", shown.as_str());
            let is_text = matches!(row.get_ref(0)?, ValueRef::Text(_));
            nameless.push((bytes(row, 0)?.to_vec(), is_text));
        }
    }
    Ok(nameless)
}
