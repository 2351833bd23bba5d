//! Parts of the users.

use crate::presence::UserId;

/// A part of the users, chosen by a checksum of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    index: u32,
    of: u32,
}

impl Part {
    /// All users.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// The part that a user belongs to, if there are so many parts.
    pub(super) fn of_user(user: &UserId, of: u32) -> Self {
        Self { index: crc32fast::hash(user.as_str().as_bytes()) % of, of }
    }

    /// Whether a user belongs to this part.
    pub fn has(self, user: &UserId) -> bool {
        self.of == 1 || self == Self::of_user(user, self.of)
    }
}
