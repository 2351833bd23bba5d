//! Cursors of a log that consists of one stream for each partition.

use std::fmt;
use std::str::FromStr;

use crate::store::Cursor;

/// The bits of a cursor below its milliseconds: the sequence number, then the partition.
const BITS_BELOW_MS: u32 = 20;

/// The id of an entry in its partition's stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryId {
    pub(super) ms: u64,
    pub(super) seq: u64,
}

/// A text that is not the id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAnEntry;

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = NotAnEntry;

    fn from_str(text: &str) -> Result<Self, NotAnEntry> {
        let (ms, seq) = text.split_once('-').ok_or(NotAnEntry)?;
        let [ms, seq] = [ms, seq].map(|number| number.parse().map_err(|_| NotAnEntry));
        Ok(Self { ms: ms?, seq: seq? })
    }
}

/// How a cursor contains the partition: `ms << 20 | seq << log2(partitions) | partition`. So the order of
/// cursors is one order of the entries of all partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    bits: u32,
}

impl Grid {
    /// The number of partitions must be a power of two.
    pub(super) fn new(partitions: u32) -> Self {
        Self { bits: partitions.trailing_zeros() }
    }

    pub(super) fn partitions(self) -> u32 {
        1 << self.bits
    }

    pub(super) fn parts(self) -> impl Iterator<Item = u32> {
        0..self.partitions()
    }

    /// The greatest sequence number that fits in a cursor.
    pub(super) fn seq_max(self) -> u64 {
        (1 << (BITS_BELOW_MS - self.bits)) - 1
    }

    pub(super) fn cursor(self, part: u32, id: EntryId) -> Cursor {
        Cursor(id.ms << BITS_BELOW_MS | id.seq << self.bits | u64::from(part))
    }

    /// The partition and the entry of a cursor.
    pub(super) fn entry(self, cursor: Cursor) -> (u32, EntryId) {
        let below_ms = cursor.0 & ((1 << BITS_BELOW_MS) - 1);
        let part = below_ms & (u64::from(self.partitions()) - 1);
        let id = EntryId { ms: cursor.0 >> BITS_BELOW_MS, seq: below_ms >> self.bits };
        (u32::try_from(part).unwrap_or_default(), id)
    }

    /// The first id of a partition whose cursor is after this one.
    pub(super) fn first_after(self, part: u32, cursor: Cursor) -> EntryId {
        let (of, id) = self.entry(cursor);
        if part > of { id } else { EntryId { seq: id.seq + 1, ..id } }
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryId, Grid, NotAnEntry};
    use crate::store::Cursor;

    const ID: EntryId = EntryId { ms: 1_796_000_000_123, seq: 77 };

    #[test]
    fn a_cursor_names_its_partition_and_entry() {
        for partitions in [16, 64, 1024] {
            let grid = Grid::new(partitions);
            let last = EntryId { seq: grid.seq_max(), ..ID };
            for (part, id) in [(0, ID), (partitions - 1, ID), (partitions - 1, last)] {
                assert_eq!(grid.entry(grid.cursor(part, id)), (part, id));
            }
            let next = EntryId { ms: ID.ms + 1, seq: 0 };
            assert!(grid.cursor(partitions - 1, last) < grid.cursor(0, next));
        }
    }

    #[test]
    fn cursors_are_ordered_by_time_then_number_then_partition() {
        let grid = Grid::new(64);
        let next = EntryId { seq: ID.seq + 1, ..ID };
        let cursors = [grid.cursor(3, ID), grid.cursor(4, ID), grid.cursor(0, next)];
        assert!(cursors.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn first_id_after_a_cursor_is_the_least_with_a_greater_cursor() {
        let grid = Grid::new(64);
        let cursor = grid.cursor(9, ID);
        for part in [0, 8, 9, 10, 63] {
            let first = grid.first_after(part, cursor);
            assert!(grid.cursor(part, first) > cursor);
            let before = EntryId { seq: first.seq - 1, ..first };
            assert!(grid.cursor(part, before) <= cursor);
        }
        assert_eq!(
            grid.first_after(5, Cursor(0)),
            EntryId::default().max(EntryId { ms: 0, seq: 0 })
        );
    }

    #[test]
    fn entry_ids_are_written_as_redis_does() {
        assert_eq!(ID.to_string().parse(), Ok(ID));
        for wrong in ["", "1", "-", "1-", "-1", "1-2-3", "a-1"] {
            assert_eq!(wrong.parse::<EntryId>(), Err(NotAnEntry), "{wrong}");
        }
    }
}
