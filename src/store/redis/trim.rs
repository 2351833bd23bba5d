//! Trims the log: what is older than `log_ttl`, and what is more than `log_bytes`.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::grid::EntryId;
use super::merge::{Page, merge};
use super::place::{Chain, Place};
use super::router::At;
use super::scripts::{OLDEST, TRIM};
use super::state::{State, TrimAt, place_of};
use crate::presence::Timestamp;
use crate::store::rules::{Fate, Oldest};
use crate::store::{Cursor, Retention, StoreError};

/// How many of the oldest entries of each partition are looked at together.
const PAGE: usize = 100;
/// How many such pages are trimmed in one call.
const PAGES_MAX: usize = 8;

/// One of the oldest entries, without its event.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldEntry {
    part: u32,
    cursor: Cursor,
    id: EntryId,
    chain: Option<Chain>,
    bytes: u64,
}

/// What one look at the oldest entries decided.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cut {
    /// The last entry to delete, of each partition.
    until: BTreeMap<u32, EntryId>,
    /// How many of them the webhook had not read, of each partition.
    lost: BTreeMap<u32, u64>,
    /// When the oldest kept entry expires; `None` if all that were looked at are deleted.
    expiry: Option<Timestamp>,
    bytes: u64,
}

/// Decides about the oldest entries of all partitions, in one order: up to the first that is kept.
fn cut(
    oldest: &[OldEntry],
    mut bytes: u64,
    (retention, log_bytes): (&Retention, u64),
    unread: Option<Cursor>,
    now: Timestamp,
) -> Cut {
    let mut cut = Cut::default();
    for entry in oldest {
        let at = entry.chain.map(|chain| Timestamp::from_millis(chain.at_ms));
        let is_unread = unread.is_some_and(|unread| entry.cursor >= unread);
        let fate = if bytes > log_bytes {
            if is_unread { Fate::Lose } else { Fate::Expire }
        } else {
            let oldest = Oldest { cursor: entry.cursor, at, bytes_from_it: bytes };
            retention.fate(&oldest, unread, now)
        };
        match fate {
            Fate::Keep => {
                cut.expiry = Some(at.unwrap_or_default() + retention.log_ttl);
                break;
            }
            Fate::Expire => (),
            Fate::Lose => *cut.lost.entry(entry.part).or_default() += 1,
        }
        cut.until.insert(entry.part, entry.id);
        bytes -= entry.bytes.min(bytes);
    }
    cut.bytes = bytes;
    cut
}

impl State {
    pub(super) async fn trim_log(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut lost = 0;
        if self.is_nothing_to_trim(now) {
            return Ok(0);
        }
        for _ in 0..PAGES_MAX {
            let (oldest, bytes, entries, is_more) = self.oldest().await?;
            let unread = self.unread().await?;
            let limits = (&self.retention, self.settings.log_bytes);
            let cut = cut(&oldest, bytes, limits, unread, now);
            let (_, all_bytes) = self.places.lock().totals();
            *self.trim.lock() = match cut.expiry {
                Some(expiry) => {
                    TrimAt::NotBefore { expiry, bytes_before: all_bytes.saturating_sub(cut.bytes) }
                }
                None if oldest.is_empty() => TrimAt::Entries(entries),
                None => TrimAt::Now,
            };
            let kept = self.kept();
            let trims = cut.until.iter().filter(|(part, _)| kept.contains(part));
            try_join_all(trims.map(|(part, id)| self.trim_part(*part, *id))).await?;
            lost += cut
                .lost
                .iter()
                .filter(|(part, _)| kept.contains(part))
                .map(|(_, n)| n)
                .sum::<u64>();
            if cut.expiry.is_some() || !is_more {
                break;
            }
        }
        Ok(lost)
    }

    /// Whether the last look and what was heard since show that nothing can have expired.
    fn is_nothing_to_trim(&self, now: Timestamp) -> bool {
        let (entries, bytes) = self.places.lock().totals();
        match *self.trim.lock() {
            TrimAt::Now => false,
            TrimAt::NotBefore { expiry, bytes_before } => {
                now <= expiry && bytes.saturating_sub(bytes_before) <= self.settings.log_bytes
            }
            TrimAt::Entries(before) => entries == before,
        }
    }

    /// Reads the oldest entries of all partitions, and how many bytes and entries the log has and had.
    async fn oldest(&self) -> Result<(Vec<OldEntry>, u64, u64, bool), StoreError> {
        let reads = try_join_all(self.grid.parts().map(|part| self.oldest_of(part))).await?;
        let (mut pages, mut bytes, mut all) = (Vec::new(), 0, 0);
        for (place, entries) in reads.into_iter().flatten() {
            all += place.entries;
            if let Some(OldEntry { chain: Some(chain), bytes: own, .. }) = entries.first() {
                bytes += place.bytes + own - chain.bytes;
            }
            pages.push(Page { is_full: entries.len() == PAGE, items: entries });
        }
        let (oldest, is_more) = merge(pages, |entry| entry.cursor);
        Ok((oldest, bytes, all, is_more))
    }

    async fn oldest_of(&self, part: u32) -> Result<Option<(Place, Vec<OldEntry>)>, StoreError> {
        let keys = self.keys(part);
        let mut call = OLDEST.prepare_invoke();
        call.key(&keys.place).key(&keys.log).arg(PAGE);
        let answer: Vec<String> = self.call(At::Part(part), &call).await?;
        let Some((place, entries)) = answer.split_first().filter(|(place, _)| !place.is_empty())
        else {
            return Ok(None);
        };
        let place = place_of(place)?;
        self.note_place(part, place);
        let entry = |fields: &[String]| {
            let id: EntryId = fields[0].parse().ok()?;
            let (chain, bytes) = (fields[1].parse().ok(), fields[2].parse().ok()?);
            Some(OldEntry { part, cursor: self.grid.cursor(part, id), id, chain, bytes })
        };
        Ok(Some((place, entries.chunks_exact(3).filter_map(entry).collect())))
    }

    async fn trim_part(&self, part: u32, until: EntryId) -> Result<(), StoreError> {
        let keys = self.keys(part);
        let mut call = TRIM.prepare_invoke();
        call.key(&keys.log).key(&keys.place).arg(until.ms).arg(until.seq);
        let place: String = self.call(At::Part(part), &call).await?;
        self.note_place(part, place_of(&place)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cut, OldEntry, cut};
    use crate::presence::Timestamp;
    use crate::store::redis::grid::{EntryId, Grid};
    use crate::store::redis::place::Chain;
    use crate::store::{Cursor, Retention};

    const RETENTION: Retention =
        Retention { log_ttl: Duration::from_secs(100), backlog_bytes_max: 250 };

    /// Entries of 100 bytes, one a second, each in the next of two partitions.
    fn entries(count: u64) -> Vec<OldEntry> {
        let entry = |n: u64| {
            let (part, id) = ((n % 2) as u32, EntryId { ms: 1000 * n, seq: 0 });
            let chain = Some(Chain { entries: n, bytes: 100 * n, at_ms: 1000 * n });
            OldEntry { part, cursor: Grid::new(64).cursor(part, id), id, chain, bytes: 100 }
        };
        (1..=count).map(entry).collect()
    }

    fn cut_at(secs: u64, log_bytes: u64, unread: Option<Cursor>) -> Cut {
        let now = Timestamp::from_millis(secs * 1000);
        cut(&entries(5), 500, (&RETENTION, log_bytes), unread, now)
    }

    /// The seconds of the last deleted entries of the two partitions, and how many were lost.
    fn outcome(cut: &Cut) -> (Vec<u64>, u64) {
        (cut.until.values().map(|id| id.ms / 1000).collect(), cut.lost.values().sum())
    }

    #[test]
    fn expired_entries_go_in_one_order() {
        let cut = cut_at(104, 1000, None);
        assert_eq!(outcome(&cut), (vec![2, 3], 0));
        assert_eq!((cut.bytes, cut.expiry), (200, Some(Timestamp::from_millis(104_000))));
        assert_eq!(outcome(&cut_at(101, 1000, None)), (vec![], 0));
        assert_eq!(cut_at(200, 1000, None).expiry, None);
    }

    #[test]
    fn unread_entries_stay_up_to_their_own_size() {
        let unread = Some(entries(5)[1].cursor);
        assert_eq!(outcome(&cut_at(200, 1000, unread)), (vec![2, 3], 2));
    }

    #[test]
    fn log_bytes_wins_over_unread_entries() {
        let unread = Some(Cursor(0));
        let cut = cut_at(0, 300, unread);
        assert_eq!((outcome(&cut), cut.bytes), ((vec![2, 1], 2), 300));
    }
}
