//! Answers the requests of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use tokio::task::yield_now;

use super::disconnect::Disconnect;
use super::errors::{already_logged_in, refused, unavailable};
use super::logged_in::Session;
use crate::hub::{Applied, pending_once};
use crate::presence::{
    Answer, BackgroundReason, DeviceId, EventKind, Kicker, Platform, Refusal, SessionId, State,
    Status, Target, Timestamp, UserId, Victor,
};
use crate::wire::{ErrorBody, ErrorCode, Reply, ReplyBody, Request, UserStatus, text_frame};

/// After a request that names more users than this, the actor lets other tasks run.
const NAMED_MANY: usize = 20;

/// An empty answer.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct StatusesReply<'a> {
    statuses: Vec<UserStatus<'a>>,
    errors: &'a [FailedUser],
}

#[derive(Serialize)]
struct OwnStatus<'a> {
    status: UserStatus<'a>,
}

/// The error for one of many users.
#[derive(Serialize)]
struct FailedUser {
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

impl Session<'_> {
    /// Answers a request; returns the end of the session after a logout.
    pub(super) async fn answer(&mut self, id: u64, request: Request) -> Option<Disconnect> {
        let logs_out = request == Request::Logout;
        let named = self.named_users(&request);
        self.channel.charge(named, 0);
        let answered = self.try_answer(id, request).await;
        if named > NAMED_MANY {
            // Several such messages in a row would keep a thread for too long.
            yield_now().await;
        }
        match answered {
            Ok(()) => logs_out.then_some(Disconnect::LoggedOut),
            Err(error) => {
                self.channel.refuse(Some(id), error);
                None
            }
        }
    }

    /// How many users a request names.
    fn named_users(&self, request: &Request) -> usize {
        match request {
            Request::Subscribe(users)
            | Request::Query(users)
            | Request::Unsubscribe(Some(users)) => users.len(),
            Request::Unsubscribe(None) => self.channel.connection.watching(),
            Request::Background(_)
            | Request::Foreground
            | Request::Set(_)
            | Request::Refresh(_)
            | Request::Ping
            | Request::Sessions
            | Request::Kick(_)
            | Request::Logout
            | Request::Login(_) => 0,
        }
    }

    async fn try_answer(&mut self, id: u64, request: Request) -> Result<(), ErrorBody> {
        match request {
            Request::Subscribe(users) => self.subscribe(id, users).await,
            Request::Unsubscribe(users) => {
                self.unsubscribe(id, users);
                Ok(())
            }
            Request::Query(users) => self.query(id, users).await,
            Request::Background(reason) => self.background(id, reason).await,
            Request::Foreground => {
                self.apply(EventKind::Foreground(self.origin())).await?;
                self.channel.reply(id, Nothing {});
                Ok(())
            }
            Request::Set(custom) => self.set(id, custom).await,
            Request::Refresh(token) => self.refresh(id, &token).await,
            Request::Ping => {
                self.channel.reply(id, serde_json::json!({ "now": self.channel.clock().wall() }));
                Ok(())
            }
            Request::Sessions => self.sessions(id).await,
            Request::Kick(session) => self.kick(id, &session).await,
            Request::Logout => {
                self.apply(EventKind::Logout(self.origin())).await?;
                self.channel.reply(id, Nothing {});
                Ok(())
            }
            Request::Login(_) => Err(already_logged_in()),
        }
    }

    async fn subscribe(&mut self, id: u64, users: Vec<String>) -> Result<(), ErrorBody> {
        let named = users.len();
        self.channel.may_look(&self.identity.user, named)?;
        let connection = &self.channel.connection;
        let mut free = self.channel.settings.subscriptions.saturating_sub(connection.watching());
        let (users, errors) = self.watchable(users, |user, accepted| {
            if connection.watches(user) || accepted.contains(user) {
                return true;
            }
            let room = free > 0;
            free = free.saturating_sub(1);
            room
        });
        let added = connection.watch(&users);
        let sent = self.send_statuses(id, &users, &errors).await;
        if sent.is_err() {
            self.channel.connection.unwatch(&added);
            self.channel.unlook(&self.identity.user, named);
        }
        sent
    }

    async fn query(&mut self, id: u64, users: Vec<String>) -> Result<(), ErrorBody> {
        let named = users.len();
        self.channel.may_look(&self.identity.user, named)?;
        let (users, errors) = self.watchable(users, |_, _| true);
        let sent = self.send_statuses(id, &users, &errors).await;
        sent.inspect_err(|_| self.channel.unlook(&self.identity.user, named))
    }

    fn unsubscribe(&self, id: u64, users: Option<Vec<String>>) {
        let connection = &self.channel.connection;
        match users {
            None => connection.unwatch_all(),
            Some(users) => {
                let users: Vec<UserId> = users.iter().filter_map(|id| id.parse().ok()).collect();
                connection.unwatch(&users);
            }
        }
        let count = connection.watching();
        self.channel.reply(id, serde_json::json!({ "count": count }));
    }

    /// Splits users into those that may be watched, in the given order, and errors for the others.
    /// `room` says whether one more user fits the limit.
    fn watchable(
        &self,
        asked: Vec<String>,
        mut room: impl FnMut(&UserId, &[UserId]) -> bool,
    ) -> (Vec<UserId>, Vec<FailedUser>) {
        let (mut users, mut errors) = (Vec::with_capacity(asked.len()), Vec::new());
        for user in asked {
            let code = match user.parse::<UserId>() {
                Err(_) => ErrorCode::InvalidUser,
                Ok(id) if !self.identity.may_watch(&id) => ErrorCode::Forbidden,
                Ok(id) if !room(&id, &users) => ErrorCode::TooMany,
                Ok(id) => {
                    users.push(id);
                    continue;
                }
            };
            errors.push(FailedUser { user, code });
        }
        (users, errors)
    }

    async fn send_statuses(
        &mut self,
        id: u64,
        users: &[UserId],
        errors: &[FailedUser],
    ) -> Result<(), ErrorBody> {
        let bytes = AtomicUsize::new(0);
        let frame = |statuses: &[Status]| {
            let statuses = users
                .iter()
                .zip(statuses)
                .map(|(user, status)| UserStatus { user, status })
                .collect();
            let reply = Reply { id, body: ReplyBody::Ok(StatusesReply { statuses, errors }) };
            let frame = text_frame(&reply);
            bytes.fetch_add(frame.len(), Ordering::Relaxed);
            frame
        };
        let sent = self.channel.connection.send_snapshot(users, frame).await;
        self.channel.charge(0, bytes.into_inner());
        sent.map_err(|error| unavailable(self.channel.hub(), &error))
    }

    async fn background(&self, id: u64, reason: BackgroundReason) -> Result<(), ErrorBody> {
        self.channel.may_write(&self.identity.user)?;
        let origin = self.origin();
        let applied = self.apply(EventKind::Background { origin, reason }).await?;
        let Answer::Background { deadline } = applied.answer else {
            unreachable!("a background event returns Answer::Background")
        };
        let deadline = deadline.map(|at| self.channel.clock().to_wall(at));
        self.channel.reply(id, serde_json::json!({ "deadline": deadline }));
        Ok(())
    }

    async fn set(&self, id: u64, custom: Option<Arc<str>>) -> Result<(), ErrorBody> {
        let user = &self.identity.user;
        self.channel.may_write(user)?;
        let applied = self.apply(EventKind::Set { origin: Some(self.origin()), custom }).await?;
        let frame = |status: &Status| {
            let status = UserStatus { user, status };
            text_frame(&Reply { id, body: ReplyBody::Ok(OwnStatus { status }) })
        };
        let sent = self.channel.connection.send_status(user, &applied.record.status(), frame).await;
        sent.map_err(|error| unavailable(self.channel.hub(), &error))
    }

    async fn refresh(&mut self, id: u64, token: &str) -> Result<(), ErrorBody> {
        self.channel.may_change(&self.identity.user)?;
        let verified = self.channel.verify(token, self.platform, &self.device).await;
        let identity = verified.map_err(|unidentified| unidentified.error)?;
        if identity.user != self.identity.user {
            let message = "the token belongs to another user";
            return Err(ErrorBody::new(ErrorCode::InvalidToken, message));
        }
        self.apply(EventKind::Refresh {
            origin: self.origin(),
            token_until: self.channel.token_until(&identity),
            issued_at_secs: identity.issued_at_secs,
        })
        .await?;
        let expires_at = identity.expires_at;
        self.identity = identity;
        self.channel.set_token_expiry(expires_at);
        self.channel.reply(id, serde_json::json!({ "expires_at": expires_at }));
        Ok(())
    }

    async fn sessions(&self, id: u64) -> Result<(), ErrorBody> {
        let hub = self.channel.hub();
        let record = hub.record(&self.identity.user).await;
        let record = record.map_err(|error| unavailable(hub, &error))?;
        let terminals = record.terminals.iter().map(|terminal| Own {
            platform: terminal.platform,
            device: terminal.device.clone(),
            session: terminal.session,
            state: terminal.state(),
            since: terminal.since,
            app: terminal.app.clone(),
            current: terminal.session == self.id,
        });
        let sessions: Vec<_> = terminals.collect();
        self.channel.reply(id, serde_json::json!({ "sessions": sessions }));
        Ok(())
    }

    async fn kick(&self, id: u64, session: &str) -> Result<(), ErrorBody> {
        let session: SessionId = session.parse().map_err(|_| {
            ErrorBody::new(ErrorCode::BadRequest, "`session`: expected a session id")
        })?;
        if session == self.id {
            let message = "`session` is the session of this connection: send `logout` to end it";
            return Err(ErrorBody::new(ErrorCode::BadRequest, message));
        }
        let by = Kicker::Own(Victor {
            platform: self.platform,
            device: self.device.clone(),
            session: self.id,
        });
        let target = Target { session: Some(session), ..Target::default() };
        self.apply(EventKind::Kick { target, by }).await?;
        self.channel.reply(id, Nothing {});
        Ok(())
    }

    /// Applies an event of this session.
    async fn apply(&self, event: EventKind) -> Result<Applied, ErrorBody> {
        let applied = self.channel.connection.apply(&self.identity.user, event).await;
        let applied = applied.map_err(|error| unavailable(self.channel.hub(), &error))?;
        // Let the pushes to watchers go first, so that this reply goes out together with them: fewer,
        // larger batches of writes cost less.
        pending_once().await;
        match applied.answer {
            // The Close frame is on its way.
            Answer::Stale => Err(ErrorBody::new(ErrorCode::NotLoggedIn, "the session has ended")),
            Answer::Refused(refusal) => {
                if refusal == Refusal::LogQuota {
                    self.channel.note_over_quota(&self.identity.user);
                }
                Err(refused(refusal))
            }
            Answer::Done
            | Answer::Admitted { .. }
            | Answer::Kicked { .. }
            | Answer::Background { .. } => Ok(applied),
        }
    }
}
