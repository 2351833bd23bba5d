//! Authentication and audit: API keys, the dashboard's login, and the audit log.

pub(super) mod audit;
mod caller;
pub(super) mod cookie;
mod keys;

pub(super) use self::caller::Caller;
pub(super) use self::keys::{MayAct, MayRead, MaySeeAll};
