//! Whom a user watches, as the back end keeps it (P8).

use serde::{Deserialize, Serialize};

use super::UserId;

/// The users on a watch list, in the byte order of their ids, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchList(Vec<UserId>);

/// A change of a watch list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchListChange {
    /// These users, and no others.
    Replace(Vec<UserId>),
    /// Some more, and some no longer; who is named in both is removed.
    Patch {
        /// Who is added.
        add: Vec<UserId>,
        /// Who is removed.
        remove: Vec<UserId>,
    },
}

impl WatchListChange {
    /// Whether it may remove users.
    pub const fn may_remove(&self) -> bool {
        match self {
            Self::Replace(_) => true,
            Self::Patch { remove, .. } => !remove.is_empty(),
        }
    }
}

impl WatchList {
    /// Whether a user is on it.
    pub fn has(&self, user: &UserId) -> bool {
        self.0.binary_search(user).is_ok()
    }

    /// The users on it, in the byte order of their ids.
    pub fn users(&self) -> &[UserId] {
        &self.0
    }

    /// The list after a change; `None` if it would have more than `max` users.
    pub fn changed(&self, change: &WatchListChange, max: usize) -> Option<Self> {
        let mut users = match change {
            WatchListChange::Replace(users) => users.clone(),
            WatchListChange::Patch { add, .. } => self.0.iter().chain(add).cloned().collect(),
        };
        users.sort_unstable();
        users.dedup();
        if let WatchListChange::Patch { remove, .. } = change {
            let mut remove: Vec<_> = remove.iter().collect();
            remove.sort_unstable();
            users.retain(|user| remove.binary_search(&user).is_err());
        }
        (users.len() <= max).then_some(Self(users))
    }
}
