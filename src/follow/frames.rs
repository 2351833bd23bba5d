//! Parses the hub's Server-Sent Events into lines of JSON.

use crate::store::Cursor;

/// The maximum size of an unfinished event. The hub's events are much smaller.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The end of an event.
const END: &[u8] = b"\n\n";

/// The unfinished event at the end of what was received.
#[derive(Debug, Default)]
pub struct Frames {
    unfinished: Vec<u8>,
}

/// What a part of the stream contained.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// A line of JSON for each event.
    pub lines: Vec<u8>,
    /// The position after the last event.
    pub cursor: Option<Cursor>,
    /// The number of events.
    pub events: usize,
}

/// The stream is not that of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the event stream of a hub: is this the hub's address?")]
pub struct NotEvents;

impl Frames {
    /// Takes the next bytes of the stream; returns the events that they complete.
    ///
    /// # Errors
    ///
    /// If the bytes are not events of a hub.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Part, NotEvents> {
        // The end of an event may be split between two parts.
        let mut from = self.unfinished.len().saturating_sub(END.len() - 1);
        self.unfinished.extend_from_slice(bytes);
        let (mut part, mut begin) = (Part::default(), 0);
        while let Some(at) = self.unfinished[from..].windows(END.len()).position(|two| two == END) {
            let end = from + at;
            part.add(&self.unfinished[begin..end])?;
            begin = end + END.len();
            from = begin;
        }
        self.unfinished.drain(..begin);
        if self.unfinished.len() > EVENT_BYTES_MAX {
            return Err(NotEvents);
        }
        Ok(part)
    }
}

impl Part {
    /// Adds the events of the part that follows it.
    pub(super) fn append(&mut self, next: Self) {
        self.lines.extend(next.lines);
        self.cursor = next.cursor.or(self.cursor);
        self.events += next.events;
    }

    /// Adds an event, a new position without an event, or a comment.
    fn add(&mut self, frame: &[u8]) -> Result<(), NotEvents> {
        let frame = str::from_utf8(frame).map_err(|_| NotEvents)?;
        let (mut cursor, mut json) = (None, None);
        for line in frame.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => cursor = Some(id.parse().map_err(|_| NotEvents)?),
                // The hub writes each event in one line.
                Some(("data", data)) if json.replace(data).is_some() => {
                    return Err(NotEvents);
                }
                // Comments, and fields without a meaning for this command.
                Some(_) | None => (),
            }
        }
        if let Some(json) = json {
            cursor.ok_or(NotEvents)?;
            self.lines.extend_from_slice(json.as_bytes());
            self.lines.push(b'\n');
            self.events += 1;
        }
        self.cursor = cursor.or(self.cursor);
        Ok(())
    }
}
