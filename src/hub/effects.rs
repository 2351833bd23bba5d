//! The effects of a commit: ends sessions, and notifies watchers and other nodes.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::task::yield_now;

use super::Hub;
use super::mailbox::flush_all;
use super::registry::{Deliveries, WatchedUser};
use crate::presence::{
    Audience, Cause, Effects, End, EndReason, Kicker, Notice, Record, Timestamp, Transition, UserId,
};
use crate::store::Message;
use crate::wire::{Close, KickNotice, KickReason, KickedBy, Push, UserStatus, text_frame};

/// How many batches of a user's watchers are served at once, which takes some milliseconds; a task serves
/// the rest.
const PUSHED_AT_ONCE: usize = 96;

impl Hub {
    /// What a commit tells the other nodes; `None` if it changes nothing for them.
    pub(super) fn message(
        &self,
        user: &UserId,
        effects: &Effects,
        transitions: &[Transition],
        notices: &[Notice],
    ) -> Option<Message> {
        let is_recovered = is_recovered(transitions);
        let ends = effects.ends.iter().filter(|end| end.connection.node != self.node);
        let ends: Vec<_> = ends.copied().collect();
        let visibility = transitions.iter().any(|it| it.visibility.is_some());
        if ends.is_empty() && notices.is_empty() && !visibility {
            return None;
        }
        let kick = effects.kick.as_deref().filter(|_| !ends.is_empty()).cloned();
        Some(Message {
            notices: notices.to_vec(),
            ends,
            kick,
            is_recovered,
            visibility,
            ..Message::about(user.clone())
        })
    }

    /// Ends the connections of this node that an event ends.
    pub(super) fn end_all(&self, effects: &Effects) {
        for end in &effects.ends {
            self.end(end, effects.kick.as_deref());
        }
    }

    pub(super) fn end(&self, end: &End, kick: Option<&(Kicker, Timestamp)>) {
        let (close, reason) = match end.why {
            EndReason::LoginElsewhere => (Close::Kicked, Some(KickReason::LoginElsewhere)),
            EndReason::SameDevice => (Close::Kicked, Some(KickReason::SameDevice)),
            EndReason::OwnRequest => (Close::Kicked, Some(KickReason::OwnRequest)),
            EndReason::Admin => (Close::Kicked, Some(KickReason::Admin)),
            EndReason::Moved => (Close::Moved, None),
            EndReason::Background => (Close::Background, None),
            EndReason::TokenExpired => (Close::TokenExpired, None),
        };
        let Some(mailbox) = self.registry.get(end.connection) else { return };
        let notice = reason.zip(kick).map(|(reason, kick)| notice(reason, kick));
        let last = notice.map(|notice| {
            self.metrics.kicked(notice.reason);
            text_frame(&Push::Kicked(&notice))
        });
        mailbox.end(close, last);
    }

    /// What watchers must be told after an event. If it was applied again after its commit, or if the store had lost
    /// what watchers have seen, the two records do not show what is new for them: then all are told what they see,
    /// and who knows it already gets nothing.
    pub(super) fn notices(
        &self,
        user: &UserId,
        [before, after]: [&Record; 2],
        effects: &Effects,
        transitions: &[Transition],
    ) -> Vec<Notice> {
        if !effects.status_changed {
            return Vec::new();
        }
        let (policy, wall) = (self.policy(), self.clock.wall());
        let is_repeated = before.version == after.version;
        if is_repeated || is_recovered(transitions) {
            return Notice::present(user, after, &policy, wall);
        }
        Notice::between(user, before, after, &policy, wall)
    }

    /// Sends notices to a user's watchers on this node.
    pub(super) fn tell_watchers(&self, user: &UserId, notices: &[Notice]) {
        notices.iter().for_each(|notice| self.push_status(user, notice));
    }

    /// Sends a user's status to watchers on this node. The frame is encoded once for all of them.
    fn push_status(&self, user: &UserId, Notice { status, to }: &Notice) {
        let Some(watched) = self.watchers.get(user) else { return };
        let frame = text_frame(&Push::Status(UserStatus { user, status }));
        let mut deliveries = Deliveries::default();
        let mut after = None;
        for _ in 0..PUSHED_AT_ONCE {
            after = watched.push(after, to, (status.version, &frame), &mut deliveries);
            if after.is_none() {
                break;
            }
        }
        let (delivered, replaced) = (&self.metrics.deliveries, &self.metrics.conflated);
        flush(deliveries, delivered, replaced);
        if after.is_some() {
            let counts = (delivered.clone(), replaced.clone());
            let rest = (status.version, frame);
            tokio::spawn(push_to_rest(watched, after, to.clone(), rest, counts));
        }
    }
}

fn is_recovered(transitions: &[Transition]) -> bool {
    transitions.iter().any(|it| it.cause == Cause::Recovered)
}

/// Continues a push to very many watchers, and lets other tasks run meanwhile.
async fn push_to_rest(
    watched: Arc<WatchedUser>,
    mut after: Option<u64>,
    to: Audience,
    (version, frame): (u64, Bytes),
    counts: (Counter, Counter),
) {
    while after.is_some() {
        yield_now().await;
        let mut deliveries = Deliveries::default();
        after = watched.push(after, &to, (version, &frame), &mut deliveries);
        flush(deliveries, &counts.0, &counts.1);
    }
}

/// Counts deliveries, and schedules the flush of the mailboxes that need one.
fn flush(deliveries: Deliveries, delivered: &Counter, replaced: &Counter) {
    let Deliveries { sent, conflated, unflushed } = deliveries;
    delivered.inc_by(sent);
    replaced.inc_by(conflated);
    if !unflushed.is_empty() {
        tokio::spawn(flush_all(unflushed));
    }
}

fn notice(reason: KickReason, (kicker, at): &(Kicker, Timestamp)) -> KickNotice {
    let (by, message) = match kicker {
        Kicker::Login(victor) | Kicker::Own(victor) => {
            let by = KickedBy { platform: victor.platform, device: victor.device.clone() };
            (Some(by), None)
        }
        Kicker::Admin { message } => (None, message.clone()),
    };
    KickNotice { reason, by, at: *at, message }
}
