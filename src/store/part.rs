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

    /// One of so many parts.
    pub(super) const fn new(index: u32, of: u32) -> Self {
        Self { index, of }
    }

    /// The part that a user belongs to, if there are so many parts.
    pub fn of_user(user: &UserId, of: u32) -> Self {
        Self { index: crc32fast::hash(user.as_str().as_bytes()) % of, of }
    }

    /// Which of the parts it is, from 0.
    pub(super) const fn index(self) -> u32 {
        self.index
    }

    /// Whether a user belongs to this part.
    pub fn has(self, user: &UserId) -> bool {
        self.of == 1 || self == Self::of_user(user, self.of)
    }
}
