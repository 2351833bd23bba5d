//! Shared by the tests from outside: a hub process, clients, tokens and certificates.

mod canary;
mod certificate;
mod client;
mod faketime;
mod proxy;
mod redis_cluster;
mod redis_server;
mod server;
mod time;
mod tokens;

pub(crate) use self::certificate::make_certificate;
pub(crate) use self::client::{Client, Heard};
pub(crate) use self::faketime::faketime;
pub(crate) use self::proxy::{Held, Proxy};
pub(crate) use self::redis_cluster::{
    RedisCluster, cannot_move_at_once, cut_off, move_slot, move_slot_at_once, until_replicated,
};
pub(crate) use self::redis_server::RedisServer;
pub(crate) use self::server::{API_KEY, Server, WEBHOOK_SECRET, command, http};
pub(crate) use self::time::{SOON, lies_between, now_millis, now_secs, until};
pub(crate) use self::tokens::{SECRET, token, token_with};
