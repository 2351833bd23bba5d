//! The effects of a commit: ends sessions, and notifies watchers and other nodes.

use super::Hub;
use super::mailbox::flush_all;
use super::registry::Deliveries;
use crate::bus::Message;
use crate::presence::{Effects, End, EndReason, Kicker, Status, Timestamp, UserId};
use crate::wire::{Close, KickNotice, KickReason, KickedBy, Push, UserStatus, text_frame};

impl Hub {
    pub(super) fn end_all(&self, effects: &Effects) {
        for end in &effects.ends {
            if end.connection.node == self.node {
                self.end(end, effects.kick.as_deref());
            } else {
                let kick = effects.kick.as_deref().cloned();
                self.bus.publish(self.node, Message::End { end: *end, kick });
            }
        }
    }

    /// Sends a user's status to its watchers on all nodes.
    pub(super) fn publish_status(&self, user: &UserId, status: Status) {
        self.push_status(user, &status);
        self.bus.publish(self.node, Message::Status { user: user.clone(), status });
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

    /// Sends a user's status to its watchers on this node. The frame is encoded once for all of them.
    pub(super) fn push_status(&self, user: &UserId, status: &Status) {
        let Some(watched) = self.watchers.get(user) else { return };
        let frame = text_frame(&Push::Status(UserStatus { user, status }));
        let Deliveries { sent, conflated, unflushed } = watched.push(status.version, &frame);
        self.metrics.deliveries.inc_by(sent);
        self.metrics.conflated.inc_by(conflated);
        if !unflushed.is_empty() {
            tokio::spawn(flush_all(unflushed));
        }
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
