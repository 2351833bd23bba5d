//! Shared by the tests from outside: a hub process, clients, tokens and certificates.

mod canary;
mod certificate;
mod client;
mod redis_server;
mod server;
mod time;
mod tokens;

pub(crate) use self::certificate::make_certificate;
pub(crate) use self::client::{Client, Heard};
pub(crate) use self::redis_server::RedisServer;
pub(crate) use self::server::{API_KEY, Server, WEBHOOK_SECRET, command, http};
pub(crate) use self::time::{SOON, lies_between, now_millis, now_secs, until};
pub(crate) use self::tokens::{SECRET, token, token_with};
