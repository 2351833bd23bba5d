//! The transition log: its places, and its entries as their readers see them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::presence::{
    Cause, EventId, Evidence, Kicker, State, Status, TerminalChange, Timestamp, Transition, UserId,
    Victim,
};

/// How far a cursor of a log that begins is moved on from the wall clock's milliseconds, so that one
/// of an earlier log is never taken for one of this.
const CURSORS_PER_MS: u32 = 20;

thread_local! {
    /// Where a thread writes what is then kept in just as much room as it needs.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A place in the log: that of an entry, or the one before the first. Only their order means
/// something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String)]
pub struct Cursor(pub u64);

impl Cursor {
    /// Where the log goes on in a new run after `last`: past what an earlier run may have shown to
    /// somebody and then lost to a power cut.
    pub fn of_new_run(last: Self, wall: Timestamp) -> Self {
        let past_last = last.0 + (1 << CURSORS_PER_MS);
        Self(past_last.max(wall.as_millis() << CURSORS_PER_MS))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub cursor: Cursor,
    /// Whose it is.
    pub user: UserId,
    /// The event as its readers see it, in JSON: written once, with the commit, so that it is the
    /// same whoever reads it, and however often. [`Damaged`] where the store can no longer read it.
    pub event: Result<Arc<str>, Damaged>,
}

/// An event or a record was damaged, for example by the disk. It keeps its place in logs and lists,
/// so that their readers can name the hole and go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged and cannot be read")]
pub struct Damaged;

/// What stands for an event that can no longer be read.
#[derive(Serialize, ToSchema)]
pub struct DamagedEvent<'a> {
    user: &'a UserId,
    cursor: Cursor,
    /// True.
    damaged: bool,
}

/// What comes after a place in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first of them happened.
    pub oldest: Option<Timestamp>,
}

impl LogEntry {
    /// Writes what a transition looks like to the readers of the log.
    pub fn encode(user: &UserId, transition: &Transition) -> Arc<str> {
        let (id, place) = transition.id;
        let event = Event {
            id: format!("{id}-{place}").into(),
            user: Cow::Borrowed(user),
            at: transition.at,
            cause: transition.cause,
            version: transition.version,
            state: Change { from: transition.from, to: transition.to },
            terminal: transition.terminal.as_ref().map(Cow::Borrowed),
            status: UserStatus {
                user: Cow::Borrowed(user),
                status: Cow::Borrowed(&transition.status),
            },
            by: transition.by.as_ref().map(Cow::Borrowed),
            kicked: Cow::Borrowed(&transition.kicked),
            evidence: transition.evidence,
        };
        json(&event)
    }

    /// Whether the event can no longer be read.
    pub const fn is_damaged(&self) -> bool {
        self.event.is_err()
    }

    /// The event in JSON; of a damaged one, its user, its cursor and `"damaged":true`.
    pub fn json(&self) -> Arc<str> {
        let hole = DamagedEvent { user: &self.user, cursor: self.cursor, damaged: true };
        self.event.clone().unwrap_or_else(|Damaged| json(&hole))
    }

    /// How many bytes the event has; 0 where it is damaged.
    pub fn bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |event| event.len())
    }

    /// Writes the events that are whole as one JSON array.
    pub fn array(entries: &[Self]) -> String {
        let events: Vec<_> = entries.iter().filter_map(|e| e.event.as_deref().ok()).collect();
        format!("[{}]", events.join(","))
    }

    /// Writes what stands for the damaged events as one JSON array; `None` where all are whole.
    pub fn holes(entries: &[Self]) -> Option<String> {
        let holes: Vec<_> = entries.iter().filter(|e| e.is_damaged()).map(Self::json).collect();
        (!holes.is_empty()).then(|| format!("[{}]", holes.join(",")))
    }

    /// Reads the transition again.
    ///
    /// # Errors
    ///
    /// Where the event is damaged, or none that [`encode`](Self::encode) wrote.
    pub fn transition(&self) -> Result<Transition, serde_json::Error> {
        let event = self.event.as_deref().map_err(serde::de::Error::custom)?;
        let event: Event<'_> = serde_json::from_str(event)?;
        let id = event
            .id
            .split_once('-')
            .and_then(|(id, place)| Some((EventId::from_str(id).ok()?, place.parse().ok()?)));
        Ok(Transition {
            id: id.ok_or_else(|| serde::de::Error::custom("no id of an event"))?,
            at: event.at,
            cause: event.cause,
            version: event.version,
            from: event.state.from,
            to: event.state.to,
            terminal: event.terminal.map(Cow::into_owned),
            status: event.status.status.into_owned(),
            by: event.by.map(Cow::into_owned),
            kicked: event.kicked.into_owned(),
            evidence: event.evidence,
        })
    }
}

/// Writes a plain value.
pub(super) fn json(value: &impl Serialize) -> Arc<str> {
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        serde_json::to_writer(&mut *draft, value)
            .unwrap_or_else(|error| unreachable!("plain values make JSON: {error}"));
        let json = str::from_utf8(draft);
        json.unwrap_or_else(|error| unreachable!("JSON is UTF-8: {error}")).into()
    })
}

/// A change of a user's state, or of one of its devices', as the log writes it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Event<'a> {
    /// The id of what happened, and the transition's place among what came of it: the same however
    /// often it is delivered.
    id: Cow<'a, str>,
    user: Cow<'a, UserId>,
    at: Timestamp,
    cause: Cause,
    version: u64,
    /// The user's state before and after.
    state: Change,
    /// The device concerned; null for a change by the server API.
    terminal: Option<Cow<'a, TerminalChange>>,
    /// The whole status after it.
    status: UserStatus<'a>,
    /// Who kicked.
    by: Option<Cow<'a, Kicker>>,
    /// Whom a login kicked.
    #[serde(default, skip_serializing_if = "<[Victim]>::is_empty")]
    kicked: Cow<'a, [Victim]>,
    evidence: Evidence,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct Change {
    from: State,
    to: State,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct UserStatus<'a> {
    user: Cow<'a, UserId>,
    #[serde(flatten)]
    status: Cow<'a, Status>,
}
