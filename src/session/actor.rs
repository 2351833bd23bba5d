//! The actor of one connection, from its upgrade to its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::pin;
use tokio::time::{sleep_until, timeout};

use super::channel::Channel;
use super::disconnect::Disconnect;
use super::reader::Reader;
use super::visitor::Visitor;
use crate::hub::Closed;

/// How long a closed connection may take to read its last messages and close its socket.
const LINGER: Duration = Duration::from_secs(2);

/// The actor of one connection. It reads; the mailbox writes.
///
/// ```text
///            login            logout, kick, silence, close …
///   Visitor ───────▶ Session ───────────────────────────────▶ closing ─▶ gone
///      └──────── timeout, refusal ─────────────────────────────▲
/// ```
pub(super) struct Actor<R> {
    channel: Channel,
    reader: Reader<R>,
}

impl<R: AsyncRead + Unpin + Send> Actor<R> {
    pub(super) const fn new(channel: Channel, reader: Reader<R>) -> Self {
        Self { channel, reader }
    }

    /// Serves the connection, ends its session, and closes the socket.
    pub(super) async fn run(&mut self) {
        let end = self.serve().await;
        let mailbox = Arc::clone(self.channel.mailbox());
        if let Closed::ByHub(close) = end.closed() {
            mailbox.end(close, None);
        }
        self.reader.drop_unfinished();
        mailbox.set_unfinished(0);
        self.channel.connection.unwatch_all();
        let hang_up = async {
            poll_fn(|cx| mailbox.poll_hang_up(cx)).await;
            self.reader.discard().await;
        };
        // After the timeout the socket is dropped, even if the client has not read its last messages.
        timeout(LINGER, hang_up).await.ok();
    }

    async fn serve(&mut self) -> Disconnect {
        let Self { channel, reader } = self;
        let timer = sleep_until(channel.next_wake());
        pin!(timer);
        let mut session = match Visitor::new(channel).serve(reader, timer.as_mut()).await {
            Ok(session) => session,
            Err(end) => return end,
        };
        let end = session.serve(reader, timer.as_mut()).await;
        session.end(end);
        end
    }
}
