//! The place of a partition's log, as the scripts write it (`place.lua`).

use std::str::FromStr;

use super::grid::EntryId;

/// How far a partition's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Every later entry gets a greater id.
    pub(super) clock: EntryId,
    /// How many entries the log ever had.
    pub(super) entries: u64,
    /// How many bytes of events it ever had.
    pub(super) bytes: u64,
    /// The number of the last message on the feed.
    pub(super) message: u64,
    /// The log is whole after this id.
    pub(super) begin: EntryId,
    /// The id of the last entry; `begin` of a log that never had one.
    pub(super) last: EntryId,
}

/// A text that no script wrote as a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the place of a partition's log is not readable")]
pub(super) struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let fields: Vec<_> = text.split(' ').collect();
        let [ms, seq, entries, bytes, message, begin, last] = fields[..] else {
            return Err(NotAPlace);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotAPlace);
        let id = |text: &str| text.parse::<EntryId>().map_err(|_| NotAPlace);
        Ok(Self {
            clock: EntryId { ms: number(ms)?, seq: number(seq)? },
            entries: number(entries)?,
            bytes: number(bytes)?,
            message: number(message)?,
            begin: id(begin)?,
            last: id(last)?,
        })
    }
}

/// What an entry says about its place: the entry before it of the same user, the totals up to it, and when
/// it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) at_ms: u64,
}

impl FromStr for Chain {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let fields: Vec<_> = text.split(' ').collect();
        let [_previous, entries, bytes, at] = fields[..] else { return Err(NotAPlace) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotAPlace);
        Ok(Self { entries: number(entries)?, bytes: number(bytes)?, at_ms: number(at)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, NotAPlace, Place};
    use crate::store::redis::grid::EntryId;

    #[test]
    fn a_place_is_read_as_the_scripts_write_it() {
        let id = |ms, seq| EntryId { ms, seq };
        let place = Place {
            clock: id(30, 1),
            entries: 7,
            bytes: 800,
            message: 12,
            begin: id(10, 0),
            last: id(20, 5),
        };
        assert_eq!("30 1 7 800 12 10-0 20-5".parse(), Ok(place));
        for wrong in ["", "30 1 7 800 12 10-0", "30 1 7 800 12 10 20-5", "x 1 7 800 12 10-0 20-5"] {
            assert_eq!(wrong.parse::<Place>(), Err(NotAPlace), "{wrong}");
        }
    }

    #[test]
    fn a_chain_is_read_as_the_scripts_write_it() {
        let chain = Chain { entries: 3, bytes: 90, at_ms: 5 };
        assert_eq!(["0 3 90 5", "10-2 3 90 5"].map(str::parse), [Ok(chain), Ok(chain)]);
        assert_eq!("0 3 90".parse::<Chain>(), Err(NotAPlace));
    }
}
