//! The queue of pending events: which batch is posted next, and what to save as progress.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Blame, First, Setback};
use super::health::Pauses;
use crate::presence::{Timestamp, UserId};
use crate::store::{Cursor, HeldUser, LogEntry, Progress, Save};

/// The maximum number of events that wait for a retry; beyond it no new events are read.
const WAITING_MAX: usize = 10_000;
/// After this many failures of a batch, one of its users is suspected to be the cause.
const SUSPICIONS: u32 = 2;

/// The pending events and their order, without a clock or a network.
///
/// The log is scanned once, from the saved position on. A user with a pending event *lags* and is in
/// at most one batch at a time. Later events of that user are left in the log, and are read when the
/// batch is done. So a user costs a bounded amount of memory, however many events are pending.
#[derive(Debug)]
pub struct Queue {
    /// How far the log was scanned.
    scanned: Cursor,
    /// The users with pending events.
    pub(super) lags: HashMap<UserId, Lag>,
    /// The lagging users that are in no batch.
    ready: VecDeque<UserId>,
    /// Batches that wait for a retry.
    pub(super) waiting: Vec<Batch>,
    /// Dead letters that were put back and are not in flight, sorted by cursor.
    letters: Vec<Batch>,
    /// Dead letters that were put back and are in flight: their users' other events are held back.
    reviving: HashMap<UserId, Cursor>,
    /// Users whose held state may differ from the saved progress.
    touched: HashSet<UserId>,
}

/// The pending events of one user.
#[derive(Debug, Clone)]
pub(super) struct Lag {
    /// The first pending event.
    from: Cursor,
    /// Whether the log has more pending events than the user's batch.
    pub(super) more: bool,
    /// The number of scanned events that are left in the log.
    pub(super) behind: usize,
    /// Set if an event was not accepted: the user is *held*.
    refusal: Option<Attempts>,
}

#[derive(Debug, Clone)]
struct Attempts {
    first: First,
    attempts: u32,
    error: Arc<str>,
}

impl Queue {
    /// Continues from saved progress; `worked` is the receiver's working time so far.
    pub fn new(progress: Progress, worked: Duration) -> Self {
        let mut queue = Self {
            scanned: progress.position,
            lags: HashMap::new(),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            letters: Vec::new(),
            reviving: HashMap::new(),
            touched: HashSet::new(),
        };
        let Progress { held, behind, .. } = progress;
        for HeldUser { user, from, refused, worked_ms, attempts, last_error } in held {
            let worked = worked.saturating_sub(Duration::from_millis(worked_ms));
            let first = First { at: refused, worked };
            let refusal = Some(Attempts { first, attempts, error: last_error.into() });
            let behind = behind.get(&user).copied().unwrap_or_default();
            queue.ready.push_back(user.clone());
            queue.lags.insert(user, Lag { from, more: false, behind, refusal });
        }
        queue
    }

    /// How far the log was scanned.
    pub const fn scanned(&self) -> Cursor {
        self.scanned
    }

    /// Continues the scan at a later cursor, because the log dropped the entries before it.
    pub fn skip_to(&mut self, scanned: Cursor) {
        self.scanned = self.scanned.max(scanned);
    }

    /// Whether so few events wait for a retry that new ones may be read.
    pub fn has_room(&self) -> bool {
        self.waiting_events() < WAITING_MAX
    }

    /// The number of events that wait for a retry.
    pub fn waiting_events(&self) -> usize {
        let waiting = self.waiting.iter().chain(&self.letters);
        waiting.map(|batch| batch.entries.len()).sum()
    }

    /// The number of events that were scanned and left in the log.
    pub fn left_in_log(&self) -> usize {
        self.lags.values().map(|lag| lag.behind).sum()
    }

    /// The number of users held because an event was not accepted.
    pub fn held_users(&self) -> usize {
        self.lags.values().filter(|lag| lag.refusal.is_some()).count()
    }

    /// When the oldest event that was not accepted was first tried.
    pub fn held_since(&self) -> Option<Timestamp> {
        let refusals = self.lags.values().filter_map(|lag| lag.refusal.as_ref());
        refusals.map(|refusal| refusal.first.at).min()
    }

    // Making batches.

    /// The next user whose events must be read from the log, the cursor to read from, and whether
    /// they go into a batch of their own, because one was not accepted before.
    pub fn next_ready(&mut self) -> Option<(UserId, Cursor, bool)> {
        let place = self.ready.iter().position(|user| !self.reviving.contains_key(user))?;
        let user = self.ready.remove(place)?;
        let lag = self.lags.get(&user)?;
        Some((user, lag.from, lag.refusal.is_some()))
    }

    /// Puts a ready user back to the front.
    pub fn not_yet(&mut self, user: UserId) {
        self.ready.push_front(user);
    }

    /// Adds the events that were read for a ready user to a batch; `is_all` says that the log has no
    /// more. Returns the damaged entries, which go into no batch.
    pub fn take_up(
        &mut self,
        batch: &mut Batch,
        user: &UserId,
        read: Vec<LogEntry>,
        is_all: bool,
    ) -> Vec<LogEntry> {
        let Some(lag) = self.lags.get_mut(user) else { return Vec::new() };
        let scanned = self.scanned;
        // Entries beyond the scan are left to the scan, or they would be posted twice.
        let known: Vec<_> = read.into_iter().filter(|entry| entry.cursor <= scanned).collect();
        let (count, last) = (known.len(), known.last().map(|entry| entry.cursor));
        let (damaged, whole): (Vec<_>, Vec<_>) = known.into_iter().partition(LogEntry::is_damaged);
        lag.behind = if is_all { 0 } else { lag.behind.saturating_sub(count) };
        match (whole.first(), last) {
            (Some(first), _) => lag.from = first.cursor,
            (None, Some(last)) if !is_all => {
                lag.from = Cursor(last.0 + 1);
                self.ready.push_front(user.clone());
                return damaged;
            }
            (None, _) => {
                self.lags.remove(user);
                self.touched.insert(user.clone());
                return damaged;
            }
        }
        lag.more = !is_all;
        if let Some(Attempts { first, attempts, error }) = &lag.refusal {
            batch.refused = Some(*first);
            batch.attempts = *attempts;
            batch.error = Arc::clone(error);
        }
        batch.entries.extend(whole);
        damaged
    }

    /// Scans the next log entry and adds it to the batch, unless its user lags already. Returns the
    /// entry if it is damaged and will not be read again.
    pub fn scan(&mut self, batch: &mut Batch, entry: LogEntry) -> Option<LogEntry> {
        self.scanned = entry.cursor;
        if let Some(lag) = self.lags.get_mut(&entry.user) {
            let is_next = !lag.more && batch.entries.iter().any(|other| other.user == entry.user);
            if !is_next {
                lag.more = true;
                lag.behind += 1;
                return None;
            }
            if entry.is_damaged() {
                return Some(entry);
            }
            batch.entries.push(entry);
            return None;
        }
        if entry.is_damaged() {
            return Some(entry);
        }
        let is_reviving = self.reviving.contains_key(&entry.user);
        let behind = usize::from(is_reviving);
        let lag = Lag { from: entry.cursor, more: is_reviving, behind, refusal: None };
        self.lags.insert(entry.user.clone(), lag);
        if is_reviving {
            self.ready.push_back(entry.user);
        } else {
            batch.entries.push(entry);
        }
        None
    }

    /// Adds a dead letter that was put back, unless it is pending already.
    pub fn revive(&mut self, entry: LogEntry, now: Timestamp) {
        let is_under_way = self.reviving.get(&entry.user) == Some(&entry.cursor);
        let place = self.letters.binary_search_by_key(&Some(entry.cursor), Batch::first);
        if let Err(place) = place
            && !is_under_way
        {
            let (entries, retry_at) = (vec![entry], now);
            let letter = Batch { entries, revived: true, retry_at, ..Batch::default() };
            self.letters.insert(place, letter);
        }
    }

    /// Takes the batch that has been due for longest, if any is due.
    pub fn due(&mut self, now: Timestamp) -> Option<Batch> {
        let (batch, letter) = (self.next_batch(), self.next_letter());
        let is_letter = match (batch, letter) {
            (Some((batch, _)), Some((letter, _))) => letter < batch,
            (batch, _) => batch.is_none(),
        };
        let (retry_at, place) = if is_letter { letter? } else { batch? };
        if retry_at > now {
            return None;
        }
        if !is_letter {
            return Some(self.waiting.swap_remove(place));
        }
        let letter = self.letters.remove(place);
        self.reviving.extend(letter.entries.iter().map(|entry| (entry.user.clone(), entry.cursor)));
        Some(letter)
    }

    /// When the next batch is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let next = self.next_batch().into_iter().chain(self.next_letter());
        next.map(|(retry_at, _)| retry_at).min()
    }

    /// The due time and index of the next batch that is not a dead letter.
    fn next_batch(&self) -> Option<(Timestamp, usize)> {
        let is_free = |batch: &Batch| {
            self.reviving.is_empty()
                || batch.entries.iter().all(|entry| !self.reviving.contains_key(&entry.user))
        };
        let waiting = self.waiting.iter().enumerate().filter(|(_, batch)| is_free(batch));
        waiting.map(|(place, batch)| (batch.retry_at, place)).min()
    }

    /// The due time and index of the next dead letter. A user's letters go one by one, in order, and
    /// never while another event of the user is in flight.
    fn next_letter(&self) -> Option<(Timestamp, usize)> {
        let mut seen: HashSet<_> = self.reviving.keys().collect();
        let letters = self.letters.iter().enumerate().filter(move |(_, letter)| {
            letter.entries.first().is_some_and(|entry| seen.insert(&entry.user))
        });
        let free = letters.filter(|(_, letter)| {
            letter.entries.iter().all(|entry| !self.is_under_way(&entry.user))
        });
        free.map(|(place, letter)| (letter.retry_at, place)).min()
    }

    /// Whether an event of the user is in flight that is not a dead letter.
    fn is_under_way(&self, user: &UserId) -> bool {
        let waits = |batch: &Batch| batch.entries.iter().any(|entry| entry.user == *user);
        self.lags.contains_key(user)
            && !self.ready.contains(user)
            && !self.waiting.iter().any(waits)
    }

    /// Makes every batch due, except for pauses that the receiver asked for. Called when the receiver
    /// works again: failures while it was down must not lengthen the pauses after the next failure.
    pub fn hurry(&mut self, now: Timestamp) {
        for batch in self.waiting.iter_mut().chain(&mut self.letters) {
            batch.pauses = Pauses::default();
            batch.retry_at = batch.retry_at.min(batch.asked_until.max(now));
        }
    }

    // Recording results.

    /// Records that a batch was accepted or is dead; returns the cursors of delivered dead letters.
    pub fn done(&mut self, batch: Batch) -> Vec<Cursor> {
        if batch.revived {
            self.end_revival(&batch);
            return batch.entries.into_iter().map(|entry| entry.cursor).collect();
        }
        if batch.is_scout {
            self.retry_suspects_now();
        }
        for entry in batch.entries {
            if let Some(lag) = self.lags.get_mut(&entry.user) {
                lag.from = lag.from.max(Cursor(entry.cursor.0 + 1));
                if lag.refusal.take().is_some() {
                    self.touched.insert(entry.user.clone());
                }
            }
            self.release(&entry.user);
        }
        Vec::new()
    }

    /// Records that no event of a user is in flight any more.
    fn release(&mut self, user: &UserId) {
        if let Some(lag) = self.lags.get_mut(user) {
            if !lag.more {
                self.lags.remove(user);
            } else if !self.ready.contains(user) {
                self.ready.push_back(user.clone());
            }
        }
    }

    /// Schedules a batch that was not accepted for a retry, whole or split; returns it if it must be
    /// given up.
    pub fn set_back(&mut self, mut batch: Batch, why: &Setback, now: Timestamp) -> Option<Batch> {
        self.end_revival(&batch);
        let first = *batch.refused.get_or_insert(First { at: now, worked: why.worked });
        batch.attempts += 1;
        batch.error = Arc::clone(&why.error);
        let failed_before = std::mem::replace(&mut batch.failed_at, now);
        let is_over = why.worked.saturating_sub(first.worked) >= why.give_up_after;
        let stands_alone = batch.entries.len() == 1;
        if is_over && stands_alone {
            return Some(batch);
        }
        if (why.blame == Blame::Event || is_over) && !stands_alone {
            self.halve(batch, now);
            return None;
        }
        batch.asked_until = now + why.retry_after.unwrap_or_default();
        if why.blame == Blame::Unclear {
            batch.suspicions += 1;
            if batch.suspicions >= SUSPICIONS && batch.users() > 1 {
                if why.last_success.is_some_and(|success| success >= failed_before) {
                    self.part_users(batch);
                    return None;
                }
                self.send_scout(&mut batch, now);
            }
        }
        let left = why.give_up_after.saturating_sub(why.worked.saturating_sub(first.worked));
        batch.retry_at = now + batch.pauses.next(left).max(why.retry_after.unwrap_or_default());
        self.wait(batch);
        None
    }

    /// Records that a dead letter that was put back is no longer in flight.
    fn end_revival(&mut self, batch: &Batch) {
        for entry in batch.entries.iter().filter(|_| batch.revived) {
            self.reviving.remove(&entry.user);
        }
    }

    /// Adds a batch that waits for a retry.
    pub fn wait(&mut self, batch: Batch) {
        if batch.revived {
            let place = self.letters.partition_point(|other| other.first() < batch.first());
            return self.letters.insert(place, batch);
        }
        for entry in &batch.entries {
            if let Some(lag) = self.lags.get_mut(&entry.user) {
                lag.refusal = batch.refused.map(|first| Attempts {
                    first,
                    attempts: batch.attempts,
                    error: Arc::clone(&batch.error),
                });
                self.touched.insert(entry.user.clone());
            }
        }
        self.waiting.push(batch);
    }

    // Progress.

    /// Every event up to here is delivered or dead, except those of held users.
    pub fn position(&self) -> Cursor {
        let lags = self.lags.values().filter(|lag| lag.refusal.is_none());
        let first = lags.map(|lag| Cursor(lag.from.0.saturating_sub(1))).min();
        first.unwrap_or(self.scanned).min(self.scanned)
    }

    /// Every event up to here is delivered or dead: the log is kept from there on.
    pub fn kept_after(&self) -> Cursor {
        let first = self.lags.values().map(|lag| Cursor(lag.from.0.saturating_sub(1))).min();
        first.unwrap_or(self.scanned).min(self.scanned)
    }

    /// Takes the progress since the last save; `worked` is the receiver's working time.
    pub fn save(&mut self, worked: Duration) -> Save {
        let mut save = Save { position: self.position(), ..Save::default() };
        for user in self.touched.drain() {
            let lag = self.lags.get(&user);
            match lag.and_then(|lag| Some((lag.from, lag.refusal.as_ref()?))) {
                Some((from, Attempts { first, attempts, error })) => save.held.push(HeldUser {
                    user,
                    from,
                    refused: first.at,
                    worked_ms: millis(worked.saturating_sub(first.worked)),
                    attempts: *attempts,
                    last_error: error.to_string(),
                }),
                None => save.freed.push(user),
            }
        }
        save
    }

    /// Takes back progress that could not be saved.
    pub fn unsaved(&mut self, save: Save) {
        self.touched.extend(save.held.into_iter().map(|held| held.user));
        self.touched.extend(save.freed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
