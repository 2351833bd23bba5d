//! What each viewer sees of a user, and is told after a change: all the same, unless somebody may not see the user
//! (P4).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Policy, Record, Status, Timestamp, UserId, Visibility, VisibilityView};

/// A status for some of a user's watchers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What they see.
    pub status: Status,
    /// Who they are.
    #[serde(default, skip_serializing_if = "Audience::is_everyone")]
    pub to: Audience,
}

/// Some of a user's watchers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// All of them.
    #[default]
    Everyone,
    /// All sessions but those of these viewers.
    AllBut(Vec<UserId>),
    /// The sessions of these viewers.
    Only(Vec<UserId>),
}

impl Audience {
    const fn is_everyone(&self) -> bool {
        matches!(self, Self::Everyone)
    }

    /// Whether a viewer's sessions belong to it.
    pub fn has(&self, viewer: &UserId) -> bool {
        match self {
            Self::Everyone => true,
            Self::AllBut(viewers) => !viewers.contains(viewer),
            Self::Only(viewers) => viewers.contains(viewer),
        }
    }
}

impl Notice {
    /// What watchers are told when a record changes: each viewer who sees a difference (V6, P4).
    pub fn between(
        user: &UserId,
        before: &Record,
        after: &Record,
        policy: &Policy,
        wall: Timestamp,
    ) -> Vec<Self> {
        Self::for_each(user, [before, after], |viewer| {
            let seen = |record: &Record| record.status_for(user, viewer, policy, wall);
            let now = seen(after);
            (!now.looks_like(&seen(before))).then_some(now)
        })
    }

    /// What each watcher sees now.
    pub fn present(user: &UserId, record: &Record, policy: &Policy, wall: Timestamp) -> Vec<Self> {
        Self::for_each(user, [record], |viewer| Some(record.status_for(user, viewer, policy, wall)))
    }

    /// Asks for the status of each viewer with an answer of their own in one of the records, and, with `None`,
    /// of all others. Viewers of the same status share a notice.
    fn for_each<const N: usize>(
        user: &UserId,
        records: [&Record; N],
        told: impl Fn(Option<&UserId>) -> Option<Status>,
    ) -> Vec<Self> {
        let others = told(None);
        let visibilities = records.iter().filter_map(|record| record.visibility.as_deref());
        let mut special: BTreeSet<_> = visibilities.clone().flat_map(Visibility::viewers).collect();
        if visibilities.count() > 0 {
            special.insert(user);
        }
        let mut notices: Vec<Self> = Vec::new();
        let mut left_out = Vec::new();
        for viewer in special {
            let status = told(Some(viewer));
            if status == others {
                continue;
            }
            left_out.push(viewer.clone());
            let Some(status) = status else { continue };
            let same = notices.iter_mut().find(|notice| notice.status == status);
            match same.map(|notice| &mut notice.to) {
                Some(Audience::Only(viewers)) => viewers.push(viewer.clone()),
                Some(Audience::Everyone | Audience::AllBut(_)) | None => {
                    notices.push(Self { status, to: Audience::Only(vec![viewer.clone()]) });
                }
            }
        }
        let to = if left_out.is_empty() { Audience::Everyone } else { Audience::AllBut(left_out) };
        notices.extend(others.map(|status| Self { status, to }));
        notices
    }
}

impl Record {
    /// What a viewer sees of the user (P4, P6): the only function that decides it. `None` stands for whoever has no
    /// answer of their own.
    pub fn status_for(
        &self,
        user: &UserId,
        viewer: Option<&UserId>,
        policy: &Policy,
        wall: Timestamp,
    ) -> Status {
        let frozen = self.visibility.as_deref().filter(|_| viewer != Some(user));
        let frozen = frozen.and_then(|visibility| visibility.seen_by(viewer));
        frozen.map_or_else(|| self.status(), |frozen| frozen.status(policy, wall))
    }

    /// Who may not see the user, as the back end reads it.
    pub fn visibility_view(&self) -> VisibilityView {
        self.visibility.as_deref().map(Visibility::view).unwrap_or_default()
    }
}
