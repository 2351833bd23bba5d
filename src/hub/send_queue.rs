//! What a socket has not taken yet.

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

/// How much of what waits is joined for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// What was not written to a socket yet, in the order it must go out.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// What the next write begins with: a frame that was begun must be ended.
    writing: Bytes,
    /// Frames with their places, which only grow; one that was taken back is empty. One at a time is
    /// the rule, and needs no room elsewhere.
    queue: SmallVec<[(u64, Bytes); 1]>,
    taken_back: usize,
    next_place: u64,
    queued_bytes: usize,
}

impl SendQueue {
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
        self.queue.push((place, frame));
        place
    }

    /// Puts the rest of a frame that was begun.
    pub(super) fn push_rest(&mut self, rest: Bytes) {
        debug_assert!(self.is_empty(), "only an idle socket is written to directly");
        self.writing = rest;
    }

    /// Takes back a frame; returns whether it had not gone out, or begun to.
    pub(super) fn take_back(&mut self, place: u64) -> bool {
        let Ok(index) = self.queue.binary_search_by_key(&place, |(place, _)| *place) else {
            return false;
        };
        let frame = std::mem::take(&mut self.queue[index].1);
        if frame.is_empty() {
            return false;
        }
        self.queued_bytes -= frame.len();
        self.taken_back += 1;
        if self.taken_back > self.queue.len() / 2 {
            self.queue.retain(|(_, frame)| !frame.is_empty());
            self.taken_back = 0;
        }
        true
    }

    /// What to write next: as many frames as fit, joined.
    pub(super) fn chunk(&mut self) -> &[u8] {
        if self.writing.is_empty() {
            self.writing = if self.queue.len() == 1 { self.only() } else { self.joined() };
        }
        &self.writing
    }

    /// Notes how much of the chunk was written; nobody waits with an empty queue's room in hand.
    pub(super) fn advance(&mut self, written: usize) {
        self.writing.advance(written);
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.writing = Bytes::new();
        self.queue.clear();
        self.queue.shrink_to_fit();
        (self.taken_back, self.queued_bytes) = (0, 0);
    }

    /// Takes the one frame there is, which is nearly always so.
    fn only(&mut self) -> Bytes {
        (self.taken_back, self.queued_bytes) = (0, 0);
        self.queue.pop().map(|(_, frame)| frame).unwrap_or_default()
    }

    /// Takes the first frame, and as many after it as fit.
    fn joined(&mut self) -> Bytes {
        let mut length = 0;
        let fits = |(_, frame): &&(u64, Bytes)| {
            let is_first = length == 0;
            length += frame.len();
            is_first || length <= WRITE_BYTES
        };
        let fit = self.queue.iter().take_while(fits).count();
        let length = self.queue[..fit].iter().map(|(_, frame)| frame.len()).sum();
        self.queued_bytes -= length;
        self.taken_back -= self.queue[..fit].iter().filter(|(_, frame)| frame.is_empty()).count();
        let frames = self.queue.drain(..fit).map(|(_, frame)| frame);
        let mut frames = frames.filter(|frame| !frame.is_empty());
        let first = frames.next().unwrap_or_default();
        if first.len() == length {
            return first;
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&first);
        frames.for_each(|frame| joined.extend_from_slice(&frame));
        joined.freeze()
    }
}
