//! Waits for the events of a connection: messages, signals of its mailbox, and timers.

use std::future::poll_fn;
use std::pin::Pin;

use tokio::io::AsyncRead;
use tokio::time::Sleep;

use super::channel::Channel;
use super::disconnect::Disconnect;
use super::limits::{Pass, Traffic, Violations};
use super::socket::{Incoming, Socket};
use super::timers::Present;
use crate::hub::Signal;
use crate::wire::{Close, ErrorBody, ErrorCode, Malformed, PartialLogin, Request, parse};

/// Waits for requests of the client, signals of the mailbox and timers.
pub(super) struct Reader<R> {
    socket: Socket<R>,
    traffic: Traffic,
    violations: Violations,
}

/// What the session must act on.
pub(super) enum Asked {
    /// The store has lost the session: it must be logged in again.
    LogInAgain,
    /// A valid request and its id.
    Request(u64, Request),
    /// A malformed login, with the fields that are readable.
    MalformedLogin(Malformed, PartialLogin),
}

impl<R: AsyncRead + Unpin + Send> Reader<R> {
    pub(super) fn new(socket: Socket<R>) -> Self {
        Self { socket, traffic: Traffic::default(), violations: Violations::default() }
    }

    /// Waits for the next request or the end of the connection; handles signals and timers meanwhile.
    /// `timer` serves all timers of the connection.
    pub(super) async fn next(
        &mut self,
        channel: &mut Channel,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Asked, Disconnect> {
        loop {
            // An early wakeup is cheaper than resetting the timer at every message.
            let wake = channel.next_wake();
            if wake < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(wake);
            }
            let blocked = channel.timers.is_blocked();
            let reads = !channel.is_deaf() && !channel.mailbox().is_cut();
            tokio::select! {
                biased;
                signal = poll_fn(|cx| channel.mailbox().poll_signal(cx, blocked)) => {
                    if let Some(asked) = handle_signal(signal, channel)? {
                        return Ok(asked);
                    }
                }
                // Before the socket: a client that never stops sending must not hold up its timers.
                () = timer.as_mut() => channel.wake()?,
                incoming = self.socket.next(), if reads => {
                    let is_whole = matches!(incoming, Incoming::Text(_) | Incoming::Binary(_));
                    channel.note_unfinished(self.socket.unfinished(), is_whole);
                    if let Some(asked) = self.handle_incoming(incoming, channel)? {
                        return Ok(asked);
                    }
                }
            }
        }
    }

    /// Counts and parses a message. Returns a request; refuses malformed messages.
    fn handle_incoming(
        &mut self,
        incoming: Incoming,
        channel: &mut Channel,
    ) -> Result<Option<Asked>, Disconnect> {
        if channel.mailbox().is_cut() {
            return Ok(None);
        }
        let text = match incoming {
            Incoming::Closed { close } => {
                if close.is_some() {
                    channel.note_heard();
                }
                return Err(Disconnect::ByClient { close });
            }
            Incoming::Broken(close) => return Err(Disconnect::ByActor(close)),
            Incoming::Text(text) => {
                channel.charge(1, text.len());
                Some(text)
            }
            Incoming::Binary(bytes) => {
                channel.charge(1, bytes);
                None
            }
            Incoming::Fragment(bytes) => {
                channel.charge(1, bytes);
                return Ok(None);
            }
            Incoming::Partial => {
                channel.charge(1, 0);
                return Ok(None);
            }
            Incoming::Control(_) if channel.is_message_late() => {
                return Err(Disconnect::ByActor(Close::ProtocolViolation));
            }
            Incoming::Control(bytes) => {
                channel.note_heard();
                channel.charge(1, bytes);
                return match self.count(channel) {
                    Pass::Accept | Pass::Refuse => Ok(None),
                    Pass::Close => Err(Disconnect::ByActor(Close::RateLimited)),
                };
            }
        };
        channel.note_heard();
        let parsed = text.as_ref().map(|text| parse(text));
        match self.count(channel) {
            Pass::Accept => (),
            Pass::Refuse => {
                let id = match parsed {
                    Some(Ok((id, _))) => Some(id),
                    Some(Err(malformed)) => malformed.id,
                    None => None,
                };
                channel.refuse(id, ErrorBody::new(ErrorCode::RateLimited, "too many messages"));
                return Ok(None);
            }
            Pass::Close => return Err(Disconnect::ByActor(Close::RateLimited)),
        }
        self.handle_parsed(parsed, text.as_deref(), channel)
    }

    /// Returns a valid request; refuses anything else.
    fn handle_parsed(
        &mut self,
        parsed: Option<Result<(u64, Request), Malformed>>,
        text: Option<&str>,
        channel: &Channel,
    ) -> Result<Option<Asked>, Disconnect> {
        match parsed {
            Some(Ok((id, request))) => return Ok(Some(Asked::Request(id, request))),
            Some(Err(malformed)) if malformed.is_login => {
                let partial = text.map(PartialLogin::of).unwrap_or_default();
                return Ok(Some(Asked::MalformedLogin(malformed, partial)));
            }
            Some(Err(malformed)) => {
                channel.refuse(malformed.id, malformed.error);
                if !malformed.counts {
                    return Ok(None);
                }
            }
            None => {
                let message = "expected a text frame with a JSON object, got a binary frame";
                channel.refuse(None, ErrorBody::new(ErrorCode::BadRequest, message));
            }
        }
        if self.violations.count(channel.now()) {
            return Err(Disconnect::ByActor(Close::ProtocolViolation));
        }
        Ok(None)
    }

    fn count(&mut self, channel: &Channel) -> Pass {
        self.traffic.count(&channel.settings.messages, channel.now())
    }

    /// Frees what was read of an unfinished message.
    pub(super) fn drop_unfinished(&mut self) {
        self.socket.drop_unfinished();
    }

    /// Reads and discards until the client closes the socket.
    pub(super) async fn discard(&mut self) {
        self.socket.discard().await;
    }
}

/// Handles a signal of the mailbox.
fn handle_signal(signal: Signal, channel: &mut Channel) -> Result<Option<Asked>, Disconnect> {
    match signal {
        Signal::End(close) => return Err(Disconnect::ByHub(close)),
        Signal::Forgotten => return Ok(Some(Asked::LogInAgain)),
        Signal::ClockMoved { is_heard } => channel.clock_moved(is_heard)?,
        Signal::Blocked | Signal::Progressed => {
            let present = Present::of(channel.clock());
            channel.timers.set_slow_consumer(channel.settings.slow_consumer, present);
        }
        Signal::Flushed => channel.timers.stop_slow_consumer(),
    }
    Ok(None)
}
