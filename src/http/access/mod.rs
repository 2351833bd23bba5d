//! Authentication and audit: API keys, the dashboard's login, and the audit log.

pub(super) mod audit;
pub(super) mod budget;
mod caller;
mod charges;
pub(super) mod cookie;
mod keys;
pub(super) mod logins;
pub(super) mod proxy_login;

pub(super) use self::caller::Caller;
pub(super) use self::keys::{MayAct, MayRead, MaySeeAll};
