//! The hub process over real sockets in real time: windows at full length, a stopped process, storms.
//!
//! Durations come from the timestamps of the hub, so that a busy machine does not distort them.

mod storms;
mod windows;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{Client, Heard, Server};

/// A timeout longer than any test here.
const LONG: Duration = Duration::from_secs(400);
/// The maximum number of unread messages.
const HEARD_MAX: usize = 64 * 1024;

/// A client that always reads, and so answers pings.
struct Listener {
    heard: mpsc::Receiver<Heard>,
    reading: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Listener {
    fn new(client: Client) -> Self {
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        let mut client = Client::over(client.socket, LONG);
        let reading = tokio::spawn(async move {
            let mut is_open = true;
            while is_open {
                let what = client.hear().await;
                is_open = what != Heard::Gone;
                // An error means that the test has ended.
                hear.try_send(what).ok();
            }
        });
        Self { heard, reading }
    }

    /// A client that watches users.
    async fn watching(server: &Server, users: &[String]) -> Self {
        let (mut client, _) = server.login("watcher", "linux").await;
        for users in users.chunks(200) {
            client.ok(json!({ "type": "subscribe", "users": users })).await;
        }
        Self::new(client)
    }

    async fn message(&mut self) -> Value {
        let heard = tokio::time::timeout(LONG, self.heard.recv()).await.expect("to hear something");
        match heard.expect("a listener that runs") {
            Heard::Message(message) => message,
            end @ (Heard::Closed(_) | Heard::Gone) => panic!("{end:?} instead of a message"),
        }
    }

    /// Expects the next status to be this user in this state.
    async fn state(&mut self, user: &str, state: &str) -> Value {
        let status = self.message().await;
        assert_eq!((&status["user"], &status["state"]), (&json!(user), &json!(state)), "{status}");
        status
    }

    /// Whether there is no unread message.
    fn heard_nothing(&mut self) -> bool {
        self.heard.is_empty()
    }
}

/// A client that sends a pong each `every`, and reads nothing.
fn sends(mut client: Client, every: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let pong = [0x8a, 0x80, 0, 0, 0, 0];
            // Masked with zeros. If the hub closes the connection, the test sees the user go offline.
            if client.socket.get_mut().write_all(&pong).await.is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    })
}

/// A client that reads everything and sends nothing.
fn receives(client: Client) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut stream: TcpStream = client.socket.into_inner();
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    })
}

/// A time in a message.
fn millis(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a time"))
}

/// The time from `last_seen` to the end of the session, by the hub's clock.
fn silence_of(status: &Value) -> Duration {
    Duration::from_millis(millis(&status["since"]) - millis(&status["last_seen"]))
}
