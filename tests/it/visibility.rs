//! P1 to P9 from outside: who may see whom, on the real binary.

pub(crate) mod churn;
mod lists;
mod rights;
mod self_service;
pub(crate) mod twin;

use serde_json::{Value, json};

use crate::support::{Client, Server, now_secs, token_with};

/// A session of a user on the web, whose token has this `watch` claim.
async fn viewer(server: &Server, user: &str, watch: Value) -> Client {
    let mut client = server.connect().await;
    let claims = json!({ "sub": user, "exp": now_secs() + 3600, "watch": watch });
    let token = token_with(claims);
    client.ok(json!({ "type": "login", "token": token, "platform": "web", "device": "d" })).await;
    client
}

fn subscribe(users: &[&str]) -> Value {
    json!({ "type": "subscribe", "users": users })
}

fn query(users: &[&str]) -> Value {
    json!({ "type": "query", "users": users })
}

/// A call that must succeed.
async fn done(server: &Server, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = server.call(method, path, Some(body)).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// The messages that came until now: those before the answer to a ping.
async fn heard(client: &mut Client) -> Vec<Value> {
    client.send(&json!({ "type": "ping", "id": 77 })).await;
    let mut messages = Vec::new();
    loop {
        let message = client.message().await;
        if message["id"] == 77 {
            return messages;
        }
        messages.push(message);
    }
}
