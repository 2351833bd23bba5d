//! The interface for the progress of each webhook and its dead letters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Cursor, LogEntry, StoreError};
use crate::presence::{Timestamp, UserId};

/// The longest name of a webhook.
const WEBHOOK_NAME_MAX: usize = 32;

/// Keeps each webhook's progress in the log, and its dead letters.
///
/// An adapter keeps log entries that a webhook has not delivered or given up, up to
/// [`Retention::backlog_bytes_max`](super::Retention::backlog_bytes_max).
pub trait Outbox: Send + Sync + 'static {
    /// The saved progress; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn progress<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<Option<Progress>, StoreError>>;

    /// Whether it is this node that posts for a webhook: of several nodes, one at a time. Receivers are notified
    /// of changes. A node that never asks is never given the turn, except for the webhook without a name.
    fn turn(&self, webhook: &WebhookName) -> watch::Receiver<bool>;

    /// Gives up this node's turn for good, because it stops: another node posts after its next sign of life.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the turn moves once this node is dead.
    fn give_up_turn(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    /// Saves progress atomically.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if it is another node's turn; nothing was written.
    /// [`StoreError::Unavailable`].
    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Deletes the progress when the webhook is no longer configured, so that the log is not kept for it. Dead
    /// letters stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn clear<'a>(&'a self, webhook: &'a WebhookName) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The webhooks with a name that have progress or dead letters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn webhooks(&self) -> BoxFuture<'_, Result<Vec<WebhookName>, StoreError>>;

    /// Reads up to `limit` dead letters after a cursor, oldest first: either those that were put back
    /// for a retry, or the others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Dead>, StoreError>>;

    /// Counts the dead letters that were not put back. Cheap enough for a call every few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn dead_waiting<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Puts dead letters back for a retry; returns how many. A dead letter with a damaged event cannot
    /// be delivered, so it stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn put_back<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Deletes dead letters that were not put back; returns how many.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn drop_dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;
}

/// The name of a webhook. The one of `[webhook]` has none, and is shown as an empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookName(Option<Arc<str>>);

/// A text that cannot be the name of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a name of 1 to 32 letters a to z, digits, `-` and `_`, got {0:?}")]
pub struct WebhookNameFault(String);

impl WebhookName {
    /// The name of the webhook of `[webhook]`.
    pub const UNNAMED: Self = Self(None);

    /// The name under which the nodes agree on who counts the figures. No webhook can have it.
    pub(super) fn of_figures() -> Self {
        Self(Some(".figures".into()))
    }

    /// The name; empty for the webhook without one.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether it is the webhook of `[webhook]`.
    pub const fn is_unnamed(&self) -> bool {
        self.0.is_none()
    }
}

impl TryFrom<String> for WebhookName {
    type Error = WebhookNameFault;

    /// Reads a name; an empty text is the webhook without one.
    fn try_from(text: String) -> Result<Self, WebhookNameFault> {
        let is_valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if text.len() > WEBHOOK_NAME_MAX || !text.bytes().all(is_valid) {
            return Err(WebhookNameFault(text.chars().take(WEBHOOK_NAME_MAX).collect()));
        }
        Ok(Self((!text.is_empty()).then(|| text.into())))
    }
}

impl From<WebhookName> for String {
    fn from(name: WebhookName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for WebhookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The webhook's progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All entries up to here are delivered or given up, except those of held users.
    pub position: Cursor,
    /// The users whose events are pending because one failed.
    pub held: Vec<HeldUser>,
    /// For each held user: the number of log entries from the first pending one up to `position`.
    pub behind: BTreeMap<UserId, usize>,
}

impl Progress {
    /// The webhook needs no entry up to this cursor.
    pub fn kept_after(&self) -> Cursor {
        let held = self.held.iter().map(|held| Cursor(held.from.0.saturating_sub(1)));
        held.chain([self.position]).min().unwrap_or_default()
    }
}

/// A user whose events are pending because one failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUser {
    /// The user.
    pub user: UserId,
    /// The first pending event.
    pub from: Cursor,
    /// The time of its first failure.
    pub refused: Timestamp,
    /// How long the receiver has worked since then, in milliseconds.
    #[serde(default)]
    pub worked_ms: u64,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: String,
}

/// The changes since the last save.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Save {
    /// The webhook.
    pub webhook: WebhookName,
    /// All entries up to here are delivered or given up, except those of held users.
    pub position: Cursor,
    /// New or changed held users, each once.
    pub held: Vec<HeldUser>,
    /// Users who are no longer held.
    pub freed: Vec<UserId>,
    /// Events that are given up. A dead letter that failed again replaces itself.
    pub dead: Vec<Dead>,
    /// Dead letters that were put back and then delivered.
    pub revived: Vec<Cursor>,
}

/// A dead letter: an event whose delivery was given up. Its id is the entry's cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The log entry.
    pub entry: LogEntry,
    /// The time when it was given up.
    pub at: Timestamp,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: Arc<str>,
}

/// A selection of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadSelection {
    /// The dead letters of these entries.
    These(Vec<Cursor>),
    /// All dead letters.
    All,
}
