//! The queue of frames that were not written to a socket yet.

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

/// How many bytes of queued frames are joined for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// Frames that were not written to a socket yet, in order.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// The bytes of the next write. They cannot be taken back, because a part may be written already.
    writing: Bytes,
    /// Frames with their places, which only grow. A frame that was taken back is empty. Most queues hold
    /// one frame at most, which needs no allocation.
    queue: SmallVec<[(u64, Bytes); 1]>,
    taken_back: usize,
    next_place: u64,
    queued_bytes: usize,
}

impl SendQueue {
    /// The number of unsent bytes.
    pub(super) fn len(&self) -> usize {
        self.writing.len() + self.queued_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a frame; returns its place, which [`take_back`](Self::take_back) needs.
    pub(super) fn push(&mut self, frame: Bytes) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.queued_bytes += frame.len();
        self.queue.push((place, frame));
        place
    }

    /// Queues the rest of a partly written frame.
    pub(super) fn push_rest(&mut self, rest: Bytes) {
        debug_assert!(self.is_empty(), "only an idle socket is written to directly");
        self.writing = rest;
    }

    /// Removes a frame; returns `false` if its write has begun already.
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

    /// The bytes of the next write: as many frames as fit, joined.
    pub(super) fn chunk(&mut self) -> &[u8] {
        if self.writing.is_empty() {
            self.writing = if self.queue.len() == 1 { self.only() } else { self.joined() };
        }
        &self.writing
    }

    /// Removes written bytes from the chunk, and frees the memory of an empty queue.
    pub(super) fn advance(&mut self, written: usize) {
        self.writing.advance(written);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops all frames whose write has not begun.
    pub(super) fn drop_queued(&mut self) {
        self.queue.clear();
        self.queue.shrink_to_fit();
        (self.taken_back, self.queued_bytes) = (0, 0);
    }

    pub(super) fn clear(&mut self) {
        self.writing = Bytes::new();
        self.drop_queued();
    }

    /// Removes the only frame: the common case, without a copy.
    fn only(&mut self) -> Bytes {
        (self.taken_back, self.queued_bytes) = (0, 0);
        self.queue.pop().map(|(_, frame)| frame).unwrap_or_default()
    }

    /// Removes the first frame, and as many after it as fit, and joins them.
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
