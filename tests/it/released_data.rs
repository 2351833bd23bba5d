//! The data of each released version, which the present one must read.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::receiver::{Act, Receiver};
use crate::support::{Server, WEBHOOK_SECRET, until};

/// The files of a store whose write-ahead log is copied into the database.
const FILES: [&str; 2] = ["presence.db", "presence.mark"];
/// Makes the data of this version if it is set.
const MAKE: &str = "PRESENCE_HUB_MAKE_DATA";
/// Windows and retention that outlast any time between two releases.
const KEPT: [(&str, &str); 5] = [
    ("server.drain", "100ms"),
    ("store.log_ttl", "36500d"),
    ("store.record_ttl", "36500d"),
    ("liveness.push_online_ttl", "36500d"),
    ("webhook.give_up_after", "36500d"),
];

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version)
}

/// The settings of two webhooks: one without a name, and `orders`.
fn settings<'a>(url: &'a str, secrets: &'a str) -> Vec<(&'static str, &'a str)> {
    let own = [("webhook.url", url), ("webhook.secrets", secrets)];
    KEPT.into_iter().chain(own).collect()
}

fn orders(url: &str) -> String {
    format!(
        "[[webhooks]]\nname = \"orders\"\nurl = \"{url}\"\nsecrets = [\"{WEBHOOK_SECRET}\"]\n\
         give_up_after = \"1ms\"\n"
    )
}

async fn get(hub: &Server, path: &str) -> Value {
    let (status, body) = hub.call("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn post(hub: &Server, path: &str, body: Value) {
    let (status, answer) = hub.call("POST", path, Some(body)).await;
    assert_eq!(status, 200, "{path}: {answer}");
}

async fn orders_dead(hub: &Server) -> Value {
    get(hub, "/v1/webhooks").await["named"][0]["dead_waiting"].clone()
}

/// Makes a store with everything that a store can have, and stops its hub.
async fn make(into: &Path) {
    let receiver = Receiver::start(|body| {
        // The webhook without a name accepts nothing about `held`, and `orders` gives up the events of `dead`.
        let text = body.to_string();
        if text.contains("\"held\"") || text.contains("\"dead\"") {
            Act::Refuse(400)
        } else {
            Act::Take(200)
        }
    })
    .await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = settings(&url, &secrets);
    let mut hub = Server::with_file(&orders(&url), &settings);
    let (_page, _) = hub.login("page", "web").await;
    let (phone, _) = hub.login("phone", "ios").await;
    let (mut custom, _) = hub.login("custom", "linux").await;
    custom.ok(json!({ "type": "set", "custom": "in a meeting" })).await;
    let (_banned, _) = hub.login("banned", "mac").await;
    post(&hub, "/v1/users/banned/kick", json!({ "all": true })).await;
    for user in ["held", "dead"] {
        let (mut client, _) = hub.login(user, "android").await;
        client.ok(json!({ "type": "logout" })).await;
    }
    drop(phone);
    hub.until_state("phone", "PushOnline").await;
    let mut users = 0;
    until("a dead letter", async || {
        users += 1;
        let (mut client, _) = hub.login(&format!("user-{users}"), "mac").await;
        client.ok(json!({ "type": "logout" })).await;
        orders_dead(&hub).await == 4
    })
    .await;
    until("held events", async || get(&hub, "/v1/webhooks").await["delivery"]["held"] == 2).await;
    until("figures", async || get(&hub, "/v1/figures").await["days"] != json!([])).await;
    hub.signal(Signal::TERM);
    assert!(hub.until_exit().await.success());
    let data = hub.directory.path().join("data");
    let database = Connection::open(data.join(FILES[0])).expect("the database");
    // The write-ahead log has a few MB, whatever is in it.
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let blocked: i64 = database.query_row(checkpoint, (), |row| row.get(0)).expect("a checkpoint");
    assert_eq!(blocked, 0);
    drop(database);
    fs::create_dir_all(into).expect("a folder");
    for file in FILES {
        fs::copy(data.join(file), into.join(file)).expect(file);
    }
}

/// Checks what the webhooks hold and have given up, and that they post it.
async fn check_webhooks(version: &str, hub: &Server, receiver: &Receiver) {
    let state = get(hub, "/v1/webhooks").await;
    // Two of before; the users whose sessions ended at the start may be held, too.
    assert!(state["delivery"]["held"].as_u64() >= Some(2), "{version}: {state}");
    assert_eq!(state["named"][0]["dead_waiting"], 4, "{version}: {state}");
    let letters = get(hub, "/v1/webhooks/dead?name=orders").await;
    let about = |letter: &Value| letter["event"]["user"].as_str().expect("a user").to_owned();
    let mut users: Vec<_> =
        letters["dead"].as_array().expect("letters").iter().map(about).collect();
    users.sort();
    assert_eq!(users, ["dead", "dead", "held", "held"], "{version}");
    receiver.set(|_| Act::Take(200));
    until("all pending events", async || {
        let posted =
            |user: &str| receiver.taken().iter().filter(|event| event["user"] == user).count();
        posted("held") >= 2 && posted("dead") >= 2
    })
    .await;
}

/// Starts a hub on a copy of the data of a version, and checks what it reads.
async fn check(version: &str) {
    let receiver = Receiver::start(|_| Act::Refuse(503)).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = settings(&url, &secrets);
    let mut hub = Server::with_file(&orders(&url), &settings);
    hub.signal(Signal::TERM);
    hub.until_exit().await;
    let data = hub.directory.path().join("data");
    fs::remove_dir_all(&data).expect("the hub's own data");
    fs::create_dir(&data).expect("a folder");
    for file in FILES {
        fs::copy(folder(version).join(file), data.join(file)).expect(file);
    }
    hub.restart_dead(&settings);

    hub.until_state("page", "Offline").await;
    let history = get(&hub, "/v1/users/page/history").await;
    let events = history["events"].as_array().expect("events").iter();
    let causes: Vec<_> = events.map(|event| event["cause"].clone()).collect();
    assert_eq!(
        causes,
        ["node_lost", "login"],
        "{version}: its window ended while the hub was away"
    );
    assert_eq!(hub.user("phone").await["state"], "PushOnline", "{version}");
    let history = get(&hub, "/v1/users/custom/history").await;
    let events = history["events"].as_array().expect("events");
    let set = events.iter().find(|event| event["cause"] == "custom").expect("the change");
    assert_eq!(set["status"]["custom"], "in a meeting", "{version}");
    assert_eq!(hub.user("banned").await["state"], "Offline", "{version}");
    let events = get(&hub, "/v1/events?limit=1000").await["events"].clone();
    assert!(events.as_array().expect("events").len() > 10, "{version}: {events}");

    let figures = get(&hub, "/v1/figures?days=400").await;
    // They are gone once the release is older.
    if let Some(first) = figures["days"].get(0) {
        assert_eq!(first["kicks"], 1, "{version}: {figures}");
    }
    check_webhooks(version, &hub, &receiver).await;

    // It goes on with this version: new versions are greater, and the store takes changes.
    let before = hub.user("page").await["version"].as_u64().expect("a version");
    let (_page, _) = hub.login("page", "web").await;
    let after = hub.user("page").await;
    assert!(after["version"].as_u64().expect("a version") > before, "{version}: {after}");
    let log = hub.log();
    assert!(!log.contains("damaged"), "{version}: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_each_release_is_read() {
    let mut versions: Vec<_> = fs::read_dir(folder(""))
        .expect("the folder")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a version"))
        .collect();
    versions.sort();
    assert!(versions.iter().any(|version| version == "0.2.0"), "{versions:?}");
    for version in versions {
        check(&version).await;
    }
}

/// What the release script checks, too: a version is released with its data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_this_version_is_kept() {
    let own = folder(env!("CARGO_PKG_VERSION"));
    if std::env::var_os(MAKE).is_some() && !own.exists() {
        make(&own).await;
    }
    for file in FILES {
        let size = fs::metadata(own.join(file)).expect(file).len();
        assert!((1..1_000_000).contains(&size), "{file}: {size} bytes");
    }
}

#[test]
fn release_script_finds_one_version_in_all_files() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/release/run");
    let output = std::process::Command::new(script).arg("--check").output().expect("the script");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(concat!("version ", env!("CARGO_PKG_VERSION"), ": ")), "{told}");
}
