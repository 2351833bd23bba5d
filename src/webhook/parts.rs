//! Splits a batch that is not accepted, so that one user's events do not delay another's.

use super::batch::Batch;
use super::queue::Queue;
use crate::presence::Timestamp;
use crate::store::LogEntry;

/// The maximum number of pending scouts: users taken out of a failing batch, each to be tried alone.
const SCOUTS_MAX: usize = 16;

impl Queue {
    /// Splits a batch into two halves that share no user. If it is one user's, the second half is
    /// left in the log and read again later.
    pub(super) fn halve(&mut self, mut batch: Batch, now: Timestamp) {
        let mut entries = by_user(&mut batch);
        let middle = entries.len() / 2;
        let is_border = |place: &usize| entries[*place - 1].user != entries[*place].user;
        let border = (1..entries.len()).filter(is_border);
        let border = border.min_by_key(|place| place.abs_diff(middle));
        let rest = entries.split_off(border.unwrap_or(middle));
        if border.is_none() {
            if let Some(lag) = self.lags.get_mut(&entries[0].user) {
                lag.more = true;
                lag.behind += rest.len();
            }
            drop(rest);
        } else {
            self.wait(batch.part(rest, now));
        }
        self.wait(batch.part(entries, now));
    }

    /// Splits a batch that keeps failing while others are accepted into one batch per user: one
    /// user's event is the cause, and only that user's events should be delayed.
    pub(super) fn part_users(&mut self, mut batch: Batch) {
        let entries = by_user(&mut batch);
        for of_user in entries.chunk_by(|one, other| one.user == other.user) {
            self.wait(batch.part(of_user.to_vec(), batch.asked_until));
        }
    }

    /// Takes one user, the scout, out of a batch that keeps failing while nothing else is accepted,
    /// to be tried next. If the scout is accepted, the receiver works and the cause is in the rest.
    /// If the receiver is down, this costs only a few more requests.
    pub(super) fn send_scout(&mut self, batch: &mut Batch, now: Timestamp) {
        let scouts = self.waiting.iter().filter(|other| other.is_scout).count();
        if batch.revived || scouts >= SCOUTS_MAX {
            return;
        }
        let Some(user) = batch.entries.last().map(|entry| entry.user.clone()) else { return };
        let entries = std::mem::take(&mut batch.entries);
        let (scouts, rest) = entries.into_iter().partition(|entry| entry.user == user);
        batch.entries = rest;
        // The scout goes first, unless the receiver asked for a pause.
        let is_asked = batch.asked_until > now;
        let retry_at = if is_asked { batch.asked_until } else { Timestamp::default() };
        let scout = Batch { is_scout: true, ..batch.part(scouts, retry_at) };
        self.wait(scout);
    }

    /// Retries the batches that scouts were taken from at once, because a scout was accepted.
    pub(super) fn retry_suspects_now(&mut self) {
        let suspects = self.waiting.iter_mut().filter(|batch| batch.suspicions > 0);
        for batch in suspects {
            batch.retry_at = batch.retry_at.min(batch.asked_until);
        }
    }
}

/// Takes a batch's events, grouped by user.
fn by_user(batch: &mut Batch) -> Vec<LogEntry> {
    let mut entries = std::mem::take(&mut batch.entries);
    entries.sort_by(|one, other| (&one.user, one.cursor).cmp(&(&other.user, other.cursor)));
    entries
}
