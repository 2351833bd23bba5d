//! `presence-hub follow` against real hubs.

mod frames;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{API_KEY, RedisServer, Server, command, until};

/// The directory of one follower: its output, its log and its cursor file.
struct Place(TempDir);

/// A running command. Dropping it kills it.
struct Follow(Child);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts the command, which appends to the output and the log of this place.
    fn follow(&self, hubs: &[SocketAddr], arguments: &[&str]) -> Follow {
        self.follow_into(append(&self.path().join("events")).into(), hubs, arguments)
    }

    fn follow_into(&self, output: Stdio, hubs: &[SocketAddr], arguments: &[&str]) -> Follow {
        let mut follow = command(self.path(), &[]);
        follow.args(["follow", "--cursor", "cursor"]);
        for hub in hubs {
            follow.args(["--url", &format!("http://{hub}")]);
        }
        // The last, because a command ends the options.
        follow.args(arguments);
        follow.env("PRESENCE_HUB_KEY", API_KEY).stdout(output);
        follow.stderr(append(&self.path().join("log")));
        Follow(follow.spawn().expect("the command to start"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn cursor(&self) -> Option<String> {
        fs::read_to_string(self.path().join("cursor")).ok()
    }

    /// The events of the output. A line that a kill has cut off is left out.
    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path().join("events")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the output has all events of a hub.
    async fn until_all(&self, hub: &Server) {
        let all = all_events(hub).await;
        until("all events to be written", async || {
            let written = ids(&self.events());
            ids(&all).is_subset(&written)
        })
        .await;
    }

    async fn until_logged(&self, text: &str) {
        until(text, async || self.log().contains(text)).await;
    }
}

impl Follow {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the command to be there");
    }

    async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the command to end", async || {
            status = self.0.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("a status")
    }

    async fn killed(mut self) {
        self.signal(Signal::KILL);
        self.end().await;
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("a file")
}

fn ids(events: &[Value]) -> HashSet<String> {
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// The whole log of a hub.
async fn all_events(hub: &Server) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = hub.call("GET", &format!("/v1/events?limit=1000{after}"), None).await;
        assert_eq!(status, 200, "{page}");
        let more = page["events"].as_array().expect("events");
        if more.is_empty() {
            return events;
        }
        events.extend_from_slice(more);
        after = format!("&after={}", page["next"].as_str().expect("a cursor"));
    }
}

/// Logs in, changes the custom status and logs out; each makes an event.
async fn change(hub: &Server, user: &str, changes: usize) {
    let (mut client, _) = hub.login(user, "linux").await;
    for n in 0..changes {
        let custom = format!("{n} {}", rand::random::<u64>());
        client.ok(json!({ "type": "set", "custom": custom })).await;
    }
    client.ok(json!({ "type": "logout" })).await;
}

const MANY_CHANGES: (&str, &str) = ("limits.changes_per_user_per_minute", "100000");

#[tokio::test]
async fn a_stopped_follow_continues_after_its_last_event() {
    let hub = Server::start(&[MANY_CHANGES]);
    let place = Place::new();
    change(&hub, "ann", 20).await;
    for _ in 0..3 {
        let mut follow = place.follow(&[hub.address], &[]);
        place.until_all(&hub).await;
        change(&hub, "ann", 5).await;
        place.until_all(&hub).await;
        follow.signal(Signal::TERM);
        assert!(follow.end().await.success(), "{}", place.log());
        change(&hub, "bob", 5).await;
    }
    let mut follow = place.follow(&[hub.address], &[]);
    place.until_all(&hub).await;
    follow.signal(Signal::INT);
    assert!(follow.end().await.success(), "{}", place.log());
    assert_eq!(place.events(), all_events(&hub).await, "nothing is repeated");
    assert!(!place.log().contains(API_KEY), "{}", place.log());
}

#[tokio::test]
async fn nothing_is_lost_when_follow_and_the_hub_are_killed() {
    let mut hub = Server::start(&[MANY_CHANGES]);
    let address = hub.address.to_string();
    let same_address = [MANY_CHANGES, ("server.listen", address.as_str())];
    let place = Place::new();
    for round in 0..6 {
        let follow = place.follow(&[hub.address], &[]);
        change(&hub, "ann", 30).await;
        if round % 2 == 0 {
            // The command is somewhere in these events.
            follow.killed().await;
            continue;
        }
        place.until_logged("following events").await;
        change(&hub, "bob", 30).await;
        hub.restart(&same_address);
        change(&hub, "ann", 10).await;
        place.until_all(&hub).await;
        follow.killed().await;
    }
    let _last = place.follow(&[hub.address], &[]);
    place.until_all(&hub).await;
    let mut seen = HashSet::new();
    let mut written = place.events();
    written.retain(|event| seen.insert(event["id"].as_str().expect("an id").to_owned()));
    assert_eq!(written, all_events(&hub).await, "all events, in the order of the log");
    place.until_logged("events interrupted, reconnecting").await;
}

#[tokio::test]
async fn an_expired_cursor_is_an_error_unless_the_operator_allows_it() {
    let hub = Server::start(&[]);
    let place = Place::new();
    change(&hub, "ann", 3).await;
    fs::write(place.path().join("cursor"), "17\n").expect("to write");
    let mut follow = place.follow(&[hub.address], &[]);
    assert_eq!(follow.end().await.code(), Some(3));
    let log = place.log();
    for part in ["cursor 17", "has expired", "--from-start", &place.path().display().to_string()] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!((place.events(), place.cursor().as_deref()), (Vec::new(), Some("17\n")));

    let _follow = place.follow(&[hub.address], &["--from-start", "--from-now"]);
    place.until_all(&hub).await;
    place.until_logged("cursor expired, continuing with the oldest event").await;
    until("the cursor to move", async || place.cursor().is_some_and(|cursor| cursor != "17\n"))
        .await;
}

#[tokio::test]
async fn a_closed_pipe_ends_follow_quietly() {
    let hub = Server::start(&[MANY_CHANGES]);
    let place = Place::new();
    change(&hub, "ann", 3).await;
    let mut follow = place.follow_into(Stdio::piped(), &[hub.address], &[]);
    let mut output = BufReader::new(follow.0.stdout.take().expect("its output"));
    let mut line = String::new();
    for _ in 0..5 {
        line.clear();
        output.read_line(&mut line).expect("a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["user"], "ann");
    }
    let (_, last) = hub.call("GET", "/v1/events", None).await;
    let last = format!("{}\n", last["next"].as_str().expect("a cursor"));
    until("the cursor to move", async || place.cursor().as_ref() == Some(&last)).await;
    drop(output);
    change(&hub, "bob", 3).await;
    assert!(follow.end().await.success());
    assert_eq!(place.cursor(), Some(last), "the cursor is before the event that nobody read");
    let log = place.log();
    assert!(!log.contains("ERROR") && !log.contains("roken pipe"), "{log}");
}

#[tokio::test]
async fn follow_from_now_skips_the_events_of_before() {
    let hub = Server::start(&[]);
    let place = Place::new();
    change(&hub, "ann", 3).await;
    let _follow = place.follow(&[hub.address], &["--from-now"]);
    until("a first cursor", async || place.cursor().is_some()).await;
    change(&hub, "bob", 1).await;
    until("an event", async || !place.events().is_empty()).await;
    assert_eq!(place.events()[0]["user"], "bob");
}

#[tokio::test]
async fn follow_uses_another_hub_of_the_same_store_when_one_is_gone() {
    let redis = RedisServer::start();
    let (url, settings) = (redis.url(), ("store.kind", "redis"));
    let settings = [settings, ("store.redis_url", url.as_str()), MANY_CHANGES];
    let (one, two) = (Server::start(&settings), Server::start(&settings));
    let nothing = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let place = Place::new();
    let _follow = place.follow(&[nothing, one.address, two.address], &[]);
    change(&two, "ann", 10).await;
    until("the events", async || place.events().len() == 12).await;
    let port = format!(":{}/v1/events", one.address.port());
    assert!(place.log().contains(&port), "the second address was used: {}", place.log());
    drop(one);
    change(&two, "bob", 10).await;
    until("the events of the other hub", async || place.events().len() >= 24).await;
    assert_eq!(place.events(), all_events(&two).await, "nothing is repeated");
}

#[tokio::test]
async fn follow_says_what_the_operator_must_change() {
    let hub = Server::start(&[]);
    let url = format!("http://{}", hub.address);
    let place = Place::new();
    let write = |name: &str, text: &str| {
        fs::write(place.path().join(name), text).expect("to write");
    };
    write("unknown-key", "no-key-of-this-hub\n");
    write("empty", "\n");
    write("words", "not a cursor");
    let run = |arguments: &[&str]| {
        let mut follow = command(place.path(), &[]);
        follow.arg("follow").args(arguments).env_remove("PRESENCE_HUB_KEY");
        let output = follow.output().expect("the command to run");
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).expect("a text"))
    };
    let key = ["--key-file", "unknown-key"];
    for (arguments, code, parts) in [
        (&["--url", &url][..], 2, &["--cursor"][..]),
        (&["--cursor", "c"], 2, &["--url"]),
        (&["--cursor", "c", "--url", &url], 1, &["missing API key", "PRESENCE_HUB_KEY"]),
        (&["--cursor", "c", "--url", &url, "--key-file", "empty"], 1, &["one API key"]),
        (&["--cursor", "c", "--url", &url, "--key-file", "gone"], 1, &["--key-file gone"]),
        (&["--cursor", "c", "--url", &url, key[0], key[1]], 1, &["answered 401", "auth.api_keys"]),
        (&["--cursor", "words", "--url", &url, key[0], key[1]], 1, &["words", "delete the file"]),
        (&["--cursor", "no/c", "--url", &url, key[0], key[1]], 1, &["--cursor no/c"]),
        (&["--cursor", "c", "--url", "http://a:b@c/", key[0], key[1]], 1, &["--url", "password"]),
        (
            &["--cursor", "c", "--url", "http://c/?d", key[0], key[1]],
            1,
            &["only the hub's address"],
        ),
    ] {
        let (status, told) = run(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{arguments:?}: {told}");
        assert!(!told.contains("no-key-of-this-hub") && !told.contains("a:b"), "{told}");
    }

    let _follow = place.follow(&[hub.address], &[]);
    place.until_logged("following events").await;
    let mut second = place.follow(&[hub.address], &[]);
    assert_eq!(second.end().await.code(), Some(1));
    place.until_logged("another `presence-hub follow` uses this file").await;
}

#[tokio::test]
async fn a_command_gets_each_batch_until_it_succeeds() {
    let hub = Server::start(&[MANY_CHANGES]);
    let place = Place::new();
    change(&hub, "ann", 10).await;
    // It fails after it has read the events, until the file `works` is there.
    let script = "cat > batch && test -e works && cat batch >> events";
    let mut follow = place.follow(&[hub.address], &["--", "sh", "-c", script]);
    place.until_logged("command failed, running it again").await;
    assert_eq!((place.events(), place.cursor()), (Vec::new(), None));
    fs::write(place.path().join("works"), "").expect("to write");
    place.until_all(&hub).await;
    change(&hub, "bob", 10).await;
    place.until_all(&hub).await;
    assert_eq!(place.events(), all_events(&hub).await, "nothing is repeated");
    until("the cursor to move", async || place.cursor().is_some()).await;
    follow.signal(Signal::TERM);
    assert!(follow.end().await.success(), "{}", place.log());

    let mut follow = place.follow(&[hub.address], &["--", "no-such-program"]);
    change(&hub, "eve", 1).await;
    assert_eq!(follow.end().await.code(), Some(1));
    assert!(place.log().contains("no-such-program: "), "{}", place.log());
}

/// A reader that is slower than the hub makes the command wait, and misses nothing.
#[tokio::test]
async fn follow_waits_for_a_slow_reader() {
    const EVENTS: usize = 400;
    let hub = Server::start(&[MANY_CHANGES]);
    let place = Place::new();
    let mut follow = place.follow_into(Stdio::piped(), &[hub.address], &[]);
    // More would be too many messages of one connection.
    for user in ["ann", "bob", "cat", "dan"] {
        change(&hub, user, EVENTS / 4 - 2).await;
    }
    let all = ids(&all_events(&hub).await);
    let output = follow.0.stdout.take().expect("its output");
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::with_capacity(64, output).lines();
        let line = |line: std::io::Result<String>| {
            serde_json::from_str(&line.expect("a line")).expect("JSON")
        };
        let events: Vec<Value> = lines.by_ref().take(EVENTS).map(line).collect();
        ids(&events)
    });
    let read = tokio::time::timeout(Duration::from_secs(60), read).await.expect("all lines");
    assert_eq!(read.expect("the reader"), all);
}
