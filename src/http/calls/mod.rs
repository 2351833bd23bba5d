//! The server API: one file, or folder, for each group of calls that `/openapi.json` names.

pub(super) mod dashboard;
pub(super) mod events;
pub(super) mod operation;
pub(super) mod policy;
pub(super) mod refusals;
pub(super) mod sessions;
pub(super) mod users;
pub(super) mod webhooks;
