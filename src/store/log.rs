//! The transition log: its interface, its cursors, and its entries in JSON.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;
use utoipa::ToSchema;

use super::StoreError;
use crate::presence::{
    Cause, EventId, Evidence, Kicker, State, Status, TerminalChange, Timestamp, Transition, UserId,
    Victim, VisibilityView,
};

/// The number of bits by which the wall clock's milliseconds are shifted to make the first cursor of a
/// run. So a new log never issues a cursor of an earlier log again.
const CURSOR_BITS_PER_MS: u32 = 20;
/// The number of entries read at once while looking for the first one after a cursor.
const SKIPPED_AT_ONCE: usize = 1000;

thread_local! {
    /// A buffer that each thread reuses, so that the returned text is allocated in its exact size.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the transition log.
pub trait Log: Send + Sync + 'static {
    /// The cursor of the last entry, or the one before the first entry; receivers are notified of new
    /// entries.
    fn head(&self) -> watch::Receiver<Cursor>;

    /// Reads up to `limit` entries after a cursor, oldest first; without a cursor, from the oldest entry.
    /// A damaged entry is returned as such, so that readers can continue.
    ///
    /// # Errors
    ///
    /// [`StoreError::CursorExpired`] if entries after the cursor were trimmed, or if this log never
    /// issued the cursor: it is from another log, or was lost to a power cut or a restored backup.
    /// [`StoreError::Unavailable`].
    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>>;

    /// Reads up to `limit` of the entries after a cursor that are left, even if others were trimmed or lost.
    ///
    /// # Errors
    ///
    /// [`StoreError::CursorExpired`] if the store was emptied, and its log has not begun again.
    /// [`StoreError::Unavailable`].
    fn left(
        &self,
        after: Cursor,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        let read = async move {
            let mut from = None;
            loop {
                let mut entries = self.entries(from, SKIPPED_AT_ONCE).await?;
                from = entries.last().map(|last| last.cursor);
                let is_end = from.is_none();
                entries.retain(|entry| entry.cursor > after);
                if is_end || !entries.is_empty() {
                    entries.truncate(limit);
                    return Ok(entries);
                }
            }
        };
        read.boxed()
    }

    /// Reads up to `limit` entries of one user: those after a cursor, oldest first, or those before one,
    /// newest first. A damaged entry is returned as such.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>>;

    /// Measures the log after a cursor.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>>;

    /// Deletes some of the expired log entries; called every second. Returns how many of them the
    /// webhook had not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// The part of a user's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryPart {
    /// Entries after a cursor, oldest first.
    After(Cursor),
    /// Entries before a cursor, newest first; without a cursor, from the newest.
    Before(Option<Cursor>),
}

/// How long the log keeps entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The minimum age of deleted entries. Entries that the webhook has not read are kept longer.
    pub log_ttl: Duration,
    /// The maximum size of entries that are kept only for the webhook.
    pub backlog_bytes_max: u64,
}

/// A position in the log: that of an entry, or the one before the first entry. Only the order of
/// cursors has a meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String)]
pub struct Cursor(pub u64);

impl Cursor {
    /// The first cursor of a new run after `last`: greater than all cursors that an earlier run may have
    /// issued and then lost to a power cut.
    pub fn of_new_run(last: Self, wall: Timestamp) -> Self {
        let past_last = last.0 + (1 << CURSOR_BITS_PER_MS);
        Self(past_last.max(wall.as_millis() << CURSOR_BITS_PER_MS))
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
    /// The position of the entry.
    pub cursor: Cursor,
    /// The user.
    pub user: UserId,
    /// The event in JSON. It is encoded once, at the commit, so that all readers get the same bytes.
    /// [`Damaged`] if the store cannot read it.
    pub event: Result<Arc<str>, Damaged>,
}

/// Marks a damaged event or record in logs and lists, so that readers can report it and continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged, not readable")]
pub struct Damaged;

/// The placeholder for a damaged event.
#[derive(Serialize, ToSchema)]
pub struct DamagedEvent<'a> {
    user: &'a UserId,
    cursor: Cursor,
    /// Always true.
    damaged: bool,
}

/// The size of the log after a cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The number of entries.
    pub entries: u64,
    /// The size of their events.
    pub bytes: u64,
    /// The time of the oldest entry.
    pub oldest: Option<Timestamp>,
}

impl LogEntry {
    /// Encodes a transition as the JSON that readers of the log get.
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
            status: EventStatus {
                user: Cow::Borrowed(user),
                status: Cow::Borrowed(&transition.status),
            },
            by: transition.by.as_ref().map(Cow::Borrowed),
            kicked: Cow::Borrowed(&transition.kicked),
            evidence: transition.evidence,
            visibility: transition.visibility.as_deref().map(Cow::Borrowed),
        };
        json(&event)
    }

    /// Whether the event is damaged.
    pub const fn is_damaged(&self) -> bool {
        self.event.is_err()
    }

    /// The event in JSON. For a damaged event: its user, its cursor and `"damaged":true`.
    pub fn json(&self) -> Arc<str> {
        let placeholder = DamagedEvent { user: &self.user, cursor: self.cursor, damaged: true };
        self.event.clone().unwrap_or_else(|Damaged| json(&placeholder))
    }

    /// The size of the event; 0 if it is damaged.
    pub fn bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |event| event.len())
    }

    /// Encodes the undamaged events as one JSON array.
    pub fn array(entries: &[Self]) -> String {
        let events: Vec<_> = entries.iter().filter_map(|e| e.event.as_deref().ok()).collect();
        format!("[{}]", events.join(","))
    }

    /// Encodes the placeholders of damaged events as one JSON array; `None` if there are none.
    pub fn damaged_array(entries: &[Self]) -> Option<String> {
        let damaged: Vec<_> = entries.iter().filter(|e| e.is_damaged()).map(Self::json).collect();
        (!damaged.is_empty()).then(|| format!("[{}]", damaged.join(",")))
    }

    /// Decodes the transition.
    ///
    /// # Errors
    ///
    /// If the event is damaged, or was not written by [`encode`](Self::encode).
    pub fn transition(&self) -> Result<Transition, serde_json::Error> {
        let event = self.event.as_deref().map_err(serde::de::Error::custom)?;
        let event: Event<'_> = serde_json::from_str(event)?;
        let id = event
            .id
            .split_once('-')
            .and_then(|(id, place)| Some((EventId::from_str(id).ok()?, place.parse().ok()?)));
        Ok(Transition {
            id: id.ok_or_else(|| serde::de::Error::custom("the id is not an event id"))?,
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
            visibility: event.visibility.map(|it| Box::new(it.into_owned())),
        })
    }
}

/// Encodes a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Arc<str> {
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        serde_json::to_writer(&mut *draft, value)
            .unwrap_or_else(|error| unreachable!("plain values make JSON: {error}"));
        let json = str::from_utf8(draft);
        json.unwrap_or_else(|error| unreachable!("JSON is UTF-8: {error}")).into()
    })
}

/// A change of a user or of one of its devices, as readers of the log get it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Event<'a> {
    /// The id of the event, and the number of this transition among those that it caused. The same in
    /// every delivery.
    id: Cow<'a, str>,
    user: Cow<'a, UserId>,
    at: Timestamp,
    cause: Cause,
    version: u64,
    /// The user's state before and after.
    state: Change,
    /// The changed device; null if the back end made the change, and for `recovered`.
    terminal: Option<Cow<'a, TerminalChange>>,
    /// The user's status after the change.
    status: EventStatus<'a>,
    /// The device or back end that kicked.
    by: Option<Cow<'a, Kicker>>,
    /// The devices that a login kicked.
    #[serde(default, skip_serializing_if = "<[Victim]>::is_empty")]
    kicked: Cow<'a, [Victim]>,
    evidence: Evidence,
    /// For `visibility`: who may not see the user from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visibility: Option<Cow<'a, VisibilityView>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct Change {
    from: State,
    to: State,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct EventStatus<'a> {
    user: Cow<'a, UserId>,
    #[serde(flatten)]
    status: Cow<'a, Status>,
}
