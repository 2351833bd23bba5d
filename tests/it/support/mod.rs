//! What the tests from outside share: a hub of their own, clients of it, and tokens for them.

mod certificate;
mod client;
mod server;
mod time;
mod tokens;

pub(crate) use self::certificate::make_certificate;
pub(crate) use self::client::{Client, Heard};
pub(crate) use self::server::{API_KEY, Server, WEBHOOK_SECRET, command, http};
pub(crate) use self::time::{SOON, lies_between, now_millis, now_secs, until};
pub(crate) use self::tokens::{SECRET, token, token_with};
