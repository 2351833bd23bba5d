//! What this node knows of the logs of all partitions, and the head of the log that they make together.

use std::collections::VecDeque;
use std::time::Instant;

use super::grid::{EntryId, Grid};
use super::place::Place;
use crate::presence::Timestamp;
use crate::store::Cursor;

/// How many last entries of a partition are remembered until the clocks of all partitions are past them.
const PENDING_MAX: usize = 16;

/// The places of all partitions, as this node last heard them.
#[derive(Debug)]
pub(super) struct Places {
    grid: Grid,
    known: Vec<Known>,
}

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
struct Known {
    place: Option<Place>,
    heard: Option<Instant>,
    /// Last entries that are not below the clocks of all partitions yet, the oldest first.
    pending: VecDeque<Cursor>,
    /// The last entry that is.
    settled: Cursor,
    /// No wall deadline is earlier; `None` if the partition has none.
    wall: Option<Timestamp>,
    /// How many wall deadlines this node has committed.
    wall_commits: u64,
}

impl Places {
    pub(super) fn new(grid: Grid) -> Self {
        Self { grid, known: vec![Known::default(); grid.partitions() as usize] }
    }

    /// Notes the place of a partition. Places may arrive out of order.
    pub(super) fn note(&mut self, part: u32, place: Place, now: Instant) {
        let grid = self.grid;
        let known = &mut self.known[part as usize];
        known.heard = known.heard.max(Some(now));
        if known.place.is_some_and(|before| is_older(&place, &before)) {
            return;
        }
        known.place = Some(place);
        let last = grid.cursor(part, place.last);
        if last > known.pending.back().copied().unwrap_or(known.settled) {
            if known.pending.len() == PENDING_MAX {
                known.pending.pop_back();
            }
            known.pending.push_back(last);
        }
    }

    /// The last entry that no earlier entry can follow any more, or the begin of the log. `None` until every
    /// partition was heard, and while the log is only beginning.
    pub(super) fn head(&mut self) -> Option<Cursor> {
        let final_until = self.least_clock()?;
        let begins = self.known.iter().zip(0..);
        let begins =
            begins.filter_map(|(known, part)| Some(self.grid.cursor(part, known.place?.begin)));
        let begin = begins.max().filter(|begin| *begin <= final_until)?;
        for known in &mut self.known {
            while let Some(last) = known.pending.pop_front_if(|last| *last <= final_until) {
                known.settled = last;
            }
        }
        self.known.iter().map(|known| known.settled).chain([begin]).max()
    }

    /// All entries up to here are there: every later entry gets a greater cursor.
    fn least_clock(&self) -> Option<Cursor> {
        let clocks = self.known.iter().zip(0..);
        let clocks = clocks.map(|(known, part)| Some(self.grid.cursor(part, known.place?.clock)));
        clocks.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// The greatest clock of a partition that this node has seen.
    pub(super) fn clock(&self, part: u32) -> EntryId {
        self.known[part as usize].place.map(|place| place.clock).unwrap_or_default()
    }

    /// The number of the last known message of a partition.
    pub(super) fn message(&self, part: u32) -> Option<u64> {
        self.known[part as usize].place.map(|place| place.message)
    }

    /// The entries and bytes that all logs ever had.
    pub(super) fn totals(&self) -> (u64, u64) {
        let places = self.known.iter().filter_map(|known| known.place);
        places
            .fold((0, 0), |(entries, bytes), place| (entries + place.entries, bytes + place.bytes))
    }

    /// Whether a partition was heard since a time.
    pub(super) fn was_heard_since(&self, part: u32, since: Instant) -> bool {
        self.known[part as usize].heard.is_some_and(|heard| heard >= since)
    }

    /// What must be known of a partition before its server is asked for clock and wall deadline: its clock, and
    /// how many wall deadlines this node has committed.
    pub(super) fn before_tick(&self, part: u32) -> (EntryId, u64) {
        (self.clock(part), self.known[part as usize].wall_commits)
    }

    /// Notes the earliest wall deadline of a partition, as the server answered. If this node has committed one
    /// since it asked, the answer may be stale, and the earlier of both counts.
    pub(super) fn set_wall(&mut self, part: u32, asked_at: u64, earliest: Option<Timestamp>) {
        let known = &mut self.known[part as usize];
        known.wall = if known.wall_commits == asked_at {
            earliest
        } else {
            known.wall.into_iter().chain(earliest).min()
        };
    }

    /// Notes a wall deadline that was committed.
    pub(super) fn add_wall(&mut self, part: u32, at: Timestamp) {
        let known = &mut self.known[part as usize];
        known.wall_commits += 1;
        known.wall = known.wall.into_iter().chain([at]).min();
    }

    /// Whether a user of a partition may be due on the wall clock.
    pub(super) fn may_be_due(&self, part: u32, wall: Timestamp) -> bool {
        self.known[part as usize].wall.is_some_and(|earliest| earliest <= wall)
    }
}

/// Whether a place was read before another one of the same partition.
fn is_older(place: &Place, than: &Place) -> bool {
    let order = |place: &Place| (place.clock, place.message, place.begin);
    order(place) < order(than)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Places;
    use crate::clock::monotonic;
    use crate::presence::Timestamp;
    use crate::store::Cursor;
    use crate::store::redis::grid::{EntryId, Grid};
    use crate::store::redis::place::Place;

    const PARTS: u32 = 16;

    fn place(clock: u64, last: u64) -> Place {
        let id = |ms| EntryId { ms, seq: 0 };
        Place { clock: id(clock), entries: 0, bytes: 0, message: 0, begin: id(1), last: id(last) }
    }

    /// Places whose clocks all are at 100.
    fn at_100(now: Instant) -> Places {
        let mut places = Places::new(Grid::new(PARTS));
        for part in 0..PARTS {
            places.note(part, place(100, 1), now);
        }
        places
    }

    fn cursor(part: u32, ms: u64) -> Option<Cursor> {
        Some(Grid::new(PARTS).cursor(part, EntryId { ms, seq: 0 }))
    }

    #[test]
    fn head_is_unknown_until_every_partition_was_heard() {
        let mut places = Places::new(Grid::new(PARTS));
        for part in 0..PARTS {
            assert_eq!(places.head(), None);
            places.note(part, place(100, 1), monotonic());
        }
        assert_eq!(places.head(), cursor(PARTS - 1, 1), "the begin of the log");
    }

    #[test]
    fn head_is_the_last_entry_below_all_clocks() {
        let now = monotonic();
        let mut places = at_100(now);
        places.note(3, place(150, 150), now);
        assert_eq!(
            places.head(),
            cursor(PARTS - 1, 1),
            "other partitions may still add earlier entries"
        );
        for part in (0..PARTS).filter(|part| *part != 3) {
            places.note(part, place(200, 1), now);
        }
        assert_eq!(places.head(), cursor(3, 150));
    }

    #[test]
    fn head_moves_while_every_partition_is_busy() {
        let now = monotonic();
        let mut places = at_100(now);
        for ms in 101..200 {
            for part in 0..PARTS {
                places.note(part, place(ms, ms), now);
            }
        }
        assert_eq!(places.head(), cursor(0, 199), "the least clock is that of partition 0");
    }

    #[test]
    fn a_place_that_arrives_late_is_ignored() {
        let now = monotonic();
        let mut places = at_100(now);
        places.note(3, place(90, 1), now);
        assert_eq!(places.clock(3), EntryId { ms: 100, seq: 0 });
    }

    #[test]
    fn a_stale_answer_hides_no_wall_deadline() {
        let (mut places, at) = (Places::new(Grid::new(PARTS)), Timestamp::from_millis);
        let (_, asked_at) = places.before_tick(3);
        places.add_wall(3, at(10));
        places.set_wall(3, asked_at, Some(at(20)));
        assert_eq!([places.may_be_due(3, at(9)), places.may_be_due(3, at(10))], [false, true]);
        let (_, asked_at) = places.before_tick(3);
        places.set_wall(3, asked_at, None);
        assert!(!places.may_be_due(3, at(100)));
    }

    #[test]
    fn a_log_that_began_anew_moves_the_head() {
        let now = monotonic();
        let mut places = at_100(now);
        for part in 0..PARTS {
            let begin = EntryId { ms: 300, seq: 0 };
            places.note(part, Place { begin, last: begin, ..place(301, 300) }, now);
        }
        assert_eq!(places.head(), cursor(PARTS - 1, 300));
    }
}
