//! A session: a client that has logged in, until it ends.

use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::time::Sleep;

use super::channel::Channel;
use super::disconnect::Disconnect;
use super::reader::{Asked, Reader};
use super::requests::already_logged_in;
use crate::auth::Identity;
use crate::duration;
use crate::presence::{DeviceId, EventKind, Origin, Platform, SessionId};

/// What `log.filter` calls the lines that begin and end sessions.
const LOG_TARGET: &str = "presence_hub::session::actor";

/// A client that has logged in.
pub(super) struct Session<'a> {
    pub(super) channel: &'a mut Channel,
    pub(super) id: SessionId,
    pub(super) platform: Platform,
    pub(super) device: DeviceId,
    pub(super) identity: Identity,
    /// Whether the hub knows of its end.
    has_ended: bool,
}

/// Writes a line about a session: all of them name it the same way.
macro_rules! log_session {
    ($session:expr, $($line:tt)+) => {{
        let session: &Session<'_> = $session;
        tracing::info!(
            target: LOG_TARGET,
            user = session.identity.user.as_str(),
            session = %session.id,
            platform = %session.platform,
            device = ?session.device.as_str(),
            address = session.channel.address.map(tracing::field::display),
            $($line)+
        );
    }};
}

impl<'a> Session<'a> {
    /// Begins a session that the hub has admitted.
    pub(super) fn begin(
        channel: &'a mut Channel,
        id: SessionId,
        (platform, device): (Platform, DeviceId),
        identity: Identity,
        resumed: bool,
    ) -> Self {
        channel.begin_session(platform, identity.expires_at);
        let session = Self { channel, id, platform, device, identity, has_ended: false };
        log_session!(&session, resumed, "session began");
        session
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { session: self.id, connection: self.channel.mailbox().id() }
    }

    /// Answers what the client asks for, until the session ends.
    pub(super) async fn serve<R: AsyncRead + Unpin + Send>(
        &mut self,
        reader: &mut Reader<R>,
        mut timer: Pin<&mut Sleep>,
    ) -> Disconnect {
        // The time for the login is nearly always left over.
        timer.as_mut().reset(self.channel.next_wake());
        loop {
            match reader.next(self.channel, timer.as_mut()).await {
                Ok(Asked::MalformedLogin(malformed, _)) => {
                    self.channel.refuse(malformed.id, already_logged_in());
                }
                Ok(Asked::Request(id, request)) => {
                    // Boxed, for it is many times what an idle connection needs.
                    if let Some(end) = Box::pin(self.answer(id, request)).await {
                        return end;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    /// Counts and logs the session's end, and tells the hub unless it knows.
    pub(super) fn end(&mut self, end: Disconnect) {
        let (closed, lived_ms) = self.channel.count_end(end);
        let hub = self.channel.hub();
        let origin = self.origin();
        let event = match end {
            Disconnect::LoggedOut | Disconnect::ByHub(_) => None,
            // A restart ends nothing (T11).
            Disconnect::ByClient { .. } if hub.is_draining() => None,
            Disconnect::ByClient { close } => Some(EventKind::Closed { origin, close_code: close }),
            Disconnect::Expelled(close) => {
                Some(EventKind::Closed { origin, close_code: Some(close.code()) })
            }
            Disconnect::Silent { late } => {
                Some(EventKind::Silent { origin, deadline: self.channel.now() - late })
            }
        };
        if end == (Disconnect::ByClient { close: None }) && self.platform.is_native() {
            self.note_cut();
        }
        log_session!(
            self,
            cause = end.cause(),
            close = closed.code(),
            by = closed.by(),
            lived_ms,
            "session ended"
        );
        if let Some(event) = event {
            self.tell_hub(event);
        }
        self.has_ended = true;
    }

    fn tell_hub(&self, event: EventKind) {
        let left = Arc::clone(self.channel.mailbox());
        self.channel.hub().end_session(self.identity.user.clone(), event, left);
    }

    /// Says once that a proxy seems to cut native apps between two pings.
    fn note_cut(&self) {
        let (hub, now) = (self.channel.hub(), self.channel.now());
        let idle = now - self.channel.mailbox().heard();
        if !hub.is_draining() && self.channel.shared.idle_cuts.lock().count(idle, now) {
            tracing::warn!(
                native_ping = %duration::format(hub.policy().windows.native_ping),
                "idle connections of native apps are cut after about 60 s without a Close: most \
                 likely a proxy's idle timeout; raise that timeout above liveness.native_ping \
                 (nginx: proxy_read_timeout 300s), or set liveness.native_ping below it"
            );
        }
    }
}

impl Drop for Session<'_> {
    /// The session of an actor that panicked ends, too.
    fn drop(&mut self) {
        if !self.has_ended && std::thread::panicking() {
            self.tell_hub(EventKind::Closed { origin: self.origin(), close_code: None });
        }
    }
}
