//! Changes of the wall clock while the hub runs: times follow it, windows and versions do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Server, faketime, now_millis, now_secs, token_with, until};

const HOUR_MS: i64 = 3_600_000;
/// The tolerance between two clock readings on a busy machine.
const APART_MS: i64 = 10_000;

/// A hub whose wall clock can be set.
struct Settable {
    server: Server,
    offset: PathBuf,
    _directory: TempDir,
}

impl Settable {
    fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let offset = directory.path().join("offset");
        fs::write(&offset, "+0").expect("to write");
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", offset.display());
        let wrapper = faketime(&[&file, "FAKETIME_NO_CACHE=1"]);
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let server = Server::under(&wrapper, settings);
        Self { server, offset, _directory: directory }
    }

    fn set(&self, hours: i64) {
        replace(&self.offset, &format!("{hours:+}h"));
    }

    /// Logs ann in with a token of a back end whose clock is also that much ahead.
    async fn login(&self, platform: &str, hours: i64) -> (Client, Value) {
        let now = now_secs().cast_signed() + hours * HOUR_MS / 1000;
        let token = token_with(json!({ "sub": "ann", "iat": now, "exp": now + 3600 }));
        let mut client = self.server.connect().await;
        let login = json!({ "type": "login", "token": token, "platform": platform, "device": "d" });
        let ok = client.ok(login).await;
        (client, ok)
    }

    /// Asserts that a time from the hub is about now, on a clock that is that much ahead.
    fn assert_shows(&self, at: &Value, hours: i64, what: &str) {
        let expected = now_millis().cast_signed() + hours * HOUR_MS;
        let at = at.as_i64().unwrap_or_else(|| panic!("{what}: {at}"));
        assert!((at - expected).abs() < APART_MS, "{what} is {} ms off", at - expected);
    }
}

/// Replaces a file atomically: a half-written one could be read.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("to write");
    fs::rename(&new, path).expect("to rename");
}

#[tokio::test]
async fn times_follow_the_wall_clock_and_windows_and_versions_do_not() {
    let hub = Settable::start(&[
        ("liveness.background", "2s"),
        ("liveness.web_close_grace", "0s"),
        ("auth.max_token_ttl", "365d"),
    ]);
    let (mut watcher, _) = hub.server.login("watcher", "linux").await;
    watcher.ok(json!({ "type": "subscribe", "users": ["ann"] })).await;
    let mut version = 0;
    for hours in [0, 1, -1, 0] {
        hub.set(hours);
        let (mut program, ok) = hub.login("miniprogram", hours).await;
        hub.assert_shows(&ok["now"], hours, "the login's `now`");
        hub.assert_shows(&ok["status"]["since"], hours, "the login's `since`");
        let pong = program.ok(json!({ "type": "ping" })).await;
        hub.assert_shows(&pong["now"], hours, "the ping's `now`");
        let pushed = watcher.message().await;
        hub.assert_shows(&pushed["since"], hours, "a pushed `since`");
        let hidden = program.ok(json!({ "type": "background" })).await;
        hub.assert_shows(&hidden["deadline"], hours, "the deadline of the background");
        let ann = hub.server.user("ann").await;
        let terminal = &ann["terminals"][0];
        hub.assert_shows(&terminal["since"], hours, "a terminal's `since`");
        hub.assert_shows(&terminal["last_heard"], hours, "a terminal's `last_heard`");
        hub.assert_shows(&terminal["background"]["since"], hours, "the background's `since`");
        hub.assert_shows(&terminal["active_at"], hours, "an idle terminal's `active_at`");
        assert_eq!(watcher.message().await["away"], true);

        let left = watcher.message().await;
        assert_eq!(left["state"], "Offline", "{left}");
        hub.assert_shows(&left["since"], hours, "the `since` of the end");
        hub.assert_shows(&left["last_seen"], hours, "`last_seen`");
        let next = left["version"].as_u64().expect("a version");
        assert!(next > version, "versions grow");
        version = next;
        let (_, history) = hub.server.call("GET", "/v1/users/ann/history?limit=1", None).await;
        let event = &history["events"][0];
        assert_eq!(event["cause"], "background", "{event}");
        hub.assert_shows(&event["at"], hours, "an event's `at`");
        hub.assert_shows(&event["evidence"]["deadline"], hours, "its deadline");
        hub.assert_shows(&event["evidence"]["last_heard"], hours, "its `last_heard`");
        let lasted = event["at"].as_u64().zip(hidden["deadline"].as_u64());
        let (at, deadline) = lasted.expect("times");
        assert!((deadline..deadline + 1000).contains(&at), "T6, T14: {at} for {deadline}");
    }
}

#[tokio::test]
async fn setting_the_wall_clock_ends_no_session() {
    let hub = Settable::start(&[]);
    let (mut page, _) = hub.login("web", 0).await;
    for hours in [1, -1, 30, 0] {
        hub.set(hours);
        // The hub follows the wall clock with its next tick.
        let shown = until("the clock to be followed", async || {
            let (_, stats) = hub.server.call("GET", "/v1/stats", None).await;
            let expected = now_millis().cast_signed() + hours * HOUR_MS;
            stats["at"].as_i64().is_some_and(|at| (at - expected).abs() < APART_MS)
        });
        tokio::time::timeout(Duration::from_secs(60), shown).await.expect("a minute to be enough");
        page.ok(json!({ "type": "ping" })).await;
        assert_eq!(hub.server.user("ann").await["state"], "Online");
    }
}
