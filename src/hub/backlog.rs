use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

/// How much of what waits is joined for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// What a socket did not take at once, in the order it must go out.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// What the next write begins with: a frame that was begun must be ended.
    writing: Bytes,
    queue: BTreeMap<u64, Bytes>,
    next_place: u64,
    queued_bytes: usize,
}

impl Backlog {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.writing.len() + self.queued_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a frame last; returns its place, by which it can be taken back.
    pub(super) fn push(&mut self, frame: Bytes) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.queued_bytes += frame.len();
        self.queue.insert(place, frame);
        place
    }

    /// Puts the rest of a frame that was begun.
    pub(super) fn push_rest(&mut self, rest: Bytes) {
        debug_assert!(self.is_empty(), "only an idle socket is written to directly");
        self.writing = rest;
    }

    /// Takes back a frame; `None` where it is on its way already.
    pub(super) fn take_back(&mut self, place: u64) -> Option<Bytes> {
        self.queue.remove(&place).inspect(|frame| self.queued_bytes -= frame.len())
    }

    /// What to write next: as many frames as fit, joined.
    pub(super) fn chunk(&mut self) -> &[u8] {
        if self.writing.is_empty()
            && let Some((_, first)) = self.queue.pop_first()
        {
            self.queued_bytes -= first.len();
            self.writing = self.joined(first);
        }
        &self.writing
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.writing.advance(written);
    }

    pub(super) fn clear(&mut self) {
        self.writing = Bytes::new();
        self.queue.clear();
        self.queued_bytes = 0;
    }

    fn joined(&mut self, first: Bytes) -> Bytes {
        let fits = |len: usize, next: &Bytes| len + next.len() <= WRITE_BYTES;
        if !self.queue.first_key_value().is_some_and(|(_, next)| fits(first.len(), next)) {
            return first;
        }
        let mut joined = BytesMut::from(first);
        while let Some(next) = self.queue.first_entry()
            && fits(joined.len(), next.get())
        {
            let next = next.remove();
            self.queued_bytes -= next.len();
            joined.extend_from_slice(&next);
        }
        joined.freeze()
    }
}
