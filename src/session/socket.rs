//! The reading half of a WebSocket: reads bytes and parses messages and control frames.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Cursor, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::hub::Mailbox;
use crate::wire::{Close, close};

/// The size of the read buffer.
const READ_BYTES: usize = 16 * 1024;
/// The size of tungstenite's read buffer; most messages are smaller.
const TAKEN_BYTES: usize = 1024;
/// The size of tungstenite's write buffer, for pongs and the echo of a Close. It never fills, because
/// the mailbox accepts every write.
const WRITE_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// The read buffer that all connections of a thread share, so that an idle connection needs none.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// Tungstenite's state between two messages. It is the same for all connections, so they share it.
    static IDLE_CONTEXT: Cell<Option<Box<WebSocketContext>>> = const { Cell::new(None) };
}

/// Reads frames, and joins them to messages.
pub(super) struct Socket<R> {
    reader: R,
    mailbox: Arc<Mailbox>,
    message_bytes_max: usize,
    /// Bytes that were read but not parsed yet.
    unread: BytesMut,
    /// Tungstenite's state from the first fragment of a message to its last.
    fragmented: Option<Box<WebSocketContext>>,
    /// The bytes of those fragments.
    fragment_bytes: usize,
}

/// A message or an event from a connection.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(Utf8Bytes),
    /// A whole binary message, with its size.
    Binary(usize),
    /// A ping or a pong, with the size of its frame.
    Control(usize),
    /// A part of a message, with the size of its frame.
    Fragment(usize),
    /// A part of a frame.
    Partial,
    /// The end of the connection, with the peer's close code if it sent a Close frame.
    Closed { close: Option<u16> },
    /// The peer broke the protocol.
    Broken(Close),
}

impl<R: AsyncRead + Unpin> Socket<R> {
    /// Makes the reading half of an upgraded connection; `early` holds bytes that were read already.
    pub(super) fn new(
        reader: R,
        early: Bytes,
        mailbox: Arc<Mailbox>,
        message_bytes_max: usize,
    ) -> Self {
        // An empty `early` would keep the handshake's buffer alive.
        let unread = if early.is_empty() { BytesMut::new() } else { early.into() };
        Self { reader, mailbox, message_bytes_max, unread, fragmented: None, fragment_bytes: 0 }
    }

    /// Reads the next message or control frame. Cancel safe.
    pub(super) async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if let Some(length) = self.whole_frame(&self.unread) {
            let frame = self.unread.split_to(length);
            if self.unread.is_empty() {
                self.unread = BytesMut::new();
            }
            return Poll::Ready(self.parse(&frame));
        }
        let incoming = ready!(self.poll_read(cx, Self::take));
        Poll::Ready(incoming.unwrap_or(Incoming::Closed { close: None }))
    }

    /// Reads into the shared buffer and passes the bytes to `take`; `None` at the end of the stream.
    fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> Poll<Option<T>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let done = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut read));
            let is_more = done.is_ok() && !read.filled().is_empty();
            Poll::Ready(is_more.then(|| take(self, read.filled())))
        })
    }

    /// Parses a whole frame in place, the common case; keeps the rest in `unread`.
    fn take(&mut self, read: &[u8]) -> Incoming {
        let length = if self.unread.is_empty() { self.whole_frame(read) } else { None };
        let (frame, rest) = read.split_at(length.unwrap_or_default());
        self.unread.extend_from_slice(rest);
        length.map_or(Incoming::Partial, |_| self.parse(frame))
    }

    /// The length of the next frame if it was read completely. Returns all bytes for an invalid or too
    /// large frame, so that tungstenite reports the error.
    fn whole_frame(&self, read: &[u8]) -> Option<usize> {
        let mut cursor = Cursor::new(read);
        let length = match FrameHeader::parse(&mut cursor) {
            Ok(None) => return None,
            Ok(Some((_, payload))) if payload <= self.message_bytes_max as u64 => {
                usize::try_from(cursor.position() + payload).unwrap_or(usize::MAX)
            }
            Ok(Some(_)) | Err(_) => read.len(),
        };
        (length <= read.len()).then_some(length)
    }

    /// The bytes of a message that has not arrived completely.
    pub(super) fn unfinished(&self) -> usize {
        self.unread.len() + self.fragment_bytes
    }

    /// Parses a frame.
    fn parse(&mut self, frame: &[u8]) -> Incoming {
        let (fragmented, stream) = (self.fragmented.take(), &mut FrameIo(frame, &self.mailbox));
        let is_fragmented = fragmented.is_some();
        let mut context = fragmented.or_else(|| IDLE_CONTEXT.take()).unwrap_or_else(new_context);
        context.set_config(|config| {
            config.max_message_size = Some(self.message_bytes_max);
            config.max_frame_size = Some(self.message_bytes_max);
        });
        let incoming = match context.read(stream) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(bytes)) => Incoming::Binary(bytes.len()),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                // Writes the pong. The mailbox accepts every write, so this cannot fail.
                context.flush(stream).ok();
                if is_fragmented {
                    self.fragmented = Some(context);
                    return Incoming::Control(frame.len());
                }
                Incoming::Control(frame.len())
            }
            Ok(Message::Close(frame)) => {
                // Writes the echo of the Close.
                context.flush(stream).ok();
                let close = frame.map_or(close::NO_STATUS, |frame| frame.code.into());
                return Incoming::Closed { close: Some(close) };
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.fragmented = Some(context);
                self.fragment_bytes += payload_length(frame);
                return Incoming::Fragment(frame.len());
            }
            Err(Error::Capacity(_)) => return Incoming::Broken(Close::TooLarge),
            Err(Error::Utf8(_)) => return Incoming::Broken(Close::NotUtf8),
            Err(Error::Protocol(error)) if error != ProtocolError::ResetWithoutClosingHandshake => {
                return Incoming::Broken(Close::ProtocolError);
            }
            Err(_) => return Incoming::Closed { close: None },
        };
        IDLE_CONTEXT.set(Some(context));
        if !matches!(incoming, Incoming::Control(_)) {
            self.fragment_bytes = 0;
        }
        incoming
    }

    /// Frees what was read of an unfinished message.
    pub(super) fn drop_unfinished(&mut self) {
        (self.unread, self.fragmented, self.fragment_bytes) = (BytesMut::new(), None, 0);
    }

    /// Reads and discards until the end of the stream.
    pub(super) async fn discard(&mut self) {
        while poll_fn(|cx| self.poll_read(cx, |_, _| ())).await.is_some() {}
    }
}

/// The length of a frame without its header. Only this is kept: empty fragments take no memory.
fn payload_length(frame: &[u8]) -> usize {
    let mut cursor = Cursor::new(frame);
    match FrameHeader::parse(&mut cursor) {
        Ok(Some((_, payload))) => usize::try_from(payload).unwrap_or(usize::MAX).min(frame.len()),
        Ok(None) | Err(_) => 0,
    }
}

fn new_context() -> Box<WebSocketContext> {
    let config = WebSocketConfig::default()
        .read_buffer_size(TAKEN_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

/// The stream that tungstenite reads and writes: it reads one frame, and writes to the mailbox.
struct FrameIo<'a>(&'a [u8], &'a Mailbox);

impl Read for FrameIo<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Read::read(&mut self.0, buffer)
    }
}

impl Write for FrameIo<'_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.1.post(Bytes::copy_from_slice(frames));
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
