use super::batch::Batch;
use super::queue::Queue;
use crate::presence::Timestamp;
use crate::store::LogEntry;

/// How many users may wait at once who were each taken out of a batch to try it without them.
const SCOUTS_MAX: usize = 16;

/// How a batch that is not accepted comes apart, so that one user's events do not hold up another's.
impl Queue {
    /// Makes two of a batch, no user in both. Of a single user's, the second half goes back to the
    /// log.
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

    /// Makes a batch for each user of one that keeps failing while others are accepted: one user's
    /// event is the cause, and only that user's are to wait.
    pub(super) fn part_users(&mut self, mut batch: Batch) {
        let entries = by_user(&mut batch);
        for of_user in entries.chunk_by(|one, other| one.user == other.user) {
            self.wait(batch.part(of_user.to_vec(), batch.asked_until));
        }
    }

    /// Takes one user out of a batch that keeps failing while nothing else is accepted, to be tried
    /// next. If that is accepted, the receiver works, and the cause is in the rest. If the receiver is
    /// down, little is lost: a few requests more.
    pub(super) fn send_scout(&mut self, batch: &mut Batch, now: Timestamp) {
        let scouts = self.waiting.iter().filter(|other| other.is_scout).count();
        if batch.revived || scouts >= SCOUTS_MAX {
            return;
        }
        let Some(user) = batch.entries.last().map(|entry| entry.user.clone()) else { return };
        let entries = std::mem::take(&mut batch.entries);
        let (scouts, rest) = entries.into_iter().partition(|entry| entry.user == user);
        batch.entries = rest;
        // Before everything else that waits, unless the receiver asks to be left alone.
        let is_asked = batch.asked_until > now;
        let retry_at = if is_asked { batch.asked_until } else { Timestamp::default() };
        let scout = Batch { is_scout: true, ..batch.part(scouts, retry_at) };
        self.wait(scout);
    }

    /// A scout was accepted: tries the batches at once from which scouts were taken.
    pub(super) fn hurry_suspects(&mut self) {
        let suspects = self.waiting.iter_mut().filter(|batch| batch.suspicions > 0);
        for batch in suspects {
            batch.retry_at = batch.retry_at.min(batch.asked_until);
        }
    }
}

/// A batch's events, user by user.
fn by_user(batch: &mut Batch) -> Vec<LogEntry> {
    let mut entries = std::mem::take(&mut batch.entries);
    entries.sort_by(|one, other| (&one.user, one.cursor).cmp(&(&other.user, other.cursor)));
    entries
}
