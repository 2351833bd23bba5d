//! One transaction of the thread that writes, and the statements in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Params, Result, Row, params};
use serde_json::value::RawValue;

use super::columns::{Due, int, millis, note, number, number_at, time_at, user_crc};
use super::notes::{self, HeldFrom};
use super::queries::{self, UserRow, happened};
use super::tail::Tail;
use crate::presence::{Census, Record, SignOfLife, Timestamp, UserId, WatchList, WatchListChange};
use crate::store::log::json;
use crate::store::rules::{Fate, Oldest, first_unread};
use crate::store::{
    Cursor, Dead, DeadSelection, HeldUser, LogEntry, Retention, Revision, Save, WebhookName,
};

/// How many entries of the log one transaction lets go, so that other jobs need not wait long: the index
/// by user has each on a page of its own.
const TRIMMED_MAX: usize = 100;
/// How much a proof writes: more than most commits need.
const PROOF_BYTES: i64 = 64 * 1024;

/// A transaction under way. It changes copies of the tail and of what is held, which the writer takes
/// over once it is committed.
pub(super) struct Transaction<'a> {
    pub(super) sql: rusqlite::Transaction<'a>,
    pub(super) tail: Tail,
    /// The positions of the webhooks with a name.
    pub(super) positions: Arc<BTreeMap<WebhookName, Cursor>>,
    /// The first event of each user whose events a webhook holds.
    pub(super) held: Arc<HeldFrom>,
    /// Whether a record may be due at another time than before.
    pub(super) is_due_anew: bool,
    pub(super) retention: &'a Retention,
}

/// A record to store, with its events, both encoded.
pub(super) struct EncodedCommit {
    pub(super) user: UserId,
    /// The revision of the record that it replaces.
    pub(super) expected: Revision,
    /// What that record adds to the counts, and when it is due.
    pub(super) before: (Census, Due),
    /// Whether that record is damaged, and is to be set aside.
    pub(super) replaces_damaged: bool,
    pub(super) record: Arc<Record>,
    pub(super) record_json: Arc<str>,
    pub(super) due: Due,
    pub(super) events: Vec<(Timestamp, Arc<str>)>,
}

/// What a trim let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Trimmed {
    /// How many entries the webhook had not dealt with.
    pub(super) lost: u64,
    /// Whether there may be more to let go.
    pub(super) may_be_more: bool,
}

impl Transaction<'_> {
    fn execute(&self, sql: &str, values: impl Params) -> Result<usize> {
        self.sql.prepare_cached(sql)?.execute(values)
    }

    // Commits.

    /// Stores a record and its events, and returns the new revision; `None` where the record that it
    /// replaces is no longer at the expected revision.
    pub(super) fn commit(&mut self, draft: &EncodedCommit) -> Result<Option<Revision>> {
        let (before, due_before) = &draft.before;
        let after = draft.record.census();
        let revision = Revision(self.tail.revision + 1);
        let is_due_anew = draft.due != *due_before;
        let is_moved = is_due_anew || before.state != after.state;
        if !self.swap(draft, revision, &after, is_moved)? {
            return Ok(None);
        }
        self.is_due_anew |= is_due_anew;
        self.tail.revision = revision.0;
        self.tail.totals.replace(before, &after);
        for (at, event) in &draft.events {
            self.log(&draft.user, *at, event)?;
        }
        Ok(Some(revision))
    }

    /// Replaces a user's record; returns whether the one before was at the expected revision.
    fn swap(
        &self,
        draft: &EncodedCommit,
        revision: Revision,
        after: &Census,
        is_moved: bool,
    ) -> Result<bool> {
        let EncodedCommit { expected, record_json, due, .. } = draft;
        let (user, json) = (draft.user.as_str(), &**record_json);
        let crc = user_crc(&draft.user, json);
        let (expected, revision) = (int(expected.0), int(revision.0));
        let (due_running, due_wall) = (due.running.map(millis), due.wall.map(millis));
        let state = after.state.map(|state| state as i64);
        let is_new = if draft.replaces_damaged {
            if !self.set_aside(draft)? {
                return Ok(false);
            }
            true
        } else {
            draft.expected == Revision::default()
        };
        let changed = match (is_new, draft.record.is_empty()) {
            (true, true) => {
                let sql = "SELECT 1 FROM users WHERE user = ?1";
                usize::from(!self.sql.prepare_cached(sql)?.exists((user,))?)
            }
            (false, true) => self
                .execute("DELETE FROM users WHERE user = ?1 AND revision = ?2", (user, expected))?,
            (true, false) => self.execute(
                "INSERT INTO users (user, revision, state, due_running, due_wall, record, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![user, revision, state, due_running, due_wall, json, crc],
            )?,
            // SQLite writes an index anew wherever one of its columns is set, be it to the same value.
            (false, false) if !is_moved => self.execute(
                "UPDATE users SET revision = ?2, record = ?3, crc = ?4
                 WHERE user = ?1 AND revision = ?5",
                params![user, revision, json, crc, expected],
            )?,
            (false, false) => self.execute(
                "UPDATE users SET revision = ?2, state = ?3, due_running = ?4, due_wall = ?5,
                 record = ?6, crc = ?7 WHERE user = ?1 AND revision = ?8",
                params![user, revision, state, due_running, due_wall, json, crc, expected],
            )?,
        };
        Ok(changed > 0)
    }

    /// Moves a user's damaged row to the table `damaged`. Returns whether it did: the row must still be
    /// damaged, and at the expected revision.
    fn set_aside(&self, draft: &EncodedCommit) -> Result<bool> {
        let user = draft.user.as_str();
        match queries::load(&self.sql, &draft.user)? {
            UserRow::Damaged(remains) if remains.revision == draft.expected => (),
            UserRow::Damaged(_) | UserRow::Whole(..) => return Ok(false),
        }
        self.execute(
            "INSERT INTO damaged (user, revision, record, crc)
             SELECT user, revision, record, crc FROM users WHERE user = ?1",
            (user,),
        )?;
        self.execute("DELETE FROM users WHERE user = ?1", (user,))?;
        Ok(true)
    }

    /// Changes a user's watch list. A damaged one is replaced.
    pub(super) fn change_watch_list(
        &self,
        user: &UserId,
        change: &WatchListChange,
        max: usize,
    ) -> Result<Option<Arc<WatchList>>> {
        let old = queries::watch_list(&self.sql, user)?.unwrap_or_default();
        let Some(list) = old.changed(change, max) else { return Ok(None) };
        if list.users().is_empty() {
            self.execute("DELETE FROM watch_lists WHERE user = ?1", (user.as_str(),))?;
        } else {
            let text = json(&list);
            let sql = "INSERT OR REPLACE INTO watch_lists VALUES (?1, ?2, ?3)";
            self.execute(sql, (user.as_str(), &*text, user_crc(user, &text)))?;
        }
        Ok(Some(Arc::new(list)))
    }

    fn log(&mut self, user: &UserId, at: Timestamp, event: &str) -> Result<()> {
        let tail = &mut self.tail;
        tail.head.0 += 1;
        tail.entries += 1;
        tail.bytes += event.len() as u64;
        let (cursor, entries, bytes) = (int(tail.head.0), int(tail.entries), int(tail.bytes));
        self.execute(
            "INSERT INTO log (cursor, user, at, entries, bytes, event, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                cursor,
                user.as_str(),
                millis(at),
                entries,
                bytes,
                event,
                user_crc(user, event)
            ],
        )?;
        Ok(())
    }

    /// Lets the oldest entries of the log go.
    pub(super) fn trim(&mut self, now: Timestamp) -> Result<Trimmed> {
        let unread = self.first_unread()?;
        let (mut trimmed, mut last, mut count) = (Trimmed::default(), None, 0);
        {
            let mut oldest = self.sql.prepare_cached(
                "SELECT cursor, at, bytes - octet_length(event), user, crc, event FROM log
                 ORDER BY cursor",
            )?;
            let mut rows = oldest.query(())?;
            while count < TRIMMED_MAX
                && let Some(row) = rows.next()?
            {
                let (cursor, bytes) = (Cursor(number(row.get(0)?)), self.tail.bytes);
                // A time that is yet to come is damaged, and must not keep the log for ever.
                let at = match time_at(row, 1)?.filter(|at| *at <= now) {
                    None => happened(row, 3)?,
                    at => at,
                };
                let before = number_at(row, 2)?.unwrap_or(bytes);
                let oldest = Oldest { cursor, at, bytes_from_it: bytes.saturating_sub(before) };
                match self.retention.fate(&oldest, unread, now) {
                    Fate::Keep => break,
                    Fate::Expire => (),
                    Fate::Lose => trimmed.lost += 1,
                }
                count += 1;
                last = Some(oldest.cursor);
            }
        }
        if let Some(last) = last {
            self.tail.log_before = last;
            self.execute("DELETE FROM log WHERE cursor <= ?1", (int(last.0),))?;
        }
        trimmed.may_be_more = count == TRIMMED_MAX;
        Ok(trimmed)
    }

    fn first_unread(&self) -> Result<Option<Cursor>> {
        let positions = self.positions.values().copied().chain(self.tail.position);
        let Some(position) = positions.min() else { return Ok(None) };
        let sql = "SELECT min(cursor) FROM log WHERE cursor > ?1";
        let mut next = self.sql.prepare_cached(sql)?;
        let next: Option<i64> = next.query_row((int(position.0),), |row| row.get(0))?;
        let next = next.map(|cursor| Cursor(number(cursor)));
        Ok(first_unread(self.held.values().copied(), next))
    }

    // Signs of life.

    pub(super) fn save_sign_of_life(&self, node: &str, sign: &SignOfLife) -> Result<()> {
        // With the name, so that a damaged name is noticed.
        let (sign, crc) = note(&(node, sign));
        let sql = "INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3)";
        self.execute(sql, (node, sign, crc)).map(drop)
    }

    pub(super) fn retire(&self, node: &str) -> Result<()> {
        self.execute("DELETE FROM nodes WHERE node = ?1", (node,)).map(drop)
    }

    /// Writes as much as a commit needs, to prove that it can be written.
    pub(super) fn prove(&self) -> Result<()> {
        self.execute("UPDATE proof SET bytes = zeroblob(?1)", (PROOF_BYTES,)).map(drop)
    }

    /// Replaces the figures of a day, and deletes those of days before `keep_from`.
    pub(super) fn save_day(&self, day: u32, figures: &RawValue, keep_from: u32) -> Result<()> {
        // With the day, so that a damaged day is noticed.
        let (figures, crc) = note(&(day, figures));
        let sql = "INSERT OR REPLACE INTO days VALUES (?1, ?2, ?3)";
        self.execute(sql, (day, figures, crc))?;
        self.execute("DELETE FROM days WHERE day < ?1", (keep_from,)).map(drop)
    }

    // What webhooks note.

    pub(super) fn save(&mut self, save: &Save) -> Result<()> {
        let webhook = &save.webhook;
        let name = webhook.as_str();
        if webhook.is_unnamed() {
            self.tail.position = Some(save.position);
        } else if self.positions.get(webhook) != Some(&save.position) {
            Arc::make_mut(&mut self.positions).insert(webhook.clone(), save.position);
            notes::save_position(&self.sql, webhook, save.position)?;
        }
        for user in &save.freed {
            Arc::make_mut(&mut self.held).remove(&(webhook.clone(), user.clone()));
            let sql = "DELETE FROM held WHERE webhook = ?1 AND user = ?2";
            self.execute(sql, (name, user.as_str()))?;
        }
        for held in &save.held {
            let HeldUser { user, from, .. } = held;
            Arc::make_mut(&mut self.held).insert((webhook.clone(), user.clone()), *from);
            let (held, crc) = note(&(webhook, held));
            let sql = "INSERT OR REPLACE INTO held VALUES (?1, ?2, ?3, ?4)";
            self.execute(sql, (name, user.as_str(), held, crc))?;
        }
        for cursor in &save.revived {
            let sql = "DELETE FROM dead WHERE webhook = ?1 AND cursor = ?2";
            self.execute(sql, (name, int(cursor.0)))?;
        }
        for dead in &save.dead {
            let LogEntry { cursor, user, event } = &dead.entry;
            // An empty text stands for an event that was damaged in the log.
            let event = event.as_deref().unwrap_or_default();
            self.execute(
                "INSERT OR REPLACE INTO dead
                 (webhook, cursor, user, event, at, attempts, last_error, put_back, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)",
                params![
                    name,
                    int(cursor.0),
                    user.as_str(),
                    event,
                    millis(dead.at),
                    dead.attempts,
                    dead.last_error,
                    user_crc(user, event)
                ],
            )?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, webhook: &WebhookName) -> Result<()> {
        if webhook.is_unnamed() {
            self.tail.position = None;
        } else if self.positions.contains_key(webhook) {
            Arc::make_mut(&mut self.positions).remove(webhook);
            self.execute("DELETE FROM hooks WHERE webhook = ?1", (webhook.as_str(),))?;
        }
        Arc::make_mut(&mut self.held).retain(|(of, _), _| of != webhook);
        self.execute("DELETE FROM held WHERE webhook = ?1", (webhook.as_str(),)).map(drop)
    }

    /// Puts back the letters that are meant and whole.
    pub(super) fn put_back(&self, webhook: &WebhookName, which: &DeadSelection) -> Result<u64> {
        let whole = self.idle_dead(webhook, which, |dead| !dead.entry.is_damaged())?;
        let sql = "UPDATE dead SET put_back = 1 WHERE webhook = ?1 AND cursor = ?2";
        self.each_dead(sql, webhook, &whole)
    }

    pub(super) fn drop_dead(&self, webhook: &WebhookName, which: &DeadSelection) -> Result<u64> {
        let all = self.idle_dead(webhook, which, |_| true)?;
        self.each_dead("DELETE FROM dead WHERE webhook = ?1 AND cursor = ?2", webhook, &all)
    }

    /// The dead letters that are meant, were not put back, and are wanted.
    fn idle_dead(
        &self,
        webhook: &WebhookName,
        which: &DeadSelection,
        is_wanted: fn(&Dead) -> bool,
    ) -> Result<Vec<i64>> {
        let name = webhook.as_str();
        let sql = format!("SELECT {} FROM dead WHERE webhook = ?1 AND put_back = 0", notes::DEAD);
        let mut wanted = Vec::new();
        let mut add = |row: &Row<'_>| {
            let dead = notes::dead_at(row)?;
            wanted.extend(is_wanted(&dead).then(|| int(dead.entry.cursor.0)));
            Ok(())
        };
        match which {
            DeadSelection::All => {
                let mut all = self.sql.prepare_cached(&sql)?;
                let mut rows = all.query((name,))?;
                while let Some(row) = rows.next()? {
                    add(row)?;
                }
            }
            DeadSelection::These(these) => {
                let mut one = self.sql.prepare_cached(&format!("{sql} AND cursor = ?2"))?;
                for cursor in these {
                    one.query_row((name, int(cursor.0)), &mut add).optional()?;
                }
            }
        }
        Ok(wanted)
    }

    /// Runs a statement on each of these dead letters; returns how many it changed.
    fn each_dead(&self, sql: &str, webhook: &WebhookName, cursors: &[i64]) -> Result<u64> {
        let done = cursors.iter().map(|cursor| self.execute(sql, (webhook.as_str(), cursor)));
        Ok(done.sum::<Result<usize>>()? as u64)
    }
}
