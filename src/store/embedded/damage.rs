//! The damaged rows that were found, and what can still be read of a damaged record.

use std::collections::HashSet;

use parking_lot::Mutex;
use rusqlite::{Result, Row};
use serde::de::DeserializeOwned;

use super::columns::{Due, bytes, number_at, time_at};
use crate::presence::{Census, Platform, Rescued, State};
use crate::store::{Cursor, Revision};

/// How many damaged rows are remembered, so that each is logged once.
const REMEMBERED_MAX: usize = 100_000;

/// The damaged rows that were found and are still there, by table and key.
#[derive(Debug, Default)]
pub(super) struct Damage(Mutex<HashSet<(&'static str, String)>>);

impl Damage {
    /// Notes a damaged row; each is logged once, with what is done about it.
    pub(super) fn found(&self, table: &'static str, key: &str) {
        let mut rows = self.0.lock();
        if rows.len() == REMEMBERED_MAX || !rows.insert((table, key.to_owned())) {
            return;
        }
        let then = match table {
            "users" => {
                "the user's status is unknown; the record begins anew with the user's next login, \
                 with a kick or a change by the back end, or when the session would have been held \
                 no longer"
            }
            "log" => "readers of the log skip the event and are told its user",
            "held" => "the webhook posts this user's events of the log again",
            "dead" => "the dead letter can be dropped, not retried",
            _ => "the sessions of that run are held as if it had run until now",
        };
        tracing::error!(table, key, then, "the store has a damaged row: check the disk");
    }

    /// Notes that a row was replaced or deleted.
    pub(super) fn mended(&self, table: &'static str, key: &str) {
        self.0.lock().remove(&(table, key.to_owned()));
    }

    /// Notes that rows were deleted; the keys of their table begin with a cursor.
    pub(super) fn gone(&self, table: &'static str, is_gone: impl Fn(Cursor) -> bool) {
        let cursor = |key: &str| key.split(' ').next()?.parse().ok();
        self.0.lock().retain(|(of, key)| *of != table || !cursor(key).is_some_and(&is_gone));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.lock().len() as u64
    }
}

/// What can still be read of a user's damaged record.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) revision: Revision,
    pub(super) due: Due,
    state: Option<State>,
    text: String,
}

impl Remains {
    /// Reads the columns `record`, `revision`, `due_running`, `due_wall`, `state`, from this one on.
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self> {
        let state = match number_at(row, first + 4)? {
            Some(0) => Some(State::Offline),
            Some(1) => Some(State::PushOnline),
            Some(2) => Some(State::Online),
            Some(_) | None => None,
        };
        Ok(Self {
            revision: Revision(number_at(row, first + 1)?.filter(|it| *it > 0).unwrap_or(u64::MAX)),
            due: Due { running: time_at(row, first + 2)?, wall: time_at(row, first + 3)? },
            state,
            text: String::from_utf8_lossy(bytes(row, first)?).into_owned(),
        })
    }

    /// What it added to the counts, as far as its text still says.
    pub(super) fn census(&self) -> Census {
        let mut census = Census { state: self.state, ..Census::default() };
        let terminals = self.text.split("\"ended\":").next().unwrap_or_default();
        let counts = match self.state {
            Some(State::Online) => &mut census.online,
            Some(State::PushOnline) => &mut census.push_online,
            Some(State::Offline) | None => return census,
        };
        for platform in Platform::ALL {
            let named = format!("\"platform\":\"{}\"", platform.name());
            let count = terminals.matches(&named).count();
            counts[platform as usize] = u32::try_from(count).unwrap_or(u32::MAX);
        }
        let terminals = self.text.split("\"version\":").next().unwrap_or_default();
        let mut online = terminals.split("\"session\":").skip(1);
        census.away = self.state == Some(State::Online)
            && online.all(|it| it.contains("\"idle\":") || it.contains("\"Push\":"));
        census
    }

    /// What its text still says of bans, and of who may not see the user.
    pub(super) fn rescued(&self) -> Rescued {
        Rescued { revoked: self.field("revoked"), visibility: self.field("visibility") }
    }

    fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, rest) = self.text.split_once(&format!("\"{name}\":"))?;
        serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
    }
}
