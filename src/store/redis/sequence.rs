//! Detects messages of a partition's feed that were missed, by their numbers.

/// The number of the last message that was heard of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sequence(Option<u64>);

/// Whether messages are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Whole,
    Missed,
}

impl Sequence {
    /// Begins after the last known message.
    pub(super) fn after(number: Option<u64>) -> Self {
        Self(number)
    }

    /// Notes a message.
    pub(super) fn message(&mut self, number: u64) -> Heard {
        self.moved(number, |before| before + 1)
    }

    /// Notes a tick, which bears the number of the last message.
    pub(super) fn tick(&mut self, number: u64) -> Heard {
        self.moved(number, |before| before)
    }

    fn moved(&mut self, number: u64, expected: impl FnOnce(u64) -> u64) -> Heard {
        let is_whole = self.0.is_none_or(|before| number == expected(before));
        self.0 = Some(number);
        if is_whole { Heard::Whole } else { Heard::Missed }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Sequence};

    #[test]
    fn consecutive_messages_are_whole() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.message(7), Heard::Whole, "the first number is the begin");
        assert_eq!(sequence.tick(7), Heard::Whole);
        assert_eq!(sequence.message(8), Heard::Whole);
    }

    #[test]
    fn a_gap_before_the_first_message_is_noticed() {
        let mut sequence = Sequence::after(Some(7));
        assert_eq!(sequence.message(9), Heard::Missed);
        assert_eq!(Sequence::after(Some(7)).message(8), Heard::Whole);
    }

    #[test]
    fn a_gap_is_noticed_once() {
        let mut sequence = Sequence::default();
        sequence.tick(7);
        assert_eq!(sequence.message(9), Heard::Missed);
        assert_eq!(sequence.message(10), Heard::Whole);
        assert_eq!(sequence.tick(11), Heard::Missed, "the message before the tick was lost");
        assert_eq!(sequence.tick(11), Heard::Whole);
    }

    #[test]
    fn a_feed_that_began_anew_is_a_gap() {
        let mut sequence = Sequence::default();
        sequence.message(7);
        assert_eq!(sequence.tick(1_796_000_000_000), Heard::Missed);
        assert_eq!(sequence.message(3), Heard::Missed);
    }
}
