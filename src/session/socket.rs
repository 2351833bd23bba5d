//! The reading half of a WebSocket: bytes in, messages and control frames out.

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

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How much of it tungstenite takes at once, which is more than most messages have.
const TAKEN_BYTES: usize = 1024;
/// How much tungstenite may hold of what it writes itself, pongs and the echo of a Close, before
/// the mailbox has taken it: the mailbox always takes it.
const WRITE_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// What all connections of a thread read into, so that one that says nothing holds no buffer.
    static LENT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// Tungstenite's state between two messages, which is the same for all connections.
    static BETWEEN: Cell<Option<Box<WebSocketContext>>> = const { Cell::new(None) };
}

/// The reading half of a connection, parsed.
pub(super) struct Socket<R> {
    reader: R,
    mailbox: Arc<Mailbox>,
    message_bytes_max: usize,
    /// What was read and not parsed yet.
    unread: BytesMut,
    /// Tungstenite's state from the first fragment of a message to its last.
    fragmented: Option<Box<WebSocketContext>>,
}

/// What a connection says.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(Utf8Bytes),
    /// A whole binary message.
    Binary,
    /// A ping or a pong.
    Control,
    /// The end, with the peer's close code if it sent a Close frame.
    Closed { close: Option<u16> },
    /// The peer broke the protocol.
    Broken(Close),
}

impl<R: AsyncRead + Unpin> Socket<R> {
    /// Takes over a connection whose upgrade is done, with what it has sent since.
    pub(super) fn new(
        reader: R,
        early: Bytes,
        mailbox: Arc<Mailbox>,
        message_bytes_max: usize,
    ) -> Self {
        // Nothing, mostly, but it would keep the handshake's buffer.
        let unread = if early.is_empty() { BytesMut::new() } else { early.into() };
        Self { reader, mailbox, message_bytes_max, unread, fragmented: None }
    }

    /// Reads the next message or control frame; may be given up at any time without loss.
    pub(super) async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            let incoming = if let Some(length) = self.whole_frame(&self.unread) {
                let frame = self.unread.split_to(length);
                if self.unread.is_empty() {
                    self.unread = BytesMut::new();
                }
                self.parse(&frame)
            } else {
                let Some(incoming) = ready!(self.poll_read(cx, Self::take)) else {
                    return Poll::Ready(Incoming::Closed { close: None });
                };
                incoming
            };
            if let Some(incoming) = incoming {
                return Poll::Ready(incoming);
            }
        }
    }

    /// Reads some more for somebody to take; `None` where there is no more.
    fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> Poll<Option<T>> {
        LENT.with_borrow_mut(|lent| {
            let mut read = ReadBuf::new(lent);
            let done = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut read));
            let is_more = done.is_ok() && !read.filled().is_empty();
            Poll::Ready(is_more.then(|| take(self, read.filled())))
        })
    }

    /// Takes what was read: most say one thing at a time, which is parsed where it lies.
    fn take(&mut self, read: &[u8]) -> Option<Incoming> {
        let length = if self.unread.is_empty() { self.whole_frame(read) } else { None };
        let (frame, rest) = read.split_at(length.unwrap_or_default());
        self.unread.extend_from_slice(rest);
        length.and_then(|_| self.parse(frame))
    }

    /// How long the next frame is, once all of it was read; what is wrong with one that cannot be,
    /// tungstenite says.
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

    /// Parses a frame; one of more fragments to come says nothing yet.
    fn parse(&mut self, frame: &[u8]) -> Option<Incoming> {
        let (fragmented, seam) = (self.fragmented.take(), &mut Seam(frame, &self.mailbox));
        let goes_on = fragmented.is_some();
        let mut context = fragmented.or_else(|| BETWEEN.take()).unwrap_or_else(new_context);
        context.set_config(|config| {
            config.max_message_size = Some(self.message_bytes_max);
            config.max_frame_size = Some(self.message_bytes_max);
        });
        let incoming = match context.read(seam) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(_)) => Incoming::Binary,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                // A pong is queued; the mailbox always takes it.
                context.flush(seam).ok();
                if goes_on {
                    self.fragmented = Some(context);
                    return Some(Incoming::Control);
                }
                Incoming::Control
            }
            Ok(Message::Close(frame)) => {
                // So is the echo; a peer that is gone has no use for it.
                context.flush(seam).ok();
                let close = frame.map_or(close::NO_STATUS, |frame| frame.code.into());
                return Some(Incoming::Closed { close: Some(close) });
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.fragmented = Some(context);
                return None;
            }
            Err(Error::Capacity(_)) => return Some(Incoming::Broken(Close::TooLarge)),
            Err(Error::Utf8(_)) => return Some(Incoming::Broken(Close::NotUtf8)),
            Err(Error::Protocol(error)) if error != ProtocolError::ResetWithoutClosingHandshake => {
                return Some(Incoming::Broken(Close::ProtocolError));
            }
            Err(_) => return Some(Incoming::Closed { close: None }),
        };
        BETWEEN.set(Some(context));
        Some(incoming)
    }

    /// Reads and discards until the peer's end.
    pub(super) async fn discard(&mut self) {
        self.unread.clear();
        while poll_fn(|cx| self.poll_read(cx, |_, _| ())).await.is_some() {}
    }
}

fn new_context() -> Box<WebSocketContext> {
    let config = WebSocketConfig::default()
        .read_buffer_size(TAKEN_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

/// Where tungstenite meets the connection: it reads one frame, and what it writes of its own accord
/// goes the way of all that is written, through the mailbox.
struct Seam<'a>(&'a [u8], &'a Mailbox);

impl Read for Seam<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Read::read(&mut self.0, buffer)
    }
}

impl Write for Seam<'_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.1.post(Bytes::copy_from_slice(frames));
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
