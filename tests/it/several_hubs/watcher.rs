//! A session that watches users, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::enter;
use crate::support::{Server, now_millis, until};

/// A watcher, which reads all the time.
pub(super) struct Watcher {
    /// Each status, and when it was told.
    told: Arc<Mutex<Vec<(u64, Value)>>>,
    reading: JoinHandle<()>,
}

impl Watcher {
    /// Subscribes to users at a hub.
    pub(super) async fn start(hub: &Server, name: &str, users: &[String]) -> Self {
        let (mut client, _) = enter(hub, name, "web", None).await;
        let ok = client.ok(json!({ "type": "subscribe", "users": users })).await;
        let first = ok["statuses"].as_array().expect("statuses").iter();
        let first: Vec<_> = first.map(|status| (now_millis(), status.clone())).collect();
        let told = Arc::new(Mutex::new(first));
        let heard = Arc::clone(&told);
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = client.socket.next().await {
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                if message["type"] == "status" {
                    heard.lock().push((now_millis(), message));
                }
            }
        });
        Self { told, reading }
    }

    /// Each status that it was told, in order.
    pub(super) fn all(&self) -> Vec<Value> {
        self.told.lock().iter().map(|(_, status)| status.clone()).collect()
    }

    /// The last status of a user that it was told, and when (in milliseconds since 1970).
    pub(super) fn last(&self, user: &str) -> Option<(u64, Value)> {
        self.told.lock().iter().rfind(|(_, status)| status["user"] == user).cloned()
    }

    /// Waits until the last status of a user that it was told is as wanted; returns when it was told.
    pub(super) async fn until_told(&self, user: &str, field: &str, wanted: &Value) -> u64 {
        let mut told_at = 0;
        until(&format!("{user} to be told with {field} {wanted}"), async || {
            let last = self.last(user).filter(|(_, status)| status[field] == *wanted);
            last.inspect(|(at, _)| told_at = *at).is_some()
        })
        .await;
        told_at
    }

    /// The states of a user that it was told, in order.
    pub(super) fn states(&self, user: &str) -> Vec<String> {
        let all = self.all();
        let of_user = all.iter().filter(|status| status["user"] == user);
        of_user.map(|status| status["state"].as_str().expect("a state").to_owned()).collect()
    }

    /// The last status of each of these users that it was told; its versions only grow.
    pub(super) fn told(&self, users: &BTreeSet<String>) -> BTreeMap<String, Value> {
        let mut last = BTreeMap::<String, Value>::new();
        for mut status in self.all() {
            let user = status["user"].as_str().expect("a user").to_owned();
            status.as_object_mut().expect("an object").remove("type");
            let version = |status: &Value| status["version"].as_u64().expect("a version");
            if let Some(before) = last.get(&user) {
                assert!(version(&status) > version(before), "{status} after {before}");
            }
            if users.contains(&user) {
                last.insert(user, status);
            }
        }
        last
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
