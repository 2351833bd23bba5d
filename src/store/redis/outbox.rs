//! The progress of webhooks and their dead letters. All keys are in one slot, so each save is one script.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use redis::{Cmd, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::router::At;
use super::scripts::{LETTERS, SAVE};
use super::state::State;
use crate::presence::{Timestamp, UserId};
use crate::store::rules::first_unread;
use crate::store::{
    Cursor, Damaged, Dead, DeadSelection, HeldUser, HistoryPart, LogEntry, Progress, Save,
    StoreError, WebhookName,
};

/// How many dead letters are read and moved together.
const LETTERS_PAGE: usize = 256;

/// A dead letter as it is stored.
#[derive(Serialize, Deserialize)]
struct Letter {
    user: UserId,
    /// `None` if the event is damaged.
    event: Option<String>,
    at: Timestamp,
    attempts: u32,
    last_error: String,
}

/// What happens to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetterMove {
    Back,
    Drop,
}

/// The id of a dead letter: as wide as the greatest cursor, so that the order of texts is that of cursors.
fn letter_id(cursor: Cursor) -> String {
    format!("{:020}", cursor.0)
}

impl Letter {
    fn of(dead: &Dead) -> String {
        let letter = Self {
            user: dead.entry.user.clone(),
            event: dead.entry.event.as_deref().ok().map(str::to_owned),
            at: dead.at,
            attempts: dead.attempts,
            last_error: dead.last_error.to_string(),
        };
        let json = serde_json::to_string(&letter);
        json.unwrap_or_else(|error| unreachable!("a letter makes JSON: {error}"))
    }

    fn into_dead(self, cursor: Cursor) -> Dead {
        let event = self.event.map(Into::into).ok_or(Damaged);
        Dead {
            entry: LogEntry { cursor, user: self.user, event },
            at: self.at,
            attempts: self.attempts,
            last_error: self.last_error.into(),
        }
    }
}

fn json(held: &HeldUser) -> String {
    serde_json::to_string(held).unwrap_or_else(|error| unreachable!("a note makes JSON: {error}"))
}

impl State {
    pub(super) fn turn_of(&self, webhook: &WebhookName) -> watch::Receiver<bool> {
        if webhook.is_unnamed() {
            return self.turn.subscribe();
        }
        self.named_turns.lock().entry(webhook.clone()).or_default().subscribe()
    }

    pub(super) async fn webhooks(&self) -> Result<Vec<WebhookName>, StoreError> {
        let mut all = cmd("SMEMBERS");
        all.arg(&self.keys.hub.webhooks);
        let names: BTreeSet<String> = self.run(At::Hub, &all).await?;
        let names = names.into_iter().filter_map(|name| WebhookName::try_from(name).ok());
        Ok(names.filter(|name| !name.is_unnamed()).collect())
    }

    pub(super) async fn progress(
        &self,
        webhook: &WebhookName,
    ) -> Result<Option<Progress>, StoreError> {
        let Some((position, held)) = self.saved_progress(webhook).await? else { return Ok(None) };
        let behind = held.iter().map(async |held| {
            let after = HistoryPart::After(Cursor(held.from.0.saturating_sub(1)));
            let entries = self.history(&held.user, after, usize::MAX).await?;
            let behind = entries.iter().filter(|entry| entry.cursor <= position).count();
            Ok::<_, StoreError>((held.user.clone(), behind))
        });
        let behind: BTreeMap<_, _> = try_join_all(behind).await?.into_iter().collect();
        Ok(Some(Progress { position, held, behind }))
    }

    async fn saved_progress(
        &self,
        webhook: &WebhookName,
    ) -> Result<Option<(Cursor, Vec<HeldUser>)>, StoreError> {
        let keys = self.keys.hub.webhook(webhook);
        let (mut get, mut all) = (cmd("HGET"), cmd("HGETALL"));
        get.arg(&keys.progress).arg("position");
        all.arg(&keys.held);
        let Some(position): Option<String> = self.run(At::Hub, &get).await? else {
            return Ok(None);
        };
        let held: BTreeMap<String, String> = self.run(At::Hub, &all).await?;
        // Without its note, the webhook posts the events of that user again.
        let held = held.values().filter_map(|note| serde_json::from_str(note).ok()).collect();
        Ok(Some((position.parse().unwrap_or_default(), held)))
    }

    /// The first entry that some webhook has not dealt with, or a cursor before it.
    pub(super) async fn unread(&self) -> Result<Option<Cursor>, StoreError> {
        let mut unread = None;
        for webhook in self.webhooks().await?.into_iter().chain([WebhookName::UNNAMED]) {
            let Some((position, held)) = self.saved_progress(&webhook).await? else { continue };
            let next = [unread, Some(Cursor(position.0.saturating_add(1)))].into_iter().flatten();
            unread = first_unread(held.iter().map(|held| held.from), next.min());
        }
        Ok(unread)
    }

    pub(super) async fn save(&self, save: &Save) -> Result<(), StoreError> {
        if !save.webhook.is_unnamed() {
            // Before the progress, so that the log is kept for it.
            let mut add = cmd("SADD");
            add.arg(&self.keys.hub.webhooks).arg(save.webhook.as_str());
            self.run::<()>(At::Hub, &add).await?;
        }
        let (keys, node) = (self.keys.hub.webhook(&save.webhook), self.node());
        let mut call = SAVE.prepare_invoke();
        call.key(&keys.progress).key(&keys.held).key(&keys.waiting).key(&keys.back);
        call.key(&keys.letters).key(&keys.seat).key(&self.keys.hub.gone);
        call.arg(node.map(|node| node.to_string()).unwrap_or_default()).arg(save.position.0);
        call.arg(save.held.len())
            .arg(save.freed.len())
            .arg(save.dead.len())
            .arg(save.revived.len());
        for held in &save.held {
            call.arg(held.user.as_str()).arg(json(held));
        }
        for user in &save.freed {
            call.arg(user.as_str());
        }
        for dead in &save.dead {
            call.arg(letter_id(dead.entry.cursor)).arg(Letter::of(dead));
        }
        for cursor in &save.revived {
            call.arg(letter_id(*cursor));
        }
        let answer: String = self.call(At::Hub, &call).await?;
        match &*answer {
            "ok" => Ok(()),
            "retired" => Err(StoreError::Retired),
            _ => Err(StoreError::Conflict),
        }
    }

    pub(super) async fn clear(&self, webhook: &WebhookName) -> Result<(), StoreError> {
        let keys = self.keys.hub.webhook(webhook);
        let mut delete = cmd("DEL");
        delete.arg(&keys.progress).arg(&keys.held);
        self.run::<()>(At::Hub, &delete).await?;
        if webhook.is_unnamed() {
            return Ok(());
        }
        // Its name stays as long as it has dead letters.
        let mut letters = cmd("EXISTS");
        letters.arg(&keys.letters);
        if self.run(At::Hub, &letters).await? {
            return Ok(());
        }
        let mut remove = cmd("SREM");
        remove.arg(&self.keys.hub.webhooks).arg(webhook.as_str());
        self.run(At::Hub, &remove).await
    }

    pub(super) async fn dead_letters(
        &self,
        webhook: &WebhookName,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> Result<Vec<Dead>, StoreError> {
        let keys = self.keys.hub.webhook(webhook);
        let list = if put_back { &keys.back } else { &keys.waiting };
        let begin = after.map_or_else(|| "-".to_owned(), |after| format!("({}", letter_id(after)));
        let mut range = cmd("ZRANGE");
        range.arg(list).arg(begin).arg("+").arg("BYLEX").arg("LIMIT").arg(0);
        range.arg(i64::try_from(limit).unwrap_or(i64::MAX));
        let ids: Vec<String> = self.run(At::Hub, &range).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("HMGET");
        get.arg(&keys.letters).arg(&ids);
        let letters: Vec<Option<String>> = self.run(At::Hub, &get).await?;
        let dead = ids.iter().zip(letters).filter_map(|(id, letter)| {
            let letter: Letter = serde_json::from_str(&letter?).ok()?;
            Some(letter.into_dead(Cursor(id.parse().ok()?)))
        });
        Ok(dead.collect())
    }

    pub(super) async fn dead_waiting(&self, webhook: &WebhookName) -> Result<u64, StoreError> {
        let keys = self.keys.hub.webhook(webhook);
        self.run(At::Hub, Cmd::new().arg("ZCARD").arg(&keys.waiting)).await
    }

    /// Moves dead letters that wait; returns how many.
    pub(super) async fn move_letters(
        &self,
        webhook: &WebhookName,
        which: &DeadSelection,
        how: LetterMove,
    ) -> Result<u64, StoreError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.dead_letters(webhook, after, false, LETTERS_PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.entry.cursor);
            let is_selected = |dead: &&Dead| match which {
                DeadSelection::All => true,
                DeadSelection::These(these) => these.contains(&dead.entry.cursor),
            };
            // A damaged event cannot be posted.
            let is_movable = |dead: &&Dead| how == LetterMove::Drop || !dead.entry.is_damaged();
            let selected = page.iter().filter(is_selected).filter(is_movable);
            let selected: Vec<_> = selected.map(|dead| dead.entry.cursor).collect();
            count += self.move_these(webhook, &selected, how).await?;
        }
    }

    async fn move_these(
        &self,
        webhook: &WebhookName,
        cursors: &[Cursor],
        how: LetterMove,
    ) -> Result<u64, StoreError> {
        if cursors.is_empty() {
            return Ok(0);
        }
        let keys = self.keys.hub.webhook(webhook);
        let mut call = LETTERS.prepare_invoke();
        call.key(&keys.waiting).key(&keys.back).key(&keys.letters);
        call.arg(match how {
            LetterMove::Back => "back",
            LetterMove::Drop => "drop",
        });
        for cursor in cursors {
            call.arg(letter_id(*cursor));
        }
        self.call(At::Hub, &call).await
    }
}
