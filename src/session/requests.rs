//! Answers the requests of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::task::yield_now;

use super::disconnect::Disconnect;
use super::errors::{already_logged_in, refused, unavailable};
use super::logged_in::Session;
use crate::hub::{Applied, ListPage, Rights, pending_once};
use crate::presence::{
    ActivityView, Answer, BackgroundReason, BlockedChange, DeviceId, EventKind, Kicker, Platform,
    Refusal, SessionId, State, Status, Target, Timestamp, UserId, Victor, VisibilityChange,
};
use crate::traces::{Span, names};
use crate::wire::{
    ErrorBody, ErrorCode, KickReason, Reply, ReplyBody, Request, UserStatus, text_frame,
};

/// After a request that names more users than this, the actor lets other tasks run.
const NAMED_MANY: usize = 20;

/// How many statuses a page of the watch list has at most.
const LISTED_AT_ONCE: usize = 200;

/// An empty answer.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct StatusesReply<'a> {
    statuses: Vec<UserStatus<'a>>,
    errors: &'a [FailedUser],
}

#[derive(Serialize)]
struct ListReply<'a> {
    statuses: &'a [UserStatus<'a>],
    count: usize,
    next: Option<&'a UserId>,
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
    #[serde(flatten)]
    activity: ActivityView,
    app: Option<Arc<str>>,
    current: bool,
}

/// The users that a request names.
struct Asked {
    /// Each as given, and as an id if it is one.
    given: Vec<(String, Option<UserId>)>,
    /// Those that are ids.
    users: Vec<UserId>,
}

impl Asked {
    fn of(given: Vec<String>) -> Self {
        let given: Vec<_> = given.into_iter().map(|user| (user.parse().ok(), user)).collect();
        let users = given.iter().filter_map(|(id, _)| id.clone()).collect();
        Self { given: given.into_iter().map(|(id, user)| (user, id)).collect(), users }
    }

    /// Splits them into those that may be watched, in the given order, and errors for the others. `room` says
    /// whether one more user fits the limit.
    fn watchable(
        self,
        rights: &Rights<'_>,
        mut room: impl FnMut(&UserId, &[UserId]) -> bool,
    ) -> (Vec<UserId>, Vec<FailedUser>) {
        let (mut users, mut errors) = (Vec::with_capacity(self.given.len()), Vec::new());
        for (user, id) in self.given {
            let code = match id {
                None => ErrorCode::InvalidUser,
                Some(id) if !rights.cover(&id) => ErrorCode::Forbidden,
                Some(id) if !room(&id, &users) => ErrorCode::TooMany,
                Some(id) => {
                    users.push(id);
                    continue;
                }
            };
            errors.push(FailedUser { user, code });
        }
        (users, errors)
    }
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
            Request::Block(users) | Request::Unblock(users) => users.len(),
            Request::SubscribeList { .. }
            | Request::Blocked
            | Request::Background(_)
            | Request::Foreground
            | Request::Idle { .. }
            | Request::Active
            | Request::Set { .. }
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
            Request::SubscribeList { after } => self.subscribe_list(id, after).await,
            Request::Unsubscribe(users) => {
                self.unsubscribe(id, users).await;
                Ok(())
            }
            Request::Query(users) => self.query(id, users).await,
            Request::Background(reason) => self.background(id, reason).await,
            Request::Foreground => self.foreground(id).await,
            Request::Idle { untouched } => self.idle(id, untouched).await,
            Request::Active => self.active(id).await,
            Request::Set { custom, hidden } => self.set(id, custom, hidden).await,
            Request::Block(users) => self.block(id, BlockedChange::Add(users)).await,
            Request::Unblock(users) => self.block(id, BlockedChange::Remove(users)).await,
            Request::Blocked => self.blocked(id).await,
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
        let asked = Asked::of(users);
        let rights = connection.rights(&asked.users).await;
        let rights = rights.map_err(|error| {
            self.channel.unlook(&self.identity.user, named);
            unavailable(self.channel.hub(), &error)
        })?;
        let mut free = self.channel.settings.subscriptions.saturating_sub(connection.watching());
        let (users, errors) = asked.watchable(&rights, |user, accepted| {
            if connection.watches(user) || accepted.contains(user) {
                return true;
            }
            let room = free > 0;
            free = free.saturating_sub(1);
            room
        });
        let added = connection.watch(&users);
        // With the rights: what a change takes away meanwhile must be taken away after the answer.
        let (sent, bytes) = self.send_statuses(id, &users, &errors).await;
        connection.settle(rights).await;
        self.channel.charge(0, bytes);
        if sent.is_err() {
            self.channel.connection.unwatch(&added);
            self.channel.unlook(&self.identity.user, named);
        }
        sent
    }

    async fn query(&mut self, id: u64, users: Vec<String>) -> Result<(), ErrorBody> {
        let named = users.len();
        self.channel.may_look(&self.identity.user, named)?;
        let asked = Asked::of(users);
        let rights = self.channel.connection.rights(&asked.users).await;
        let rights = rights.map_err(|error| {
            self.channel.unlook(&self.identity.user, named);
            unavailable(self.channel.hub(), &error)
        })?;
        let (users, errors) = asked.watchable(&rights, |_, _| true);
        let (sent, bytes) = self.send_statuses(id, &users, &errors).await;
        drop(rights);
        self.channel.charge(0, bytes);
        sent.inspect_err(|_| self.channel.unlook(&self.identity.user, named))
    }

    async fn unsubscribe(&self, id: u64, users: Option<Vec<String>>) {
        let connection = &self.channel.connection;
        match users {
            None => connection.unsubscribe().await,
            Some(users) => {
                let users: Vec<UserId> = users.iter().filter_map(|id| id.parse().ok()).collect();
                connection.unwatch(&users);
            }
        }
        let count = connection.watching();
        self.channel.reply(id, serde_json::json!({ "count": count }));
    }

    /// Answers with those on the user's watch list who are not `Offline`, a page at a time (P8).
    async fn subscribe_list(&mut self, id: u64, after: Option<UserId>) -> Result<(), ErrorBody> {
        let bytes = AtomicUsize::new(0);
        let frame = |page: &ListPage<'_>| {
            let ListPage { seen, count, next } = page;
            let ok = ListReply { statuses: seen, count: *count, next: *next };
            let frame = text_frame(&Reply { id, body: ReplyBody::Ok(ok) });
            bytes.fetch_add(frame.len(), Ordering::Relaxed);
            frame
        };
        let connection = &self.channel.connection;
        let sent = connection.send_list_page(after.as_ref(), LISTED_AT_ONCE, frame).await;
        let looked_at = sent.map_err(|error| unavailable(self.channel.hub(), &error))?;
        self.channel.charge(looked_at, bytes.into_inner());
        Ok(())
    }

    /// Sends statuses; returns how many bytes these are, too.
    async fn send_statuses(
        &self,
        id: u64,
        users: &[UserId],
        errors: &[FailedUser],
    ) -> (Result<(), ErrorBody>, usize) {
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
        (sent.map_err(|error| unavailable(self.channel.hub(), &error)), bytes.into_inner())
    }

    async fn background(&mut self, id: u64, reason: BackgroundReason) -> Result<(), ErrorBody> {
        self.channel.may_write(&self.identity.user)?;
        let origin = self.origin();
        let applied = self.apply_word(EventKind::Background { origin, reason }).await?;
        let Answer::Background { deadline } = applied.answer else {
            unreachable!("a background event returns Answer::Background")
        };
        let deadline = deadline.map(|at| self.channel.clock().to_wall(at));
        self.channel.reply(id, serde_json::json!({ "deadline": deadline }));
        Ok(())
    }

    async fn foreground(&mut self, id: u64) -> Result<(), ErrorBody> {
        if self.activity.is_idle() && self.platform != Platform::Web {
            // Counted (A6), but never refused: its mini-program would be ended (T6).
            self.channel.may_change(&self.identity.user).ok();
        }
        self.apply_word(EventKind::Foreground(self.origin())).await?;
        self.channel.reply(id, Nothing {});
        Ok(())
    }

    async fn idle(&mut self, id: u64, untouched: Duration) -> Result<(), ErrorBody> {
        if !self.activity.is_idle() {
            self.channel.may_write(&self.identity.user)?;
        }
        self.apply_word(EventKind::Idle { origin: self.origin(), untouched }).await?;
        self.channel.reply(id, Nothing {});
        Ok(())
    }

    async fn active(&mut self, id: u64) -> Result<(), ErrorBody> {
        if self.activity.is_idle() {
            self.channel.may_change(&self.identity.user)?;
        }
        self.apply_word(EventKind::Active(self.origin())).await?;
        self.channel.reply(id, Nothing {});
        Ok(())
    }

    /// Applies an event that may change the activity of this session's terminal.
    async fn apply_word(&mut self, event: EventKind) -> Result<Applied, ErrorBody> {
        let applied = self.apply(event).await?;
        if let Some(terminal) = applied.record.terminal(self.id) {
            self.activity = terminal.activity;
        }
        Ok(applied)
    }

    async fn set(
        &self,
        id: u64,
        custom: Option<Option<Arc<str>>>,
        hidden: Option<bool>,
    ) -> Result<(), ErrorBody> {
        let user = &self.identity.user;
        if hidden.is_some() {
            self.check_self_service()?;
        }
        self.channel.may_write(user)?;
        let set = EventKind::Set { origin: Some(self.origin()), custom, hidden };
        let applied = self.apply(set).await?;
        let frame = |status: &Status| {
            let status = UserStatus { user, status };
            text_frame(&Reply { id, body: ReplyBody::Ok(OwnStatus { status }) })
        };
        let sent = self.channel.connection.send_status(user, &applied.record.status(), frame).await;
        sent.map_err(|error| unavailable(self.channel.hub(), &error))
    }

    async fn block(&self, id: u64, mut change: BlockedChange) -> Result<(), ErrorBody> {
        self.check_self_service()?;
        let user = &self.identity.user;
        self.channel.may_write(user)?;
        change.leave_out(user);
        let change = VisibilityChange { hidden: None, blocked: Some(change) };
        let event = EventKind::Visibility { origin: Some(self.origin()), change };
        let applied = self.apply(event).await?;
        let count = applied.record.visibility_view().blocked.len();
        self.channel.reply(id, serde_json::json!({ "count": count }));
        Ok(())
    }

    async fn blocked(&self, id: u64) -> Result<(), ErrorBody> {
        self.check_self_service()?;
        let hub = self.channel.hub();
        let record = hub.record(&self.identity.user).await;
        let record = record.map_err(|error| unavailable(hub, &error))?;
        let users = record.visibility_view().blocked;
        self.channel.reply(id, serde_json::json!({ "users": users }));
        Ok(())
    }

    /// Whether sessions may hide their user and block viewers.
    fn check_self_service(&self) -> Result<(), ErrorBody> {
        if self.channel.settings.self_service {
            return Ok(());
        }
        let message =
            "only the back end decides who may see a user: visibility.self_service is off";
        Err(ErrorBody::new(ErrorCode::Forbidden, message))
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
        self.channel.mailbox().may_watch(identity.watch.clone());
        self.identity = identity;
        self.channel.set_token_expiry(expires_at);
        self.channel.connection.narrow().await;
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
            activity: terminal.activity_view(),
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
        let span = Span::begin_served(names::KICK);
        let applied = self.apply(EventKind::Kick { target, by }).await;
        if let Some(span) = span {
            note_kick(&span, &applied);
        }
        applied?;
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

/// Notes on its span what a kick that a client asked for has done.
fn note_kick(span: &Span, applied: &Result<Applied, ErrorBody>) {
    span.set(names::KICK_REASON, KickReason::OwnRequest.name());
    match applied.as_ref().map(|applied| &applied.answer) {
        Ok(Answer::Kicked { kicked, .. }) => span.set_count(names::KICK_COUNT, kicked.len()),
        Ok(
            Answer::Admitted { .. }
            | Answer::Done
            | Answer::Stale
            | Answer::Background { .. }
            | Answer::Refused(_),
        ) => (),
        Err(error) => span.fail(error.code.name()),
    }
}
