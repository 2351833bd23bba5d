//! `POST /dev/clock` against a real hub: windows come due in their order, and who answers stays.

mod calls;
mod windows;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{Client, Heard, Server, http};

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 3600 * SECOND_MS;
/// How late a window may be applied: a second (T14), and some more for a busy machine.
const LATE_MS: u64 = 5 * SECOND_MS;

/// The messages that a test has not read.
const HEARD_MAX: usize = 1024;

/// A hub in development mode.
struct Dev {
    server: Server,
    key: String,
}

impl Dev {
    fn start(settings: &[(&str, &str)]) -> Self {
        let server = Server::start(&[&[("auth.secret", "")], settings].concat());
        let key = server.directory.path().join("data/dev-key");
        let key = std::fs::read_to_string(key).expect("the development key");
        Self { server, key: key.trim().to_owned() }
    }

    async fn call(&self, call: &str, body: &Value) -> (u16, Value) {
        let request = http(self.server.address, "POST", &format!("/dev/{call}"));
        let answer = request.header("x-dev-key", &self.key).json(body).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("JSON"))
    }

    async fn advance(&self, by: &str) -> Value {
        let (status, answer) = self.call("clock", &json!({ "advance": by })).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn token(&self, user: &str, ttl: &str) -> String {
        let (status, answer) = self.call("token", &json!({ "user": user, "ttl": ttl })).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// A client whose token lives as long; the platform's name is its device.
    async fn login_for(&self, user: &str, platform: &str, ttl: &str) -> (Client, Value) {
        let token = self.token(user, ttl).await;
        let mut client = self.server.connect().await;
        let login = json!({
            "type": "login", "token": token, "platform": platform, "device": platform,
        });
        let ok = client.ok(login).await;
        (client, ok)
    }

    async fn login(&self, user: &str, platform: &str) -> (Client, Value) {
        self.login_for(user, platform, "365d").await
    }

    /// Cuts the network of a session.
    async fn ignore(&self, user: &str, ok: &Value) {
        let cut = json!({ "user": user, "session": ok["session"] });
        let (status, answer) = self.call("ignore", &cut).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn state(&self, user: &str) -> String {
        self.server.user(user).await["state"].as_str().expect("a state").to_owned()
    }

    /// All events in the log.
    async fn log(&self) -> Vec<Value> {
        let (_, page) = self.server.call("GET", "/v1/events?limit=1000", None).await;
        page["events"].as_array().expect("events").clone()
    }
}

#[track_caller]
fn millis(time: &Value) -> u64 {
    time.as_u64().unwrap_or_else(|| panic!("{time} is not a time"))
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// A client that reads all the time, and so answers pings.
struct Answering {
    heard: mpsc::Receiver<Heard>,
    reading: JoinHandle<()>,
}

impl Answering {
    fn new(mut client: Client) -> Self {
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        let reading = tokio::spawn(async move {
            loop {
                let what = client.hear().await;
                let is_over = matches!(what, Heard::Closed(_) | Heard::Gone);
                // Fails when the test has ended.
                if hear.try_send(what).is_err() || is_over {
                    return;
                }
            }
        });
        Self { heard, reading }
    }

    /// The next message or end.
    async fn next(&mut self) -> Heard {
        let next = tokio::time::timeout(Duration::from_secs(10), self.heard.recv()).await;
        next.expect("in time").expect("something to be heard")
    }

    /// The next status.
    async fn status(&mut self) -> (String, String) {
        match self.next().await {
            Heard::Message(message) => {
                let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                (text("user"), text("state"))
            }
            end @ (Heard::Closed(_) | Heard::Gone) => panic!("{end:?} instead of a status"),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
