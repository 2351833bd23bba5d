//! A session: a client from its login to its end.

use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::time::Sleep;
use tracing::Span;

use super::channel::Channel;
use super::disconnect::Disconnect;
use super::errors::{already_logged_in, refused};
use super::reader::{Asked, Reader};
use crate::auth::Identity;
use crate::duration;
use crate::hub::Unavailable;
use crate::presence::{
    Activity, Answer, DeviceId, EventKind, Intent, Login, Origin, Platform, SessionId,
};
use crate::wire::Close;

/// The log target of the lines about sessions; operators use it in `log.filter`.
const LOG_TARGET: &str = "presence_hub::session::actor";

/// A client that has logged in.
pub(super) struct Session<'a> {
    pub(super) channel: &'a mut Channel,
    pub(super) id: SessionId,
    pub(super) platform: Platform,
    pub(super) device: DeviceId,
    app: Option<Arc<str>>,
    pub(super) identity: Identity,
    /// How often it was resumed, as this connection knows.
    resumes: u32,
    /// The activity of its terminal: only this connection changes it.
    pub(super) activity: Activity,
    /// Whether [`end`](Self::end) was called.
    has_ended: bool,
}

/// What a client says of itself when it logs in.
pub(super) struct Client {
    pub(super) platform: Platform,
    pub(super) device: DeviceId,
    pub(super) app: Option<Arc<str>>,
}

/// Logs a line about a session with the same fields each time; the connection's span adds user and address.
macro_rules! log_session {
    ($session:expr, $($line:tt)+) => {{
        let session: &Session<'_> = $session;
        tracing::info!(
            target: LOG_TARGET,
            session = %session.id,
            platform = %session.platform,
            device = ?session.device.as_str(),
            $($line)+
        );
    }};
}

impl<'a> Session<'a> {
    /// Begins a session after its login was admitted.
    pub(super) fn begin(
        channel: &'a mut Channel,
        id: SessionId,
        client: Client,
        identity: Identity,
        (resumes, activity): (u32, Activity),
    ) -> Self {
        let Client { platform, device, app } = client;
        channel.begin_session(platform, identity.expires_at);
        let has_ended = false;
        let session =
            Self { channel, id, platform, device, app, identity, resumes, activity, has_ended };
        Span::current().record("user", session.identity.user.as_str());
        log_session!(&session, resumed = resumes > 0, "session began");
        session
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { session: self.id, connection: self.channel.mailbox().id() }
    }

    /// Answers requests until the session ends.
    pub(super) async fn serve<R: AsyncRead + Unpin + Send>(
        &mut self,
        reader: &mut Reader<R>,
        mut timer: Pin<&mut Sleep>,
    ) -> Disconnect {
        // The timer was set for the login timeout.
        timer.as_mut().reset(self.channel.next_wake());
        loop {
            match reader.next(self.channel, timer.as_mut()).await {
                Ok(Asked::MalformedLogin(malformed, _)) => {
                    self.channel.refuse(malformed.id, already_logged_in());
                }
                Ok(Asked::Request(id, request)) => {
                    // Boxed: this future is large, and an idle connection should not hold its memory.
                    if let Some(end) = Box::pin(self.answer(id, request)).await {
                        return end;
                    }
                }
                // Boxed, too.
                Ok(Asked::LogInAgain) => {
                    if let Err(end) = Box::pin(self.log_in_again()).await {
                        return end;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    /// Logs the session in again on its own connection, because the store has lost it.
    async fn log_in_again(&mut self) -> Result<(), Disconnect> {
        match self.try_log_in_again().await {
            Ok(Ok(resumes)) => {
                self.resumes = resumes;
                log_session!(self, "session logged in again; the store had lost it");
                Ok(())
            }
            Ok(Err(close)) => Err(Disconnect::ByActor(close)),
            Err(error) => {
                let (hub, user) = (self.channel.hub(), &self.identity.user);
                hub.store_failed("cannot log a session in again, retrying", &error, Some(user));
                hub.note_doubt(user);
                Ok(())
            }
        }
    }

    /// Returns how often the session was resumed then, or why it cannot continue here.
    async fn try_log_in_again(&self) -> Result<Result<u32, Close>, Unavailable> {
        let Self { channel, identity, .. } = self;
        let (hub, user, origin) = (channel.hub(), &identity.user, self.origin());
        let record = hub.record(user).await?;
        // If it was resumed less often than here, the store has lost that it came here. If it was taken over, this hub
        // was given up for dead, which the store says next: then the client must come back, and so is not told that it
        // has moved.
        let has_moved = record.terminal(self.id).is_some_and(|terminal| {
            terminal.connection != origin.connection
                && !terminal.is_taken_over()
                && terminal.resumes >= self.resumes
        });
        if has_moved {
            return Ok(Err(Close::Moved));
        }
        let login = Login {
            session: self.id,
            connection: origin.connection,
            address: channel.address,
            platform: self.platform,
            device: self.device.clone(),
            intent: Intent::Resume(Some(self.id)),
            custom: None,
            activity: Some(self.activity),
            app: self.app.clone(),
            token_until: channel.token_until(identity),
            issued_at_secs: identity.issued_at_secs,
        };
        let applied = hub.apply(user, EventKind::Login(Box::new(login))).await?;
        let resumes = applied.record.terminal(self.id).map(|terminal| terminal.resumes);
        Ok(match applied.answer {
            Answer::Refused(refusal) => Err(refused(refusal).code.closes_login()),
            Answer::Admitted { .. }
            | Answer::Done
            | Answer::Stale
            | Answer::Kicked { .. }
            | Answer::Background { .. } => Ok(resumes.unwrap_or_default()),
        })
    }

    /// Counts and logs the session's end, and applies it unless the record has it already.
    pub(super) fn end(&mut self, end: Disconnect) {
        let (closed, lived_ms) = self.channel.count_end(end);
        let hub = self.channel.hub();
        let origin = self.origin();
        let event = match end {
            Disconnect::LoggedOut | Disconnect::ByHub(_) => None,
            // A drain ends no session (T11).
            Disconnect::ByClient { .. } if hub.is_draining() => None,
            Disconnect::ByClient { close } => Some(EventKind::Closed { origin, close_code: close }),
            Disconnect::ByActor(close) => {
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
            self.apply_end(event);
        }
        self.has_ended = true;
    }

    fn apply_end(&self, event: EventKind) {
        let left = Arc::clone(self.channel.mailbox());
        self.channel.hub().end_session(self.identity.user.clone(), event, left);
    }

    /// Warns once if a proxy seems to cut native apps between two pings.
    fn note_cut(&self) {
        let (hub, now) = (self.channel.hub(), self.channel.now());
        let idle = now - self.channel.mailbox().heard();
        if !hub.is_draining() && self.channel.shared.idle_cuts.lock().count(idle, now) {
            tracing::warn!(
                native_ping = %duration::format(hub.policy().windows.native_ping),
                "idle connections of native apps are cut after about 60 s without a Close: most \
                 likely a proxy's idle timeout; raise that timeout above liveness.native_ping \
                 (nginx: proxy_read_timeout 500s), or set liveness.native_ping below it"
            );
        }
    }
}

impl Drop for Session<'_> {
    /// Ends the session of an actor that panicked.
    fn drop(&mut self) {
        if !self.has_ended && std::thread::panicking() {
            self.apply_end(EventKind::Closed { origin: self.origin(), close_code: None });
        }
    }
}
