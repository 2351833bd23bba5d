use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::hub::Mailbox;
use crate::wire::Close;

/// How much of a frame is read at once: it is most of what an idle connection costs.
const READ_BYTES: usize = 1024;
/// How much tungstenite may hold of what it writes itself, pongs and the echo of a Close, before
/// the mailbox has taken it: the mailbox always takes it.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// The reading half of a connection, parsed.
pub(super) struct Socket<R>(WebSocketStream<Seam<R>>);

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
    pub(super) async fn new(
        reader: R,
        early: Bytes,
        mailbox: Arc<Mailbox>,
        message_bytes_max: usize,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let seam = Seam { reader, mailbox };
        let early = early.to_vec();
        Self(WebSocketStream::from_partially_read(seam, early, Role::Server, Some(config)).await)
    }

    /// Reads the next message or control frame; may be given up at any time without loss.
    pub(super) async fn next(&mut self) -> Incoming {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Control,
            Some(Ok(Message::Close(frame))) => {
                // The echo is queued; a peer that is gone has no use for it.
                self.0.flush().await.ok();
                Incoming::Closed { close: Some(frame.map_or(1005, |frame| frame.code.into())) }
            }
            Some(Err(Error::Capacity(_))) => Incoming::Broken(Close::TooLarge),
            Some(Err(Error::Utf8(_))) => Incoming::Broken(Close::NotUtf8),
            Some(Err(Error::Protocol(error)))
                if error != ProtocolError::ResetWithoutClosingHandshake =>
            {
                Incoming::Broken(Close::ProtocolError)
            }
            Some(Err(_)) | None => Incoming::Closed { close: None },
        }
    }

    /// Reads and discards until the peer's end.
    pub(super) async fn discard(self) {
        let mut reader = self.0.into_inner().reader;
        let mut discarded = [0; 512];
        while reader.read(&mut discarded).await.is_ok_and(|read| read > 0) {}
    }
}

/// Where the two halves of a connection meet: tungstenite reads the socket, and what it writes of
/// its own accord goes the way of all that is written, through the mailbox.
struct Seam<R> {
    reader: R,
    mailbox: Arc<Mailbox>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Seam<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl<R: Unpin> AsyncWrite for Seam<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.mailbox.post(Bytes::copy_from_slice(frames));
        Poll::Ready(Ok(frames.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
