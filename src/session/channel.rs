//! A connection as its actor uses it: sends replies, runs timers, verifies tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::disconnect::Disconnect;
use super::errors::unavailable;
use super::limits::work;
use super::refusals::{Applicant, RefusedLogin};
use super::sessions::{Sessions, Settings};
use super::timers::{Expired, Present, Timers};
use crate::auth::{Bucket, Identity, TokenFault};
use crate::clock::Clock;
use crate::hub::{Closed, Connection, Hub, Mailbox, Noticed, RESUME_PATIENCE, RefusalReason};
use crate::presence::{DeviceId, Platform, Timestamp, UserId};
use crate::wire::{Close, ErrorBody, ErrorCode, Push, Reply, ReplyBody, ping_frame, text_frame};

/// With more unsent bytes than this on a full socket the actor reads nothing.
const UNSENT_BYTES_MAX: usize = 128 * 1024;

/// How long a message may take from its first byte to its last.
const MESSAGE_WINDOW: Duration = Duration::from_secs(10);

/// For how long after a stall a message counts as one that waited during the stall.
const AFTER_STALL: Duration = Duration::from_secs(1);

/// How long before a token's expiry the client is told to fetch a new one.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);

/// A connection and its timers, before and after the login.
pub(super) struct Channel {
    pub(super) shared: Arc<Sessions>,
    pub(super) settings: Arc<Settings>,
    pub(super) connection: Connection,
    pub(super) address: Option<IpAddr>,
    pub(super) timers: Timers,
    /// The work that the connection may still cause.
    work: Bucket,
    /// When a message began that has not arrived completely.
    unfinished_since: Option<Timestamp>,
    /// The time of the connect.
    since: Timestamp,
}

impl Channel {
    pub(super) fn new(
        shared: Arc<Sessions>,
        settings: Arc<Settings>,
        connection: Connection,
        address: Option<IpAddr>,
    ) -> Self {
        let present = Present::of(shared.hub().clock());
        let timers = Timers::new(settings.login_timeout, present);
        Self {
            shared,
            settings,
            connection,
            address,
            timers,
            work: Bucket::default(),
            unfinished_since: None,
            since: present.now,
        }
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        self.shared.hub()
    }

    pub(super) fn clock(&self) -> &Clock {
        self.shared.hub().clock()
    }

    pub(super) const fn mailbox(&self) -> &Arc<Mailbox> {
        self.connection.mailbox()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    // Answers.

    /// Charges the connection for work: frames or users, and bytes. If it owes some, it is not read until it
    /// has made up for it.
    pub(super) fn charge(&mut self, count: usize, bytes: usize) {
        let present = Present::of(self.clock());
        let pause = self.work.charge(work(count, bytes), &self.settings.work, present.now);
        if !pause.is_zero() {
            self.timers.set_pause(pause, present);
        }
    }

    /// Sends the reply to a request.
    pub(super) fn reply(&self, id: u64, ok: impl Serialize) {
        self.mailbox().post(text_frame(&Reply { id, body: ReplyBody::Ok(ok) }));
    }

    /// Sends an error: a reply, or a push if the request had no valid id.
    pub(super) fn refuse(&self, id: Option<u64>, error: ErrorBody) {
        let frame = match id {
            Some(id) => text_frame(&Reply { id, body: ReplyBody::<()>::Error(error) }),
            None => text_frame(&Push::Error { error }),
        };
        self.mailbox().post(frame);
    }

    /// Counts, stores and logs a refused login.
    pub(super) fn note_refusal(&self, reason: RefusalReason, message: &str, applicant: Applicant) {
        self.hub().metrics().login_refused(reason);
        let (clock, reason) = (self.clock(), reason.name());
        let refusal = RefusedLogin::new(clock.wall(), reason, message, applicant, self.address);
        self.shared.refusals.note(refusal, clock.now());
    }

    /// Counts the end of the connection; returns how it was closed, and its lifetime in milliseconds.
    pub(super) fn count_end(&self, end: Disconnect) -> (Closed, u128) {
        let closed = end.closed();
        self.hub().metrics().closed(closed);
        (closed, (self.now() - self.since).as_millis())
    }

    // Time.

    /// Notes that the client was heard now.
    pub(super) fn note_heard(&mut self) {
        let present = Present::of(self.clock());
        self.mailbox().hear(present.now);
        self.timers.heard(present);
    }

    /// Whether a message that was read now may have waited during a stall of the hub, for longer than a client that
    /// resumes may wait.
    pub(super) fn may_have_waited(&self) -> bool {
        let (now, stalls) = self.clock().present();
        stalls.last().is_some_and(|stall| {
            now - stall.until < AFTER_STALL
                && stall.until - stall.from.max(self.since) > RESUME_PATIENCE
        })
    }

    /// Whether nothing is read now: too many bytes are unsent, or the connection owes work.
    pub(super) fn is_deaf(&self) -> bool {
        self.timers.is_paused() || self.is_overfull()
    }

    fn is_overfull(&self) -> bool {
        self.timers.is_blocked() && self.mailbox().unsent() > UNSENT_BYTES_MAX
    }

    /// Notes how much of an unfinished message was read. After a whole message, another one has begun.
    pub(super) fn note_unfinished(&mut self, bytes: usize, is_after_whole: bool) {
        if bytes == 0 && self.unfinished_since.is_none() {
            return;
        }
        self.mailbox().set_unfinished(bytes);
        let now = self.now();
        let since = self.unfinished_since.filter(|_| !is_after_whole).unwrap_or(now);
        self.unfinished_since = (bytes > 0).then_some(since);
    }

    /// Whether a message takes too long. A client that sends nothing else is silent; one that goes on
    /// sending control frames would hold the memory for ever.
    pub(super) fn is_message_late(&self) -> bool {
        self.unfinished_since.is_some_and(|since| self.now() - since > MESSAGE_WINDOW)
    }

    /// The latest time at which [`wake`](Self::wake) must be called.
    pub(super) fn next_wake(&mut self) -> Instant {
        let present = Present::of(self.clock());
        let wait = self.timers.next(present);
        self.clock().after(wait)
    }

    /// Handles the timers that are due.
    pub(super) fn wake(&mut self) -> Result<(), Disconnect> {
        let present = Present::of(self.clock());
        self.timers.allow_for_stalls(present);
        let owes_for_whole_messages = self.timers.is_paused() && self.unfinished_since.is_none();
        if owes_for_whole_messages || self.is_overfull() {
            // The actor reads nothing now, so silence proves nothing. A message that does not end is no
            // excuse: its fragments would keep the connection for ever.
            self.timers.heard(present);
        }
        while let Some(expired) = self.timers.due(present) {
            match expired {
                Expired::Pause => (),
                Expired::SlowConsumer => return Err(Disconnect::ByActor(Close::SlowConsumer)),
                Expired::Login => {
                    let (reason, applicant) = (RefusalReason::LoginTimeout, Applicant::default());
                    self.note_refusal(reason, "no login within login.timeout", applicant);
                    return Err(Disconnect::ByActor(Close::LoginTimeout));
                }
                Expired::TokenNotice { expires_at } => {
                    self.mailbox().post(text_frame(&Push::TokenExpiring { expires_at }));
                }
                Expired::Ping => self.mailbox().post(ping_frame()),
                Expired::Silence { late } => return Err(Disconnect::Silent { late }),
            }
        }
        Ok(())
    }

    /// Handles the timers that are due on a clock that was moved, and tells the hub which comes next.
    pub(super) fn clock_moved(&mut self, is_heard: bool) -> Result<(), Disconnect> {
        if is_heard {
            self.note_heard();
        }
        self.wake()?;
        let present = Present::of(self.clock());
        let next = self.timers.next_stop(is_heard, present).map(|wait| present.now + wait);
        let noticed = Noticed { next, awaits_token: self.timers.awaits_token() };
        self.hub().clock_noticed(self.mailbox().id(), noticed);
        Ok(())
    }

    // Tokens.

    /// Verifies a token, and that it is for this platform and device.
    pub(super) async fn verify(
        &self,
        token: &str,
        platform: Platform,
        device: &DeviceId,
    ) -> Result<Identity, Unidentified> {
        let wall = self.clock().wall();
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
            return wrong(
                ErrorCode::PlatformNotAllowed,
                "the token is not valid for this platform",
            );
        }
        if !identity.allows_device(device) {
            return wrong(ErrorCode::InvalidDevice, "the token is not valid for this device");
        }
        Ok(identity)
    }

    /// When a token expires, with leeway, on the hub's clock (T10).
    pub(super) fn token_until(&self, identity: &Identity) -> Timestamp {
        let leeway = self.shared.settings().verifier.leeway();
        self.clock().from_wall(identity.expires_at + leeway)
    }

    /// Starts the timers of a session.
    pub(super) fn begin_session(&mut self, platform: Platform, expires_at: Timestamp) {
        let present = Present::of(self.clock());
        self.timers.set_liveness(platform, &self.hub().policy().windows, present);
        self.set_token_expiry(expires_at);
    }

    /// Sets the timer for the `token_expiring` message.
    pub(super) fn set_token_expiry(&mut self, expires_at: Timestamp) {
        let notice_at = self.clock().from_wall(expires_at) - EXPIRY_NOTICE;
        self.timers.set_token_notice(notice_at, expires_at);
    }

    /// Checks the rate limit for changes of a user.
    pub(super) fn may_change(&self, user: &UserId) -> Result<(), ErrorBody> {
        if self.shared.changes.take(user, &self.settings.changes, self.now()) {
            return Ok(());
        }
        let message = "too many changes of this user within a minute";
        Err(ErrorBody::new(ErrorCode::RateLimited, message))
    }

    /// Checks the rate limit for changes of a user, and that the disk has room for changes that can wait.
    pub(super) fn may_write(&self, user: &UserId) -> Result<(), ErrorBody> {
        self.may_change(user)?;
        self.hub().check_room().map_err(|error| unavailable(self.hub(), &error))
    }

    /// Logs that a user has filled the quota of the transition log, at most once a minute.
    pub(super) fn note_over_quota(&self, user: &UserId) {
        let Some(suppressed) = self.shared.over_quota.admit(user.clone(), self.now()) else {
            return;
        };
        tracing::warn!(
            suppressed,
            "user over store.log_bytes_per_user; refusing `set`, `idle` and `background`"
        );
    }

    /// Checks the rate limit for the ids that a user names in `subscribe` and `query`, all or none of them.
    pub(super) fn may_look(&self, user: &UserId, ids: usize) -> Result<(), ErrorBody> {
        let (lookups, rate) = (&self.shared.lookups, &self.settings.lookups);
        lookups.pay(user, ids as f64, rate, self.now()).map_err(|pause| {
            let secs = pause.as_secs() + 1;
            let message = format!(
                "this user has named too many ids in `subscribe` and `query`: try again in {secs} s"
            );
            ErrorBody::new(ErrorCode::RateLimited, message)
        })
    }

    /// Gives ids back that were counted for a request that the store failed: its retries must not use up
    /// the user's budget.
    pub(super) fn unlook(&self, user: &UserId, ids: usize) {
        self.shared.lookups.refund(user, ids as f64);
    }
}

/// Why a login was not identified.
pub(super) struct Unidentified {
    pub(super) error: ErrorBody,
    /// Whether the token's signature is valid.
    pub(super) is_verified: bool,
}

impl Unidentified {
    /// Whether the token was checked, and no key of the hub had signed it. A token that could not be checked,
    /// because the keys were not available, is not bad.
    pub(super) fn is_bad_token(&self) -> bool {
        !self.is_verified && self.error.code != ErrorCode::Unavailable
    }
}
