//! Who may not see a user (P2, P3), and what they see instead (P4).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Policy, State, Status, Timestamp, UserId};

/// The maximum number of viewers that a user may block (P3).
pub const BLOCKED_MAX: usize = 200;

/// Who may not see a user. A record without it is seen by all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Visibility {
    /// Set while the user is hidden (P2).
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<Hidden>,
    /// The viewers with an answer of their own, by id: those who are blocked (P3), and, while the user is
    /// hidden, those who were (P5).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    viewers: Vec<FrozenFor>,
}

/// Since when a user is hidden, and what others see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hidden {
    since: Timestamp,
    seen: Frozen,
}

/// What one viewer sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FrozenFor {
    viewer: UserId,
    is_blocked: bool,
    seen: Frozen,
}

/// The answer that a viewer gets for an invisible user: `Offline`, and these fields (P4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frozen {
    since: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    version: u64,
}

/// A change of who may see a user; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisibilityChange {
    /// Whether the user is hidden (P2).
    pub hidden: Option<bool>,
    /// Whom the user blocks (P3).
    pub blocked: Option<BlockedChange>,
}

/// A change of the viewers whom a user blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockedChange {
    /// These, too.
    Add(Vec<UserId>),
    /// These no longer.
    Remove(Vec<UserId>),
    /// These, and nobody else.
    Replace(Vec<UserId>),
}

impl BlockedChange {
    /// Leaves a user out: nobody blocks themselves.
    pub fn leave_out(&mut self, user: &UserId) {
        let (Self::Add(viewers) | Self::Remove(viewers) | Self::Replace(viewers)) = self;
        viewers.retain(|viewer| viewer != user);
    }
}

/// Who may not see a user, as the back end reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VisibilityView {
    /// Whether everybody else sees the user as `Offline` (P2).
    pub hidden: bool,
    /// Since when; null if not hidden.
    pub hidden_since: Option<Timestamp>,
    /// The viewers who see the user as `Offline` (P3).
    #[schema(value_type = Vec<String>)]
    pub blocked: Vec<UserId>,
}

impl Frozen {
    /// What a logout at this moment would show, or the present answer if the user is `Offline` already (P4).
    pub(super) fn of(present: &Status, wall: Timestamp, next_version: u64) -> Self {
        let Status { since, last_seen, version, .. } = *present;
        match present.state {
            State::Offline => Self { since, last_seen, version },
            State::PushOnline => Self { since: Some(wall), last_seen, version: next_version },
            State::Online => {
                Self { since: Some(wall), last_seen: Some(wall), version: next_version }
            }
        }
    }

    /// The status; that of an unknown user after `record_ttl`, as if the user was really `Offline` (S4).
    pub(super) fn status(self, policy: &Policy, wall: Timestamp) -> Status {
        let Self { since, last_seen, version } = self;
        if since.is_some_and(|since| since + policy.record_ttl <= wall) {
            return Status::default();
        }
        Status { since, last_seen, version, ..Status::default() }
    }
}

impl Visibility {
    /// What the back end reads.
    pub fn view(&self) -> VisibilityView {
        let blocked = self.viewers.iter().filter(|it| it.is_blocked);
        VisibilityView {
            hidden: self.hidden.is_some(),
            hidden_since: self.hidden.map(|hidden| hidden.since),
            blocked: blocked.map(|it| it.viewer.clone()).collect(),
        }
    }

    /// Whether the user is hidden (P2).
    pub const fn is_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// The viewers with an answer of their own.
    pub(super) fn viewers(&self) -> impl Iterator<Item = &UserId> {
        self.viewers.iter().map(|it| &it.viewer)
    }

    /// The frozen answer of a viewer, if the user is invisible; `None` stands for whoever has no answer of their own.
    pub(super) fn seen_by(&self, viewer: Option<&UserId>) -> Option<Frozen> {
        let own = viewer.and_then(|viewer| self.place(viewer).ok());
        let own = own.map(|place| self.viewers[place].seen);
        own.or(self.hidden.map(|hidden| hidden.seen))
    }

    fn place(&self, viewer: &UserId) -> Result<usize, usize> {
        self.viewers.binary_search_by(|it| it.viewer.cmp(viewer))
    }

    /// Makes a change; `None` if it would block too many viewers. Whoever sees the user now, and no longer
    /// afterwards, sees `frozen` from then on. Nobody sees the user in between (P5).
    pub(super) fn changed(
        mut self,
        change: &VisibilityChange,
        frozen: Frozen,
        wall: Timestamp,
    ) -> Option<Self> {
        if change.hidden == Some(true) {
            self.hidden = self.hidden.or(Some(Hidden { since: wall, seen: frozen }));
        }
        match &change.blocked {
            None => (),
            Some(BlockedChange::Add(viewers)) => self.block(viewers, frozen),
            Some(BlockedChange::Remove(viewers)) => self.unblock(|viewer| viewers.contains(viewer)),
            Some(BlockedChange::Replace(viewers)) => {
                self.block(viewers, frozen);
                self.unblock(|viewer| !viewers.contains(viewer));
            }
        }
        if change.hidden == Some(false) {
            self.hidden = None;
            self.viewers.retain(|it| it.is_blocked);
        }
        let blocked = self.viewers.iter().filter(|it| it.is_blocked).count();
        (blocked <= BLOCKED_MAX).then_some(self)
    }

    fn block(&mut self, viewers: &[UserId], frozen: Frozen) {
        for viewer in viewers {
            match self.place(viewer) {
                Ok(place) => self.viewers[place].is_blocked = true,
                Err(place) => {
                    let seen = self.seen_by(None).unwrap_or(frozen);
                    let viewer = viewer.clone();
                    self.viewers.insert(place, FrozenFor { viewer, is_blocked: true, seen });
                }
            }
        }
    }

    fn unblock(&mut self, is_meant: impl Fn(&UserId) -> bool) {
        let hidden = self.hidden;
        self.viewers.retain_mut(|it| {
            it.is_blocked &= !is_meant(&it.viewer);
            it.is_blocked || hidden.is_some_and(|hidden| hidden.seen != it.seen)
        });
    }
}
