//! Who may call: keys, the dashboard's login, and the audit log of what callers did.

pub(super) mod audit;
pub(super) mod keys;
