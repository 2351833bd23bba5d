//! Reads the log: one order of the entries of all partitions, a user's history, and what is behind a cursor.

use futures::future::try_join_all;

use super::grid::EntryId;
use super::merge::{Page, merge, share};
use super::place::{Chain, Place};
use super::router::At;
use super::row;
use super::scripts::{HISTORY, READ};
use super::state::{State, place_of};
use crate::presence::{Timestamp, UserId};
use crate::store::{Backlog, Cursor, Damaged, HistoryPart, LogEntry, StoreError};

/// How many entries of a chain one script call follows. A script must not hold the server up.
const HOPS: usize = 50;

/// Some entries of one partition, and its place at the same moment.
struct PartRead {
    place: Place,
    entries: Vec<(LogEntry, Option<Chain>)>,
    is_full: bool,
}

impl State {
    pub(super) async fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.merged(after, limit, after).await
    }

    /// Reads what is left after a cursor, even if it has expired.
    pub(super) async fn left(
        &self,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.merged(Some(after), limit, None).await
    }

    /// Reads entries after a cursor; `checked` is the cursor if it may have expired.
    async fn merged(
        &self,
        after: Option<Cursor>,
        limit: usize,
        checked: Option<Cursor>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let (mut begin, mut read) = (after, Vec::new());
        while read.len() < limit {
            let size = share(limit - read.len(), self.grid.partitions() as usize);
            let Some(parts) = self.read_all(begin, size).await? else { break };
            // Only a cursor of the caller may have expired: the others were just read.
            if let Some(checked) = checked.filter(|checked| begin == Some(*checked)) {
                self.check_issued(checked, &parts).await?;
            }
            let clocks = self.grid.parts().zip(&parts);
            let clocks = clocks.map(|(part, read)| self.grid.cursor(part, read.place.clock));
            let final_until = clocks.min().unwrap_or_default();
            let pages = parts.into_iter().map(|read| Page {
                items: read.entries.into_iter().map(|(entry, _)| entry).collect(),
                is_full: read.is_full,
            });
            let (mut entries, is_more) = merge(pages.collect(), |entry: &LogEntry| entry.cursor);
            let count = entries.len();
            entries.retain(|entry| entry.cursor <= final_until);
            let is_cut = entries.len() < count;
            begin = entries.last().map(|entry| entry.cursor).or(begin);
            read.extend(entries);
            if is_cut || !is_more {
                break;
            }
        }
        read.truncate(limit);
        Ok(read)
    }

    /// Reads entries of all partitions after a cursor. `None` if there is no log yet.
    async fn read_all(
        &self,
        after: Option<Cursor>,
        size: usize,
    ) -> Result<Option<Vec<PartRead>>, StoreError> {
        let reads = self.grid.parts().map(|part| {
            let first =
                after.map_or(EntryId::default(), |after| self.grid.first_after(part, after));
            self.read(part, first, size)
        });
        let parts: Option<Vec<_>> = try_join_all(reads).await?.into_iter().collect();
        // Redis was emptied a moment ago; the next ticks begin a new log.
        if parts.is_none() && after.is_some() { Err(StoreError::CursorExpired) } else { Ok(parts) }
    }

    /// Reads entries of one partition, from an id on. `None` if it has no log yet.
    async fn read(
        &self,
        part: u32,
        first: EntryId,
        size: usize,
    ) -> Result<Option<PartRead>, StoreError> {
        let keys = self.keys(part);
        let mut call = READ.prepare_invoke();
        call.key(&keys.place).key(&keys.log).arg(first.to_string()).arg(size);
        let answer: Vec<Vec<u8>> = self.call(At::Part(part), &call).await?;
        let Some((place, entries)) = answer.split_first() else { return Ok(None) };
        if place.is_empty() {
            return Ok(None);
        }
        let place = place_of(&String::from_utf8_lossy(place))?;
        let is_full = entries.len() / 4 == size;
        let entries = entries.chunks_exact(4).filter_map(|entry| self.entry(part, entry)).collect();
        Ok(Some(PartRead { place, entries, is_full }))
    }

    fn entry(&self, part: u32, fields: &[Vec<u8>]) -> Option<(LogEntry, Option<Chain>)> {
        let [id, user, event, chain] = fields else { return None };
        let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
        let cursor = self.grid.cursor(part, text(id)?.parse().ok()?);
        let user = UserId::stored(&text(user)?).ok()?;
        let event = text(event).map(Into::into).ok_or(Damaged);
        let chain = text(chain).and_then(|chain| chain.parse().ok());
        Some((LogEntry { cursor, user, event }, chain))
    }

    /// Checks that the log has all entries after a cursor, and that it issued the cursor: as that of an
    /// entry, as the one before an entry, or as the begin of the log.
    async fn check_issued(&self, cursor: Cursor, parts: &[PartRead]) -> Result<(), StoreError> {
        let begins = self.grid.parts().zip(parts);
        let begins = begins.map(|(part, read)| self.grid.cursor(part, read.place.begin));
        let begins: Vec<_> = begins.collect();
        if begins.iter().any(|begin| cursor < *begin) {
            return Err(StoreError::CursorExpired);
        }
        let next = Cursor(cursor.0.saturating_add(1));
        if begins.contains(&cursor) || self.has_entry(cursor).await? || self.has_entry(next).await?
        {
            Ok(())
        } else {
            Err(StoreError::CursorExpired)
        }
    }

    async fn has_entry(&self, cursor: Cursor) -> Result<bool, StoreError> {
        let (part, id) = self.grid.entry(cursor);
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.keys(part).log).arg(id.to_string()).arg(id.to_string());
        let found: Vec<redis::Value> = self.run(At::Part(part), &command).await?;
        Ok(!found.is_empty())
    }

    pub(super) async fn history(
        &self,
        user: &UserId,
        part: HistoryPart,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let (after, before, newest) = match part {
            HistoryPart::After(cursor) => (cursor, None, usize::MAX),
            HistoryPart::Before(before) => (Cursor::default(), before, limit),
        };
        let mut entries = self.newest_first(user, after, before, newest).await?;
        if let HistoryPart::After(_) = part {
            entries.reverse();
            entries.truncate(limit);
        }
        Ok(entries)
    }

    /// Follows the chain of a user's entries, from the newest on, and returns those between two cursors.
    async fn newest_first(
        &self,
        user: &UserId,
        after: Cursor,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let (part, row) = (self.part_of(user), self.row(user).await?);
        let mut next = row.as_deref().and_then(row::last_entry).unwrap_or_default().to_owned();
        let mut found = Vec::new();
        while !next.is_empty() && found.len() < limit {
            let hops = HOPS.min((limit - found.len()).max(8));
            let mut call = HISTORY.prepare_invoke();
            call.key(&self.keys(part).log).arg(&next).arg(hops);
            let answer: Vec<Vec<u8>> = self.call(At::Part(part), &call).await?;
            next = answer
                .first()
                .map(|id| String::from_utf8_lossy(id).into_owned())
                .unwrap_or_default();
            for entry in answer.get(1..).unwrap_or_default().chunks_exact(2) {
                let Ok(id) = String::from_utf8_lossy(&entry[0]).parse() else { continue };
                let cursor = self.grid.cursor(part, id);
                if cursor <= after || found.len() == limit {
                    return Ok(found);
                }
                if before.is_none_or(|before| cursor < before) {
                    let event = str::from_utf8(&entry[1]).map(Into::into).map_err(|_| Damaged);
                    found.push(LogEntry { cursor, user: user.clone(), event });
                }
            }
        }
        Ok(found)
    }

    /// Measures the log by the running totals of each partition: those of its place, less those before the
    /// first entry after the cursor.
    pub(super) async fn backlog(&self, after: Cursor) -> Result<Backlog, StoreError> {
        let Some(parts) = self.read_all(Some(after), 1).await? else {
            return Ok(Backlog::default());
        };
        let mut backlog = Backlog::default();
        let mut oldest: Option<(Cursor, Timestamp)> = None;
        for read in parts {
            let Some((entry, Some(chain))) = read.entries.first() else { continue };
            backlog.entries += read.place.entries + 1 - chain.entries;
            backlog.bytes += read.place.bytes + entry.bytes() as u64 - chain.bytes;
            let first = (entry.cursor, Timestamp::from_millis(chain.at_ms));
            oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
        }
        backlog.oldest = oldest.map(|(_, at)| at);
        Ok(backlog)
    }
}
