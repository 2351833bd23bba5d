use std::sync::Arc;

use serde::Serialize;
use tokio::io::AsyncRead;

use super::actor::{Actor, End, notice_at};
use super::login::{refused, unavailable};
use crate::hub::{Applied, pending_once};
use crate::presence::{
    Answer, BackgroundReason, DeviceId, EventKind, Kicker, Platform, SessionId, State, Status,
    Target, Timestamp, UserId, Victor,
};
use crate::wire::{ErrorBody, ErrorCode, Outcome, Reply, Request, UserStatus, text_frame};

/// An answer without content.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Statuses<'a> {
    statuses: Vec<UserStatus<'a>>,
    errors: &'a [UserError],
}

#[derive(Serialize)]
struct OwnStatus<'a> {
    status: UserStatus<'a>,
}

/// Why one of many users was left out.
#[derive(Serialize)]
struct UserError {
    user: String,
    code: ErrorCode,
}

#[derive(Serialize)]
struct Own {
    platform: Platform,
    device: DeviceId,
    session: SessionId,
    state: State,
    since: Timestamp,
    app: Option<Arc<str>>,
    current: bool,
}

impl<R: AsyncRead + Unpin + Send> Actor<R> {
    /// Serves a request of a session.
    pub(super) async fn serve_request(&mut self, id: u64, request: Request) -> Option<End> {
        let logs_out = request == Request::Logout;
        match self.try_serve(id, request).await {
            Ok(()) => logs_out.then_some(End::LoggedOut),
            Err(error) => {
                self.refuse(Some(id), error);
                None
            }
        }
    }

    async fn try_serve(&mut self, id: u64, request: Request) -> Result<(), ErrorBody> {
        match request {
            Request::Subscribe(users) => self.subscribe(id, users).await,
            Request::Unsubscribe(users) => {
                self.unsubscribe(id, users);
                Ok(())
            }
            Request::Query(users) => self.query(id, users).await,
            Request::Background(reason) => self.background(id, reason).await,
            Request::Foreground => {
                self.apply(EventKind::Foreground(self.session()?.origin())).await?;
                self.reply(id, Nothing {});
                Ok(())
            }
            Request::Set(custom) => self.set(id, custom).await,
            Request::Refresh(token) => self.refresh(id, &token).await,
            Request::Ping => {
                self.reply(id, serde_json::json!({ "now": self.hub().clock().wall() }));
                Ok(())
            }
            Request::Sessions => self.sessions(id).await,
            Request::Kick(session) => self.kick(id, &session).await,
            Request::Logout => {
                self.apply(EventKind::Logout(self.session()?.origin())).await?;
                self.reply(id, Nothing {});
                Ok(())
            }
            Request::Login(_) => unreachable!("a second login is refused before"),
        }
    }

    async fn subscribe(&self, id: u64, users: Vec<String>) -> Result<(), ErrorBody> {
        let connection = &self.connection;
        let mut free = self.settings.subscriptions.saturating_sub(connection.watching());
        let (users, errors) = self.watchable(users, |user, accepted| {
            if connection.watches(user) || accepted.contains(user) {
                return true;
            }
            let room = free > 0;
            free = free.saturating_sub(1);
            room
        })?;
        let added = self.connection.watch(&users);
        let sent = self.send_statuses(id, &users, &errors).await;
        if sent.is_err() {
            self.connection.unwatch(&added);
        }
        sent
    }

    async fn query(&self, id: u64, users: Vec<String>) -> Result<(), ErrorBody> {
        let (users, errors) = self.watchable(users, |_, _| true)?;
        self.send_statuses(id, &users, &errors).await
    }

    fn unsubscribe(&self, id: u64, users: Option<Vec<String>>) {
        match users {
            None => self.connection.unwatch_all(),
            Some(users) => {
                let users: Vec<UserId> = users.iter().filter_map(|id| id.parse().ok()).collect();
                self.connection.unwatch(&users);
            }
        }
        let count = self.connection.watching();
        self.reply(id, serde_json::json!({ "count": count }));
    }

    /// Sorts users into those that may be watched, in the order asked, and the others.
    fn watchable(
        &self,
        asked: Vec<String>,
        mut room: impl FnMut(&UserId, &[UserId]) -> bool,
    ) -> Result<(Vec<UserId>, Vec<UserError>), ErrorBody> {
        let identity = &self.session()?.identity;
        let (mut users, mut errors) = (Vec::with_capacity(asked.len()), Vec::new());
        for user in asked {
            let code = match user.parse::<UserId>() {
                Err(_) => ErrorCode::InvalidUser,
                Ok(id) if !identity.may_watch(&id) => ErrorCode::Forbidden,
                Ok(id) if !room(&id, &users) => ErrorCode::TooMany,
                Ok(id) => {
                    users.push(id);
                    continue;
                }
            };
            errors.push(UserError { user, code });
        }
        Ok((users, errors))
    }

    async fn send_statuses(
        &self,
        id: u64,
        users: &[UserId],
        errors: &[UserError],
    ) -> Result<(), ErrorBody> {
        let frame = |statuses: &[Status]| {
            let statuses = users
                .iter()
                .zip(statuses)
                .map(|(user, status)| UserStatus { user, status })
                .collect();
            text_frame(&Reply { id, outcome: Outcome::Ok(Statuses { statuses, errors }) })
        };
        self.connection
            .send_snapshot(users, frame)
            .await
            .map_err(|error| unavailable(self.hub(), &error))
    }

    async fn background(&self, id: u64, reason: BackgroundReason) -> Result<(), ErrorBody> {
        let session = self.session()?;
        self.may_change(&session.identity.user)?;
        let origin = session.origin();
        let applied = self.apply(EventKind::Background { origin, reason }).await?;
        let Answer::Background { deadline } = applied.answer else {
            unreachable!("the background is answered with its deadline")
        };
        let deadline = deadline.map(|at| self.hub().clock().shown(at));
        self.reply(id, serde_json::json!({ "deadline": deadline }));
        Ok(())
    }

    async fn set(&self, id: u64, custom: Option<Arc<str>>) -> Result<(), ErrorBody> {
        let session = self.session()?;
        let user = &session.identity.user;
        self.may_change(user)?;
        let applied = self.apply(EventKind::Set { origin: Some(session.origin()), custom }).await?;
        let frame = |status: &Status| {
            let status = UserStatus { user, status };
            text_frame(&Reply { id, outcome: Outcome::Ok(OwnStatus { status }) })
        };
        let sent = self.connection.send_status(user, &applied.record.status(), frame).await;
        sent.map_err(|error| unavailable(self.hub(), &error))
    }

    async fn refresh(&mut self, id: u64, token: &str) -> Result<(), ErrorBody> {
        let session = self.session()?;
        self.may_change(&session.identity.user)?;
        let identity = self
            .verify(token, session.platform, &session.device)
            .await
            .map_err(|unidentified| unidentified.error)?;
        if identity.user != session.identity.user {
            let message = "the token is another user's";
            return Err(ErrorBody::new(ErrorCode::InvalidToken, message));
        }
        self.apply(EventKind::Refresh {
            origin: session.origin(),
            token_until: self.token_until(&identity),
            issued_at_secs: identity.issued_at_secs,
        })
        .await?;
        let expires_at = identity.expires_at;
        let notice_at = notice_at(expires_at, self.hub().clock());
        if let Some(session) = &mut self.session {
            session.identity = identity;
            session.notice_at = Some(notice_at);
        }
        self.reply(id, serde_json::json!({ "expires_at": expires_at }));
        Ok(())
    }

    async fn sessions(&self, id: u64) -> Result<(), ErrorBody> {
        let session = self.session()?;
        let record = self
            .hub()
            .record(&session.identity.user)
            .await
            .map_err(|error| unavailable(self.hub(), &error))?;
        let terminals = record.terminals.iter().map(|terminal| Own {
            platform: terminal.platform,
            device: terminal.device.clone(),
            session: terminal.session,
            state: terminal.state(),
            since: terminal.since,
            app: terminal.app.clone(),
            current: terminal.session == session.id,
        });
        let sessions: Vec<_> = terminals.collect();
        self.reply(id, serde_json::json!({ "sessions": sessions }));
        Ok(())
    }

    async fn kick(&self, id: u64, session: &str) -> Result<(), ErrorBody> {
        let own = self.session()?;
        let session: SessionId = session.parse().map_err(|_| {
            ErrorBody::new(ErrorCode::BadRequest, "`session` must be a session's id")
        })?;
        if session == own.id {
            let message = "to end this session, log out";
            return Err(ErrorBody::new(ErrorCode::BadRequest, message));
        }
        let by = Kicker::Own(Victor {
            platform: own.platform,
            device: own.device.clone(),
            session: own.id,
        });
        let target = Target { session: Some(session), ..Target::default() };
        self.apply(EventKind::Kick { target, by }).await?;
        self.reply(id, Nothing {});
        Ok(())
    }

    /// Applies an event of this session.
    async fn apply(&self, event: EventKind) -> Result<Applied, ErrorBody> {
        let user = &self.session()?.identity.user;
        let applied = self
            .connection
            .apply(user, event)
            .await
            .map_err(|error| unavailable(self.hub(), &error))?;
        // The answer goes out beside what the watchers are told: what is sent in one go costs less than
        // what is sent now and then.
        pending_once().await;
        match applied.answer {
            Answer::Stale => Err(ended()),
            Answer::Refused(refusal) => Err(refused(refusal)),
            Answer::Done
            | Answer::Admitted { .. }
            | Answer::Kicked { .. }
            | Answer::Background { .. } => Ok(applied),
        }
    }

    fn session(&self) -> Result<&super::login::Session, ErrorBody> {
        self.session.as_ref().ok_or_else(ended)
    }
}

/// What a request is told that came after the end of its session; its Close is on the way.
fn ended() -> ErrorBody {
    ErrorBody::new(ErrorCode::NotLoggedIn, "the session has ended")
}
