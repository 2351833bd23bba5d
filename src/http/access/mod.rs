//! Who may call: keys, the dashboard's login, and the audit log of what callers did.

pub(super) mod audit;
mod caller;
pub(super) mod cookie;
mod keys;

pub(super) use self::caller::Caller;
pub(super) use self::keys::{MayAct, MayRead, MaySeeAll, WRONG_KEYS_NOTED};
