//! The calls about users: who is there, and what is done to them.

pub(crate) mod act;
pub(crate) mod read;
