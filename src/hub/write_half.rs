//! The writing half of a connection: a TCP socket, or something else that can be written to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;

/// The writing half of a connection.
pub enum WriteHalf {
    /// A TCP socket's, as nearly every one is: nothing is looked up on the way to it.
    Tcp(OwnedWriteHalf),
    /// That of something else.
    Other(Box<dyn TryWrite>),
    /// One that is not written to any more and stays open: everything is taken, and nothing passed on.
    Cut(Box<Self>),
}

/// What can be written to.
pub trait TryWrite: AsyncWrite + Send + Unpin {
    /// Writes what it takes at once; one that cannot tell leaves it to the actor.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] where it takes nothing now.
    fn try_write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl<T: AsyncWrite + Send> TryWrite for tokio::io::WriteHalf<T> {}

impl WriteHalf {
    /// Writes what the socket takes at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => {
                // Most sockets take it: what tokio knows of this one need not even be looked at.
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

    /// Shuts it for good.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half().map_or(Poll::Ready(Ok(())), |half| half.poll_shutdown(cx))
    }

    /// Where it goes, unless that is nowhere.
    fn half(&mut self) -> Option<Pin<&mut (dyn AsyncWrite + Unpin)>> {
        match self {
            Self::Tcp(half) => Some(Pin::new(half)),
            Self::Other(half) => Some(Pin::new(half)),
            Self::Cut(_) => None,
        }
    }
}
