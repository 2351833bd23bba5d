//! The users of a measurement, and their first messages with tokens.

use std::time::Duration;

use super::floor::FloorRequest;
use super::frame::masked;
use super::order::{Open, Watch};
use crate::auth::{Algorithm, TokenRules, mint};
use crate::clock::Clock;
use crate::presence::{Timestamp, UserId};

/// The lifetime of a token: longer than any run.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// The first messages of clients; made in advance, so that signing tokens does not slow down logins.
pub(super) struct Tokens {
    hellos: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
}

impl Tokens {
    pub(super) fn new(open: &Open) -> Self {
        let wall = Clock::system().wall();
        let hellos = (open.first..open.first + open.count).map(|user| hello(open, user, wall));
        Self { hellos: hellos.collect::<Vec<_>>().into_iter() }
    }

    /// The login and the subscription of the next user; the subscription may be empty.
    pub(super) fn next(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.hellos.next().unwrap_or_default()
    }
}

fn hello(open: &Open, user: u32, wall: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let watches = !matches!(open.watch, Watch::Nobody);
    let Some(secret) = &open.target(user).secret else {
        let watch = FloorRequest::Watch(user, open.watch).frame();
        return (FloorRequest::Login.frame(), if watches { watch } else { Vec::new() });
    };
    let id: UserId = name(user)
        .parse()
        .unwrap_or_else(|error| unreachable!("letters and digits name a user: {error}"));
    let token = mint(secret.as_bytes(), &rules(), &id, None, &[], wall, TTL)
        .unwrap_or_else(|error| unreachable!("a secret signs: {error}"));
    let login = serde_json::json!({
        "type": "login", "id": 1, "token": token, "platform": "web", "device": open.device,
    });
    let mut subscribe = serde_json::json!({ "type": "subscribe", "id": 2 });
    if matches!(open.watch, Watch::List) {
        subscribe["watch_list"] = true.into();
    } else {
        subscribe["users"] = open.watch.users(user).map(name).collect();
    }
    let subscribe = masked(0x1, subscribe.to_string().as_bytes());
    let login = masked(0x1, login.to_string().as_bytes());
    (login, if watches { subscribe } else { Vec::new() })
}

fn rules() -> TokenRules {
    TokenRules {
        algorithm: Algorithm::HS256,
        issuer: String::new(),
        audience: String::new(),
        leeway: Duration::ZERO,
        max_ttl: TTL,
    }
}

/// A user's id.
pub(super) fn name(user: u32) -> String {
    format!("user-{user:06}")
}
