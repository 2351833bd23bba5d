use std::sync::Arc;

use serde::Serialize;
use tokio::io::AsyncRead;

use super::actor::{Actor, End, notice_at};
use super::refusals::{Applicant, RefusedLogin};
use crate::auth::{Identity, TokenFault, claimed_user};
use crate::hub::{Applied, Hub, Mailbox, Unavailable};
use crate::presence::{
    Answer, DeviceId, EventKind, Intent, Liveness, Login, Origin, Platform, Refusal, SessionId,
    Status, Timestamp, UserId, Victim,
};
use crate::wire::{
    Close, ErrorBody, ErrorCode, LoginRequest, Outcome, Reply, UserStatus, text_frame,
};

/// A login on a connection.
pub(super) struct Session {
    hub: Arc<Hub>,
    pub(super) id: SessionId,
    mailbox: Arc<Mailbox>,
    pub(super) platform: Platform,
    pub(super) device: DeviceId,
    pub(super) identity: Identity,
    pub(super) liveness: Liveness,
    /// When to tell the client that its token is about to expire; `None` once told.
    pub(super) notice_at: Option<Timestamp>,
    /// Whether its end has been seen to.
    pub(super) is_settled: bool,
}

/// What an accepted login is told.
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

impl Session {
    pub(super) fn origin(&self) -> Origin {
        Origin { session: self.id, connection: self.mailbox.id() }
    }
}

impl Drop for Session {
    /// An actor that panicked leaves no ghost.
    fn drop(&mut self) {
        if !self.is_settled && std::thread::panicking() {
            let event = EventKind::Closed { origin: self.origin(), close_code: None };
            let left = Arc::clone(&self.mailbox);
            self.hub.settle(self.identity.user.clone(), event, left);
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Actor<R> {
    /// Logs in or resumes; a login that fails ends the connection.
    pub(super) async fn log_in(&mut self, id: u64, request: LoginRequest) -> Option<End> {
        if self.hub().is_full() {
            let (close, message) =
                (Close::TryAgainLater, "no login is possible now: try again later");
            self.note_refusal(close.reason(), message, who_asks(&request, false));
            self.refuse(Some(id), ErrorBody::new(ErrorCode::Unavailable, message));
            return Some(End::Expelled(close));
        }
        let (is_verified, admitted) = match self.identify(&request).await {
            Err(Unidentified { error, is_verified }) => (is_verified, Err(error)),
            Ok((device, identity)) => (true, self.admit(id, &request, device, identity).await),
        };
        let error = admitted.err()?;
        self.note_refusal(error.code.name(), &error.message, who_asks(&request, is_verified));
        let close = error.code.closes_login();
        self.refuse(Some(id), error);
        Some(End::Expelled(close))
    }

    /// Counts, keeps and logs the refusal of a login.
    pub(super) fn note_refusal(&self, reason: &'static str, message: &str, applicant: Applicant) {
        self.hub().metrics().login_refused(reason);
        let clock = self.hub().clock();
        let refusal = RefusedLogin::new(clock.wall(), reason, message, applicant, self.address);
        self.shared.refusals.note(refusal, clock.now());
    }

    /// Finds out who logs in, and on which device.
    async fn identify(&self, request: &LoginRequest) -> Result<(DeviceId, Identity), Unidentified> {
        let device = request.device.as_deref().unwrap_or_default();
        let device: DeviceId = device.parse().map_err(|error| Unidentified {
            error: ErrorBody::new(ErrorCode::InvalidDevice, format!("{error}")),
            is_verified: false,
        })?;
        let identity = self.verify(&request.token, request.platform, &device).await?;
        Ok((device, identity))
    }

    async fn admit(
        &mut self,
        id: u64,
        request: &LoginRequest,
        device: DeviceId,
        identity: Identity,
    ) -> Result<(), ErrorBody> {
        self.may_change(&identity.user)?;

        let hub = Arc::clone(self.hub());
        let intent = match &request.resume {
            None => Intent::New,
            Some(session) => Intent::Resume(session.parse().ok()),
        };
        let fresh = hub.new_session();
        let login = Login {
            session: fresh,
            connection: self.connection.mailbox().id(),
            address: self.address,
            platform: request.platform,
            device: device.clone(),
            intent,
            custom: request.custom.clone(),
            app: request.app.clone(),
            token_until: self.token_until(&identity),
            issued_at_secs: identity.issued_at_secs,
        };
        let event = EventKind::Login(Box::new(login));
        let then = |applied: &Applied| self.confirm(id, &identity, request.platform, applied);
        let applied = match hub.apply_then(&identity.user, event, then).await {
            Ok(applied) => applied,
            Err(error) => {
                if error.is_in_doubt {
                    self.take_back(&identity.user, fresh, intent);
                }
                return Err(unavailable(&hub, &error));
            }
        };
        let session = admitted(applied.answer)?;

        let windows = &hub.policy().windows;
        self.session = Some(Session {
            id: session,
            mailbox: Arc::clone(self.connection.mailbox()),
            platform: request.platform,
            device,
            liveness: Liveness::new(request.platform, windows, hub.clock().running()),
            notice_at: Some(notice_at(identity.expires_at, hub.clock())),
            identity,
            is_settled: false,
            hub,
        });
        Ok(())
    }

    /// Ends what a login began, should it have been written after all.
    fn take_back(&self, user: &UserId, fresh: SessionId, intent: Intent) {
        let resumed = match intent {
            Intent::New => None,
            Intent::Resume(session) => session,
        };
        let connection = self.connection.mailbox().id();
        for session in [Some(fresh), resumed].into_iter().flatten() {
            let origin = Origin { session, connection };
            let close_code = Some(Close::Unavailable.code());
            let left = Arc::clone(self.connection.mailbox());
            self.hub().settle(user.clone(), EventKind::Closed { origin, close_code }, left);
        }
    }

    /// Answers a login that was accepted.
    fn confirm(&self, id: u64, identity: &Identity, platform: Platform, applied: &Applied) {
        let Answer::Admitted { session, resumed, kicked } = &applied.answer else { return };
        self.connection.mailbox().belongs_to(&identity.user);
        // Counted before it is answered, so that whoever has the answer finds it in the counts.
        self.hub().metrics().logged_in(if *resumed { "resume" } else { "login" });
        let status: Status = applied.record.status();
        let policy = self.hub().policy();
        let ok = LoggedIn {
            user: &identity.user,
            session: *session,
            resumed: *resumed,
            now: self.hub().clock().wall(),
            ping_ms: policy.windows.ping(platform).as_millis(),
            silence_ms: policy.windows.silence(platform).as_millis(),
            expires_at: identity.expires_at,
            kicked,
            status: UserStatus { user: &identity.user, status: &status },
        };
        let reply = text_frame(&Reply { id, outcome: Outcome::Ok(ok) });
        self.connection.mailbox().post(reply);
    }

    /// Checks a token, and that it fits the platform and the device.
    pub(super) async fn verify(
        &self,
        token: &str,
        platform: Platform,
        device: &DeviceId,
    ) -> Result<Identity, Unidentified> {
        let wall = self.hub().clock().wall();
        let identity =
            self.shared.settings().verifier.verify(token, wall).await.map_err(|fault| {
                let (code, is_verified) = match &fault {
                    TokenFault::Expired => (ErrorCode::TokenExpired, true),
                    TokenFault::Unacceptable(_) => (ErrorCode::InvalidToken, true),
                    TokenFault::Invalid(_) => (ErrorCode::InvalidToken, false),
                    TokenFault::KeysUnavailable | TokenFault::KeyNotFetched => {
                        (ErrorCode::Unavailable, false)
                    }
                };
                Unidentified { error: ErrorBody::new(code, fault.to_string()), is_verified }
            })?;
        let wrong = |code, message: &str| {
            Err(Unidentified { error: ErrorBody::new(code, message), is_verified: true })
        };
        if !identity.allows_platform(platform) {
            return wrong(ErrorCode::PlatformNotAllowed, "the token is not for this platform");
        }
        if !identity.allows_device(device) {
            return wrong(ErrorCode::InvalidDevice, "the token is not for this device");
        }
        Ok(identity)
    }

    /// Whether a user may change once more now.
    pub(super) fn may_change(&self, user: &UserId) -> Result<(), ErrorBody> {
        if self.shared.changes.take(user, &self.settings.changes, self.now()) {
            return Ok(());
        }
        let message = "too many changes of this user within a minute";
        Err(ErrorBody::new(ErrorCode::RateLimited, message))
    }

    /// When a token has expired, leeway included, on the process's own time (T10).
    pub(super) fn token_until(&self, identity: &Identity) -> Timestamp {
        let leeway = self.shared.settings().verifier.leeway();
        self.hub().clock().from_wall(identity.expires_at + leeway)
    }
}

/// Why nobody could be identified by a token.
pub(super) struct Unidentified {
    pub(super) error: ErrorBody,
    /// Whether one of the hub's keys signed the token.
    is_verified: bool,
}

/// Who asks for a login, and whether the token has proved it.
fn who_asks(request: &LoginRequest, is_verified: bool) -> Applicant {
    Applicant {
        user: claimed_user(&request.token),
        is_verified,
        platform: Some(request.platform),
        device: request.device.as_deref().and_then(|device| device.parse().ok()),
    }
}

fn admitted(answer: Answer) -> Result<SessionId, ErrorBody> {
    match answer {
        Answer::Admitted { session, .. } => Ok(session),
        Answer::Refused(refusal) => Err(refused(refusal)),
        Answer::Done | Answer::Stale | Answer::Kicked { .. } | Answer::Background { .. } => {
            unreachable!("a login is admitted or refused")
        }
    }
}

/// What a client is told of a refusal by the rules.
pub(super) fn refused(refusal: Refusal) -> ErrorBody {
    let (code, message) = match refusal {
        Refusal::Kicked => (ErrorCode::Kicked, "the session was kicked"),
        Refusal::Superseded => {
            (ErrorCode::Superseded, "somebody else has logged in since: log in to take over")
        }
        Refusal::LoginConflict(devices) => return ErrorBody::conflict(devices),
        Refusal::TokenRevoked => {
            let message = "the token's `iat` lies before its user was kicked with revocation: sign a new \
                           token; where the signer's clock is behind the hub's, wait for as long";
            (ErrorCode::TokenRevoked, message)
        }
        Refusal::NotLoggedIn => (ErrorCode::NotLoggedIn, "the user is not logged in"),
    };
    ErrorBody::new(code, message)
}

/// What a client is told when the store does not answer.
pub(super) fn unavailable(hub: &Hub, error: &Unavailable) -> ErrorBody {
    hub.store_failed("a client's request was refused: the store failed", error, None);
    ErrorBody::new(ErrorCode::Unavailable, "the hub cannot do this now: try again")
}
