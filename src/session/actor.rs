//! The actor of one connection: reads its socket, and ends it.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep_until, timeout};

use super::limits::{Pass, Traffic, Violations};
use super::login::Session;
use super::refusals::Applicant;
use super::socket::{Incoming, Socket};
use super::{Sessions, Settings};
use crate::clock::Clock;
use crate::duration;
use crate::hub::{Closed, Connection, Ending, Hub, Signal};
use crate::presence::{EventKind, LivenessDue, Patience, Timestamp};
use crate::wire::{
    Close, ErrorBody, ErrorCode, Legible, Outcome, Push, Reply, Request, parse, ping_frame,
    text_frame,
};

/// How long a closed connection may take to read what it was told last.
const LINGER: Duration = Duration::from_secs(2);
/// How much may wait for a connection before its requests are left unread.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
/// How long before its expiry a client is told to fetch a new token.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);

/// One connection, from its upgrade to its end: it reads, its mailbox writes.
///
/// ```text
///            login            logout, kick, silence, close …
///   Visitor ───────▶ Session ───────────────────────────────▶ closing ─▶ gone
///      └──────── timeout, refusal ─────────────────────────────▲
/// ```
pub(super) struct Actor<R> {
    pub(super) shared: Arc<Sessions>,
    pub(super) settings: Arc<Settings>,
    pub(super) connection: Connection,
    pub(super) address: Option<IpAddr>,
    /// `None` until the login.
    pub(super) session: Option<Session>,
    socket: Socket<R>,
    since: Timestamp,
    traffic: Traffic,
    violations: Violations,
    /// How long the hub had stood still when this last looked.
    stood_still: Duration,
    /// How long the peer may take to log in.
    login: Patience,
    /// How long it may take nothing of what waits for it, while something does (V4).
    blocked: Option<Patience>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its user logged out.
    LoggedOut,
    /// The hub ended it: the record knows why.
    ByHub(Close),
    /// The peer closed it, or is gone.
    Closed {
        /// The peer's close code.
        close: Option<u16>,
    },
    /// The actor closes it for something the peer did or left undone.
    Expelled(Close),
    /// Nothing was heard for its window.
    Silent {
        /// For how long past the window that was not known.
        late: Duration,
    },
}

impl<R: AsyncRead + Unpin + Send> Actor<R> {
    pub(super) fn new(
        shared: Arc<Sessions>,
        settings: Arc<Settings>,
        connection: Connection,
        socket: Socket<R>,
        address: Option<IpAddr>,
    ) -> Self {
        let clock = shared.hub().clock();
        let (since, stood_still) = (clock.now(), clock.stood_still());
        let login = Patience::new(settings.login_timeout, clock.running());
        Self {
            shared,
            settings,
            connection,
            address,
            session: None,
            socket,
            since,
            traffic: Traffic::default(),
            violations: Violations::default(),
            stood_still,
            login,
            blocked: None,
        }
    }

    /// Serves the connection, ends its session, and sees the peer off.
    pub(super) async fn run(&mut self) {
        let end = self.serve().await;
        self.settle(end);
        let mailbox = Arc::clone(self.connection.mailbox());
        if let Some(close) = end.closes_with() {
            mailbox.end(Ending { close }, None);
        }
        self.connection.unwatch_all();
        let see_off = async {
            poll_fn(|cx| mailbox.poll_hang_up(cx)).await;
            self.socket.discard().await;
        };
        // Whoever does not read its end is cut off.
        timeout(LINGER, see_off).await.ok();
    }

    async fn serve(&mut self) -> End {
        let mailbox = Arc::clone(self.connection.mailbox());
        let timer = sleep_until(self.next_wake());
        tokio::pin!(timer);
        let mut awaits_login = true;
        loop {
            // A timer that is set too early costs a wakeup; setting it anew at every message, more, but
            // not at the login, whose time is nearly always left over.
            let wake = self.next_wake();
            let has_logged_in = awaits_login && self.session.is_some();
            awaits_login &= !has_logged_in;
            if has_logged_in || wake < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(wake);
            }
            let blocked = self.blocked.is_some();
            let reads = !self.is_overfull() && !mailbox.is_cut();
            let end = tokio::select! {
                biased;
                signal = poll_fn(|cx| mailbox.poll_signal(cx, blocked)) => self.heed(signal),
                incoming = self.socket.next(), if reads => match self.hear(incoming) {
                    // Boxed, for it is many times what an idle connection needs.
                    Ok(Some((id, request))) => Box::pin(self.answer(id, request)).await,
                    Ok(None) => None,
                    Err(end) => Some(end),
                },
                () = timer.as_mut() => self.wake(),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// What the mailbox signals.
    fn heed(&mut self, signal: Signal) -> Option<End> {
        match signal {
            Signal::End(ending) => return Some(End::ByHub(ending.close)),
            Signal::Blocked | Signal::Progressed => {
                let running = self.hub().clock().running();
                self.blocked = Some(Patience::new(self.settings.slow_consumer, running));
            }
            Signal::Flushed => self.blocked = None,
        }
        None
    }

    /// What the peer says: a request to be answered, where it is one that can be.
    fn hear(&mut self, incoming: Incoming) -> Result<Option<(u64, Request)>, End> {
        if self.connection.mailbox().is_cut() {
            return Ok(None);
        }
        let text = match incoming {
            Incoming::Closed { close } => {
                if close.is_some() {
                    self.note_heard();
                }
                return Err(End::Closed { close });
            }
            Incoming::Broken(close) => return Err(End::Expelled(close)),
            Incoming::Text(text) => Some(text),
            Incoming::Binary => None,
            Incoming::Control => {
                self.note_heard();
                return match self.traffic.count(&self.settings.messages, self.now()) {
                    Pass::Take | Pass::Refuse => Ok(None),
                    Pass::Close => Err(End::Expelled(Close::RateLimited)),
                };
            }
        };
        self.note_heard();
        let parsed = text.as_ref().map(|text| parse(text));
        match self.traffic.count(&self.settings.messages, self.now()) {
            Pass::Take => (),
            Pass::Refuse => {
                let id = match parsed {
                    Some(Ok((id, _))) => Some(id),
                    Some(Err(malformed)) => malformed.id,
                    None => None,
                };
                self.refuse(id, ErrorBody::new(ErrorCode::RateLimited, "too many messages"));
                return Ok(None);
            }
            Pass::Close => return Err(End::Expelled(Close::RateLimited)),
        }
        match parsed {
            Some(Ok(request)) => return Ok(Some(request)),
            Some(Err(malformed)) if malformed.is_login && self.session.is_some() => {
                self.refuse(malformed.id, already_logged_in());
                return Ok(None);
            }
            Some(Err(malformed)) => {
                if malformed.is_login {
                    let applicant =
                        Applicant::who_sent(text.as_deref().map(Legible::of).unwrap_or_default());
                    let ErrorBody { code, message, .. } = &malformed.error;
                    self.note_refusal(code.name(), message, applicant);
                }
                self.refuse(malformed.id, malformed.error);
                if malformed.is_login {
                    return Err(End::Expelled(ErrorCode::BadRequest.closes_login()));
                }
                if !malformed.counts {
                    return Ok(None);
                }
            }
            None => {
                let message = "expected a text frame with a JSON object, got a binary frame";
                self.refuse(None, ErrorBody::new(ErrorCode::BadRequest, message));
            }
        }
        if self.violations.count(self.now()) {
            return Err(End::Expelled(Close::ProtocolViolation));
        }
        Ok(None)
    }

    async fn answer(&mut self, id: u64, request: Request) -> Option<End> {
        match (&self.session, request) {
            (None, Request::Login(login)) => self.log_in(id, *login).await,
            (None, _) => {
                let message = "log in first";
                self.refuse(Some(id), ErrorBody::new(ErrorCode::NotLoggedIn, message));
                None
            }
            (Some(_), Request::Login(_)) => {
                self.refuse(Some(id), already_logged_in());
                None
            }
            (Some(_), request) => self.serve_request(id, request).await,
        }
    }

    /// Whether so much waits for the peer that its requests are left unread.
    fn is_overfull(&self) -> bool {
        self.blocked.is_some() && self.connection.mailbox().unsent() > UNREAD_BYTES_MAX
    }

    /// What time brings.
    fn wake(&mut self) -> Option<End> {
        let (now, running) = (self.now(), self.hub().clock().running());
        let (stood_still, is_overfull) = (self.hub().clock().stood_still(), self.is_overfull());
        if self.blocked.as_mut().is_some_and(|patience| patience.over(running).is_some()) {
            return Some(End::Expelled(Close::SlowConsumer));
        }
        let Some(session) = &mut self.session else {
            self.login.over(running)?;
            let close = Close::LoginTimeout;
            let message = "no login within login.timeout";
            self.note_refusal(close.reason(), message, Applicant::default());
            return Some(End::Expelled(close));
        };
        if session.notice_at.is_some_and(|at| now >= at) {
            session.notice_at = None;
            let expires_at = session.identity.expires_at;
            self.connection.mailbox().post(text_frame(&Push::TokenExpiring { expires_at }));
        }
        if stood_still > self.stood_still {
            self.stood_still = stood_still;
            session.liveness.ask_now(running);
        }
        if is_overfull {
            // What the peer says is left unread: whether it reads decides, not whether it is heard.
            session.liveness.heard(running);
        }
        match session.liveness.poll(running) {
            Some(LivenessDue::Ping) => self.connection.mailbox().post(ping_frame()),
            Some(LivenessDue::Silent { late }) => return Some(End::Silent { late }),
            None => (),
        }
        None
    }

    fn next_wake(&self) -> Instant {
        let clock = self.shared.hub().clock();
        let mut running = match &self.session {
            Some(session) => session.liveness.next(),
            None => self.login.next(),
        };
        if let Some(blocked) = &self.blocked {
            running = running.min(blocked.next());
        }
        let notice_at = self.session.as_ref().and_then(|session| session.notice_at);
        let notice = notice_at.map(|at| at - clock.now());
        let wait = clock.until(running);
        clock.after(notice.map_or(wait, |notice| notice.min(wait)))
    }

    /// Ends the session, if there is one, for what the connection's end means.
    fn settle(&mut self, end: End) {
        let hub = Arc::clone(self.shared.hub());
        let closed = match (end.closes_with(), end) {
            (Some(close), _) => Closed::ByHub(close),
            (None, End::Closed { close }) => Closed::ByPeer(close),
            (None, _) => unreachable!("what the peer did not close, the hub does"),
        };
        hub.metrics().closed(closed);
        let (code, by) = (closed.code(), closed.by());
        let lived_ms = (self.now() - self.since).as_millis();
        let Some(mut session) = self.session.take() else {
            tracing::debug!(address = ?self.address, end = code, by, lived_ms, "a visitor left");
            return;
        };
        let origin = session.origin();
        let event = match end {
            End::LoggedOut | End::ByHub(_) => None,
            // A restart ends nothing (T11).
            End::Closed { .. } if hub.is_draining() => None,
            End::Closed { close } => Some(EventKind::Closed { origin, close_code: close }),
            End::Expelled(close) => {
                Some(EventKind::Closed { origin, close_code: Some(close.code()) })
            }
            End::Silent { late } => {
                Some(EventKind::Silent { origin, deadline: hub.clock().now() - late })
            }
        };
        session.is_settled = true;
        if end == (End::Closed { close: None }) && session.platform.is_native() {
            self.note_cut(&hub);
        }
        tracing::info!(
            user = session.identity.user.as_str(),
            session = %session.id,
            platform = %session.platform,
            device = ?session.device.as_str(),
            address = self.address.map(tracing::field::display),
            cause = end.cause(),
            close = code,
            by,
            lived_ms,
            "session ended"
        );
        if let Some(event) = event {
            let left = Arc::clone(self.connection.mailbox());
            hub.settle(session.identity.user.clone(), event, left);
        }
    }

    /// Says once that a proxy seems to cut native apps between two pings.
    fn note_cut(&self, hub: &Hub) {
        let now = self.now();
        let idle = now - self.connection.mailbox().heard();
        if !hub.is_draining() && self.shared.idle_cuts.lock().count(idle, now) {
            tracing::warn!(
                native_ping = %duration::format(hub.policy().windows.native_ping),
                "idle connections of native apps are cut after about 60 s without a Close: most \
                 likely a proxy's idle timeout; raise that timeout above liveness.native_ping \
                 (nginx: proxy_read_timeout 300s), or set liveness.native_ping below it"
            );
        }
    }

    fn note_heard(&mut self) {
        let clock = self.shared.hub().clock();
        self.connection.mailbox().hear(clock.now());
        if let Some(session) = &mut self.session {
            session.liveness.heard(clock.running());
        }
    }

    /// Sends a request's one answer.
    pub(super) fn reply(&self, id: u64, ok: impl Serialize) {
        self.connection.mailbox().post(text_frame(&Reply { id, outcome: Outcome::Ok(ok) }));
    }

    /// Sends an error: a request's one answer, or a push where there is no id to answer to.
    pub(super) fn refuse(&self, id: Option<u64>, error: ErrorBody) {
        let frame = match id {
            Some(id) => text_frame(&Reply { id, outcome: Outcome::<()>::Error(error) }),
            None => text_frame(&Push::Error { error }),
        };
        self.connection.mailbox().post(frame);
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        self.shared.hub()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.hub().clock().now()
    }
}

fn already_logged_in() -> ErrorBody {
    ErrorBody::new(ErrorCode::AlreadyLoggedIn, "this connection has logged in already")
}

/// When to tell a client that its token expires then.
pub(super) fn notice_at(expires_at: Timestamp, clock: &Clock) -> Timestamp {
    clock.from_wall(expires_at) - EXPIRY_NOTICE
}

impl End {
    /// What the peer is told; nothing where it is gone or has been told.
    const fn closes_with(self) -> Option<Close> {
        match self {
            Self::LoggedOut => Some(Close::LoggedOut),
            Self::ByHub(close) | Self::Expelled(close) => Some(close),
            Self::Closed { .. } => None,
            Self::Silent { .. } => Some(Close::Silence),
        }
    }

    /// Why, for the log.
    const fn cause(self) -> &'static str {
        match self {
            Self::LoggedOut => "logout",
            Self::ByHub(close) => close.reason(),
            Self::Closed { .. } | Self::Expelled(_) => "close",
            Self::Silent { .. } => "silence",
        }
    }
}
