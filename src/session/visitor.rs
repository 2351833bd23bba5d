//! A client before its login, and the login itself.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::time::{Sleep, sleep};

use super::channel::{Channel, Unidentified};
use super::disconnect::Disconnect;
use super::errors::{refused, unavailable};
use super::logged_in::{Client, Session};
use super::reader::{Asked, Reader};
use super::refusals::Applicant;
use crate::auth::{Identity, claimed_user, limit_key};
use crate::hub::{Applied, LoginKind, RefusalReason};
use crate::presence::{
    Activity, Answer, DeviceId, EventKind, Intent, Login, Platform, SessionId, Status, Timestamp,
    UserId, Victim,
};
use crate::traces::{Span, names};
use crate::wire::{
    Close, ErrorBody, ErrorCode, KickReason, LoginRequest, Malformed, PartialLogin, Request,
    UserStatus,
};

/// A client before its login.
pub(super) struct Visitor<'a> {
    channel: &'a mut Channel,
}

/// The answer to an accepted login.
#[derive(Serialize)]
struct LoggedIn<'a> {
    user: &'a UserId,
    session: SessionId,
    resumed: bool,
    now: Timestamp,
    ping_ms: u128,
    silence_ms: u128,
    expires_at: Timestamp,
    kicked: &'a [Victim],
    status: UserStatus<'a>,
}

/// A login that the hub admitted.
struct Admitted {
    session: SessionId,
    /// How often the session was resumed, this time included.
    resumes: u32,
    activity: Activity,
    device: DeviceId,
    identity: Identity,
}

impl<'a> Visitor<'a> {
    pub(super) const fn new(channel: &'a mut Channel) -> Self {
        Self { channel }
    }

    /// Waits for the login; returns its session.
    pub(super) async fn serve<R: AsyncRead + Unpin + Send>(
        self,
        reader: &mut Reader<R>,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Session<'a>, Disconnect> {
        loop {
            match reader.next(self.channel, timer.as_mut()).await {
                Ok(Asked::Request(id, Request::Login(login))) => {
                    // Boxed: this future is large, and an idle connection should not hold its memory.
                    return Box::pin(self.log_in(id, *login)).await;
                }
                Ok(Asked::Request(id, _)) => {
                    let error =
                        ErrorBody::new(ErrorCode::NotLoggedIn, "not logged in: send `login` first");
                    self.channel.refuse(Some(id), error);
                }
                Ok(Asked::MalformedLogin(malformed, partial)) => {
                    return Err(self.refuse_malformed(malformed, partial));
                }
                // Only a connection with a user is told so.
                Ok(Asked::LogInAgain) => (),
                Err(end) => return Err(self.leave(end)),
            }
        }
    }

    /// Logs in or resumes. A failed login ends the connection.
    async fn log_in(self, id: u64, request: LoginRequest) -> Result<Session<'a>, Disconnect> {
        let span = Span::begin_served(names::LOGIN);
        if let Some(span) = &span {
            span.set(names::PLATFORM, request.platform.name());
        }
        if self.channel.hub().is_full() {
            let (reason, message) = (
                RefusalReason::TryAgainLater,
                "the hub is short of memory and accepts no logins: try again later",
            );
            note_refusal(span.as_ref(), reason);
            self.channel.note_refusal(reason, message, applicant_of(&request, false));
            self.channel.refuse(Some(id), ErrorBody::new(ErrorCode::Unavailable, message));
            return Err(self.leave(Disconnect::ByActor(Close::TryAgainLater)));
        }
        let (is_verified, admitted) = match self.identify_in_turn(&request).await {
            Err(Unidentified { error, is_verified }) => (is_verified, Err(error)),
            Ok((device, identity)) => {
                (true, self.admit(id, &request, device, identity, span.as_ref()).await)
            }
        };
        match admitted {
            Ok(Admitted { session, resumes, activity, device, identity }) => {
                let client = Client { platform: request.platform, device, app: request.app };
                Ok(Session::begin(self.channel, session, client, identity, (resumes, activity)))
            }
            Err(error) => {
                let applicant = applicant_of(&request, is_verified);
                let reason = RefusalReason::Error(error.code);
                note_refusal(span.as_ref(), reason);
                self.channel.note_refusal(reason, &error.message, applicant);
                let close = error.code.closes_login();
                self.channel.refuse(Some(id), error);
                Err(self.leave(Disconnect::ByActor(close)))
            }
        }
    }

    /// Refuses a malformed login and ends the connection.
    fn refuse_malformed(self, malformed: Malformed, partial: PartialLogin) -> Disconnect {
        let Malformed { id, error, .. } = malformed;
        let applicant = Applicant::from_malformed(partial);
        self.channel.note_refusal(RefusalReason::Error(error.code), &error.message, applicant);
        self.channel.refuse(id, error);
        self.leave(Disconnect::ByActor(ErrorCode::BadRequest.closes_login()))
    }

    /// Counts and logs the end of a connection without a login.
    fn leave(self, end: Disconnect) -> Disconnect {
        let (closed, lived_ms) = self.channel.count_end(end);
        tracing::debug!(
            close = closed.code(),
            by = closed.by(),
            lived_ms,
            "connection ended without a login"
        );
        end
    }

    /// Verifies the token and the device. If this address has sent too many tokens that the hub's keys did
    /// not sign, its logins wait.
    async fn identify_in_turn(
        &self,
        request: &LoginRequest,
    ) -> Result<(DeviceId, Identity), Unidentified> {
        let Channel { shared, settings, address, .. } = &*self.channel;
        let Some(key) = address.filter(|address| !address.is_loopback()).map(limit_key) else {
            return self.identify(request).await;
        };
        let begun = self.channel.now();
        // Taken before the token is verified, so that many at once do not all get through.
        while !shared.bad_logins.take(&key, &settings.bad_logins, self.channel.now()) {
            if self.channel.now() - begun > settings.login_timeout {
                let message = "too many invalid tokens from this address: try again later";
                let error = ErrorBody::new(ErrorCode::RateLimited, message);
                return Err(Unidentified { error, is_verified: false });
            }
            sleep(settings.bad_logins.pause()).await;
        }
        let identified = self.identify(request).await;
        let is_bad = identified.as_ref().is_err_and(Unidentified::is_bad_token);
        if !is_bad {
            shared.bad_logins.put_back(&key);
        }
        identified
    }

    /// Verifies the token and the device.
    async fn identify(&self, request: &LoginRequest) -> Result<(DeviceId, Identity), Unidentified> {
        let device = request.device.as_deref().unwrap_or_default();
        let device: DeviceId = device.parse().map_err(|error| Unidentified {
            error: ErrorBody::new(ErrorCode::InvalidDevice, format!("{error}")),
            is_verified: false,
        })?;
        let identity = self.channel.verify(&request.token, request.platform, &device).await?;
        Ok((device, identity))
    }

    async fn admit(
        &self,
        id: u64,
        request: &LoginRequest,
        device: DeviceId,
        identity: Identity,
        span: Option<&Span>,
    ) -> Result<Admitted, ErrorBody> {
        let channel = &*self.channel;
        channel.may_change(&identity.user)?;
        let intent = match &request.resume {
            None => Intent::New,
            Some(_) if channel.may_have_waited() => {
                let message = "the hub stood still while the resume waited: try again";
                return Err(ErrorBody::new(ErrorCode::Unavailable, message));
            }
            Some(session) => Intent::Resume(session.parse().ok()),
        };
        let activity = request
            .idle_ms
            .map(|ms| Activity::untouched_for(Duration::from_millis(ms), channel.clock().wall()));
        let fresh = channel.hub().new_session();
        let login = Login {
            session: fresh,
            connection: channel.mailbox().id(),
            address: channel.address,
            platform: request.platform,
            device: device.clone(),
            intent,
            custom: request.custom.clone(),
            activity,
            app: request.app.clone(),
            token_until: channel.token_until(&identity),
            issued_at_secs: identity.issued_at_secs,
        };
        let event = EventKind::Login(Box::new(login));
        let then = |applied: &Applied| self.confirm(id, &identity, request.platform, applied);
        let applied = match channel.hub().apply_then(&identity.user, event, then).await {
            Ok(applied) => applied,
            Err(error) => {
                if error.is_in_doubt {
                    self.undo(&identity.user, fresh);
                }
                return Err(unavailable(channel.hub(), &error));
            }
        };
        match applied.answer {
            Answer::Admitted { session, resumed, kicked } => {
                if let Some(span) = span {
                    note_login(span, resumed, kicked.len());
                }
                let terminal = applied.record.terminal(session);
                let (resumes, activity) =
                    terminal.map(|it| (it.resumes, it.activity)).unwrap_or_default();
                Ok(Admitted { session, resumes, activity, device, identity })
            }
            Answer::Refused(refusal) => Err(refused(refusal)),
            Answer::Done | Answer::Stale | Answer::Kicked { .. } | Answer::Background { .. } => {
                unreachable!("a login is admitted or refused")
            }
        }
    }

    /// Ends the session of a login that failed but may have been written nevertheless; a resumed one stays
    /// resumable.
    fn undo(&self, user: &UserId, fresh: SessionId) {
        let left = Arc::clone(self.channel.mailbox());
        let (connection, close_code) = (left.id(), Close::Unavailable.code());
        let event = EventKind::Unanswered { connection, fresh, close_code };
        self.channel.hub().end_session(user.clone(), event, left);
    }

    /// Answers an accepted login.
    fn confirm(&self, id: u64, identity: &Identity, platform: Platform, applied: &Applied) {
        let Answer::Admitted { session, resumed, kicked } = &applied.answer else { return };
        let hub = self.channel.hub();
        self.channel.mailbox().may_watch(identity.watch.clone());
        self.channel.mailbox().belongs_to(&identity.user);
        // Counted before the answer, so that a client that has the answer sees the count.
        hub.metrics().logged_in(if *resumed { LoginKind::Resume } else { LoginKind::Login });
        let status: Status = applied.record.status();
        let policy = hub.policy();
        let ok = LoggedIn {
            user: &identity.user,
            session: *session,
            resumed: *resumed,
            now: hub.clock().wall(),
            ping_ms: policy.windows.ping(platform).as_millis(),
            silence_ms: policy.windows.silence(platform).as_millis(),
            expires_at: identity.expires_at,
            kicked,
            status: UserStatus { user: &identity.user, status: &status },
        };
        self.channel.reply(id, ok);
    }
}

/// The sender of a login request.
fn applicant_of(request: &LoginRequest, is_verified: bool) -> Applicant {
    Applicant {
        user: claimed_user(&request.token),
        is_verified,
        platform: Some(request.platform),
        device: request.device.as_deref().and_then(|device| device.parse().ok()),
    }
}

/// Notes an accepted login on its span, with a span below it for the terminals that it kicked.
fn note_login(span: &Span, is_resumed: bool, kicked: usize) {
    span.set(names::LOGIN_OUTCOME, "admitted");
    span.set(names::LOGIN_RESUMED, is_resumed);
    if kicked > 0
        && let Some(kick) = span.child(names::KICK)
    {
        kick.set(names::KICK_REASON, KickReason::LoginElsewhere.name());
        kick.set_count(names::KICK_COUNT, kicked);
    }
}

/// Notes a refused login on its span. It is no error of the hub, unless its store is unavailable.
fn note_refusal(span: Option<&Span>, reason: RefusalReason) {
    let Some(span) = span else { return };
    span.set(names::LOGIN_OUTCOME, reason.name());
    if reason == RefusalReason::Error(ErrorCode::Unavailable) {
        span.fail(reason.name());
    }
}
