//! Storms of logins, resumes and changes against the hub process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::{LONG, Listener};
use crate::support::{API_KEY, Client, Heard, Server, token};

const UNLIMITED: [(&str, &str); 3] = [
    ("limits.messages_per_second", "1000000"),
    ("limits.message_burst", "1000000"),
    ("limits.changes_per_user_per_minute", "1000000"),
];
const PLATFORMS: [&str; 8] =
    ["android", "ios", "ipad", "linux", "mac", "miniprogram", "web", "windows"];

fn hello(platform: &str, device: &str) -> Value {
    json!({ "type": "login", "token": token("ana"), "platform": platform, "device": device })
}

/// The number of `Online` terminals in a detailed query.
fn online_terminals(user: &Value) -> usize {
    let terminals = user["terminals"].as_array().expect("terminals");
    terminals.iter().filter(|terminal| terminal["state"] == "Online").count()
}

/// Queries a user until `done`: there is never more than one terminal, and after the first login never
/// none.
async fn observe(server: Arc<Server>, done: Arc<AtomicBool>) -> usize {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/v1/users/ana", server.address);
    let (mut observed, mut online) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let answer = client.get(&url).bearer_auth(API_KEY).send().await.expect("an answer");
        let user: Value =
            serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
        let now = online_terminals(&user);
        assert_eq!(user["terminals"].as_array().map(Vec::len), Some(now), "{user}");
        assert!((online..=1).contains(&now), "{user}");
        assert_eq!(user["state"], json!(["Offline", "Online"][now]), "{user}");
        (observed, online) = (observed + 1, now);
    }
    observed
}

/// L3, L6, L8: under racing logins each query shows one terminal, and all others are notified.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l3_l6_l8_two_hundred_racing_logins_leave_one_session_and_notify_the_others() {
    const LOGINS: usize = 200;
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let server = Arc::new(Server::start(&UNLIMITED));
    let mut watcher = Listener::watching(&server, &["ana".into()]).await;
    let start = Arc::new(Barrier::new(LOGINS + 1));
    let clients = (0..LOGINS).map(|n| {
        let (server, start) = (Arc::clone(&server), Arc::clone(&start));
        tokio::spawn(async move {
            let mut client = server.connect().await;
            start.wait().await;
            let platform = PLATFORMS[n % PLATFORMS.len()];
            let ok = client.ok(hello(platform, &format!("device-{n}"))).await;
            let session = ok["session"].as_str().expect("a session").to_owned();
            (session, ok, client)
        })
    });
    let clients: Vec<_> = clients.collect();
    let done = Arc::new(AtomicBool::new(false));
    let observers = [(); 3].map(|()| tokio::spawn(observe(Arc::clone(&server), Arc::clone(&done))));
    start.wait().await;
    let logged_in = join_all(clients).await;
    done.store(true, Ordering::Relaxed);
    for observer in observers {
        let observed = observer.await.expect("observations of one terminal at most");
        println!("two hundred logins were observed {observed} times");
    }

    let mut sessions = BTreeMap::new();
    let mut kicked = BTreeSet::new();
    for login in logged_in {
        let (session, ok, client) = login.expect("a login");
        for victim in ok["kicked"].as_array().expect("who was kicked") {
            let victim = victim["session"].as_str().expect("a session").to_owned();
            assert!(kicked.insert(victim), "a session is kicked once");
        }
        sessions.insert(session, client);
    }
    assert_eq!((sessions.len(), kicked.len()), (LOGINS, LOGINS - 1));
    for session in &kicked {
        let mut client = sessions.remove(session).expect("a session that logged in");
        let (heard, code) = client.until_closed().await;
        let [notice] = &heard[..] else { panic!("{heard:?}") };
        let told = (&notice["type"], &notice["reason"]);
        assert_eq!(told, (&json!("kicked"), &json!("login_elsewhere")), "{notice}");
        assert!(notice["by"]["device"].is_string() && notice["at"].is_u64(), "{notice}");
        assert_eq!(code, Some(4501));
    }

    let (winner, mut client) = sessions.pop_first().expect("the winner");
    let user = server.user("ana").await;
    assert_eq!((online_terminals(&user), &user["terminals"][0]["session"]), (1, &json!(winner)));
    // A takeover by the same platform is not pushed (V6), a custom status is.
    let last = client.ok(json!({ "type": "set", "custom": "the last" })).await["status"].clone();
    let mut version = 0;
    while version < last["version"].as_u64().expect("a version") {
        let status = watcher.message().await;
        assert_eq!(status["state"], json!("Online"), "{status}");
        assert_eq!(status["platforms"].as_array().map(Vec::len), Some(1), "{status}");
        assert!(status["version"].as_u64() > Some(version), "{status}");
        version = status["version"].as_u64().expect("a version");
    }
}

/// L7: two devices that both ignore close codes and always resume do not kick each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l7_two_resuming_clients_never_kick_each_other() {
    const ROUNDS: usize = 60;
    let server = Arc::new(Server::start(&UNLIMITED));
    // Both begin with a session that has ended, as after a night without a network.
    let mut lost = Vec::new();
    for platform in ["mac", "windows"] {
        let (mut client, ok) = server.login("ana", platform).await;
        client.ok(json!({ "type": "logout" })).await;
        lost.push((platform, ok["session"].clone()));
    }
    let before = server.user("ana").await;
    let stubborn = lost.into_iter().map(|(platform, session)| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let (mut admitted, mut refused, mut resume) = (0, 0, session);
            let mut open = None;
            for round in 0..ROUNDS {
                let mut client = server.connect().await;
                let mut hello = hello(platform, platform);
                // Resumes the own session, and sometimes an unknown one.
                hello["resume"] = if round % 7 == 3 { json!("") } else { resume.clone() };
                hello["id"] = json!(1);
                client.send(&hello).await;
                let reply = client.message().await;
                if reply["ok"].is_object() {
                    assert_eq!(reply["ok"]["kicked"], json!([]), "{reply}");
                    admitted += 1;
                    resume = reply["ok"]["session"].clone();
                    open = Some(client);
                } else {
                    assert_eq!(reply["error"]["code"], json!("superseded"), "{reply}");
                    assert_eq!(client.hear().await, Heard::Closed(4503));
                    refused += 1;
                }
            }
            (admitted, refused, open)
        })
    });
    let stubborn: Vec<_> = stubborn.collect();
    let mut ends = Vec::new();
    for client in stubborn {
        ends.push(client.await.expect("a client that comes to rest"));
    }
    ends.sort_by_key(|(admitted, ..)| *admitted);
    let [(never, refused, _), (always, superseded, open)] = &mut ends[..] else { panic!() };
    assert_eq!((*never, *refused), (0, ROUNDS), "one of them is never admitted");
    assert!(*always > 0 && *superseded < ROUNDS, "the other one is admitted");
    let user = server.user("ana").await;
    assert_eq!((online_terminals(&user), &before["state"]), (1, &json!("Offline")), "{user}");
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(stats["kicks"], json!(0), "{stats}");
    let client = open.as_mut().expect("its connection");
    assert!(client.request(json!({ "type": "ping" })).await["ok"].is_object());
}

/// V4: watchers that stop reading use bounded memory, and get the latest statuses when they read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v4_watchers_that_stop_reading_use_bounded_memory() {
    const USERS: usize = 100;
    const CHANGES: usize = 100;
    const WATCHERS: usize = 100;
    /// The memory for the log and the watchers' buffers. An unbounded queue would take far more.
    const GROWTH_MIB: u64 = 64;
    let settings = [&UNLIMITED[..], &[("limits.slow_consumer", "10m"), ("login.policy", "multi")]];
    let server = Server::start(&settings.concat());
    let users: Vec<_> = (0..USERS).map(|n| format!("user-{n}")).collect();
    let mut changers = Vec::new();
    for user in &users {
        let (client, _) = server.login(user, "linux").await;
        changers.push(Client::over(client.socket, LONG));
    }
    let mut watchers = Vec::new();
    for n in 0..WATCHERS {
        let (mut client, _) = server.login(&format!("watcher-{n}"), "linux").await;
        client.ok(json!({ "type": "subscribe", "users": users })).await;
        watchers.push(Client::over(client.socket, LONG));
    }

    let before = rss_mib(&server);
    let changing = changers.into_iter().enumerate().map(|(user, mut client)| {
        tokio::spawn(async move {
            for n in 0..CHANGES {
                // The maximum size, so that sockets fill soon.
                let custom = format!("{n:04}-{user:03}-{}", "x".repeat(240));
                client.ok(json!({ "type": "set", "custom": custom })).await;
            }
            client
        })
    });
    let changed = join_all(changing.collect::<Vec<_>>()).await;
    let grown = rss_mib(&server).saturating_sub(before);
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    println!("{WATCHERS} watchers that do not read: {grown} MiB more; {stats}");
    assert!(grown <= GROWTH_MIB, "{grown} MiB for unread statuses");
    let sent = (USERS * CHANGES * WATCHERS) as u64;
    assert!(stats["deliveries"].as_u64() >= Some(sent), "{stats}");
    assert!(stats["conflated"].as_u64() > Some(sent / 4), "{stats}");

    for watcher in &mut watchers {
        let mut seen: BTreeMap<String, Value> = BTreeMap::new();
        let is_last = |status: &Value| {
            status["custom"].as_str().is_some_and(|text| text.starts_with("0099-"))
        };
        while seen.values().filter(|status| is_last(status)).count() < USERS {
            let status = watcher.message().await;
            let user = status["user"].as_str().expect("a user").to_owned();
            let older = seen.insert(user, status.clone());
            let version = |status: &Value| status["version"].as_u64();
            assert!(older.is_none_or(|older| version(&older) < version(&status)), "{status}");
        }
    }
    assert_eq!(changed.len(), USERS);
}

/// The hub's resident memory.
fn rss_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the hub's status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib = rss.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a size in KiB") / 1024
}

/// V3 over the network: pushes arrive in order, and the last one is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn v3_watcher_gets_all_pushes_of_a_storm_in_order() {
    let server = Server::start(&UNLIMITED);
    let mut watcher = Listener::watching(&server, &["ana".into()]).await;
    let (mut ana, _) = server.login("ana", "web").await;
    let mut version = 0;
    for n in 0..500 {
        ana.ok(json!({ "type": "set", "custom": n.to_string() })).await;
    }
    loop {
        let status = watcher.message().await;
        assert!(status["version"].as_u64() > Some(version), "{status}");
        version = status["version"].as_u64().expect("a version");
        if status["custom"] == "499" {
            break;
        }
    }
    tokio::time::timeout(Duration::from_secs(20), server.until_state("ana", "Online"))
        .await
        .expect("the state of ana");
}
