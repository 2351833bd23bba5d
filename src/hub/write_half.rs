//! The writing half of a connection: a TCP socket or another writer, such as TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;

/// The writing half of a connection.
pub enum WriteHalf {
    /// A TCP socket: the common case, without dynamic dispatch.
    Tcp(OwnedWriteHalf),
    /// Another writer.
    Other(Box<dyn TryWrite>),
    /// A writer that stays open but gets no more bytes: they are discarded.
    Cut(Box<Self>),
}

/// A writer that can try to write without waiting.
pub trait TryWrite: AsyncWrite + Send + Unpin {
    /// Writes as many bytes as possible without waiting. The default never writes, so the actor does.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing can be written now.
    fn try_write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl<T: AsyncWrite + Send> TryWrite for tokio::io::WriteHalf<T> {}

impl WriteHalf {
    /// Writes as many bytes as possible without waiting.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => {
                // Most sockets are writable: a direct `send` skips tokio's readiness check.
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                match send((*half).as_ref(), bytes, flags) {
                    Err(Errno::AGAIN) => half.try_write(bytes),
                    sent => Ok(sent?),
                }
            }
            Self::Other(half) => half.try_write(bytes),
            Self::Cut(_) => Ok(bytes.len()),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.half().map_or(Poll::Ready(Ok(bytes.len())), |half| half.poll_write(cx, bytes))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half().map_or(Poll::Ready(Ok(())), |half| half.poll_flush(cx))
    }

    /// Shuts the writing half down.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half().map_or(Poll::Ready(Ok(())), |half| half.poll_shutdown(cx))
    }

    /// The writer, unless it is cut.
    fn half(&mut self) -> Option<Pin<&mut (dyn AsyncWrite + Unpin)>> {
        match self {
            Self::Tcp(half) => Some(Pin::new(half)),
            Self::Other(half) => Some(Pin::new(half)),
            Self::Cut(_) => None,
        }
    }
}
