//! A hub is killed that has a thousand sessions, while users log in, change and leave at all hubs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Hubs, login_of, nodes};
use crate::support::{Client, Heard, RedisServer, now_millis, until};

/// The sessions on the hub that is killed.
const SESSIONS: usize = 1000;
/// How many of them log in at once.
const AT_ONCE: usize = 50;
/// Of each ten sessions so many move to another hub, and the others stay away.
const MOVES_OF_TEN: usize = 5;
/// Every so many sessions one is watched, and changes its custom status.
const WATCHED_EVERY: usize = 23;
/// Users who come and go at all hubs.
const VISITORS: usize = 9;

const WEB_SILENCE_MS: u64 = 7000;
const NATIVE_SILENCE_MS: u64 = 9000;
const SETTINGS: [(&str, &str); 4] = [
    ("liveness.web_ping", "3s"),
    ("liveness.web_silence", "7s"),
    ("liveness.native_ping", "4s"),
    ("liveness.native_silence", "9s"),
];

/// By when the death of a hub must be noticed, and how late a session of it may end.
const NOTICED_MS: u64 = 5000;
/// The tolerance on a busy machine, in milliseconds.
const BUSY_MS: u64 = 3000;

/// A user on the hub that is killed.
#[derive(Clone)]
struct Guest {
    name: String,
    platform: &'static str,
    moves: bool,
    /// Whether it changes its custom status again and again.
    changes: bool,
}

fn guests() -> Vec<Guest> {
    let guest = |n: usize| Guest {
        name: format!("guest-{n}"),
        platform: ["web", "web", "ios", "linux"][n % 4],
        moves: n % 10 < MOVES_OF_TEN,
        changes: n.is_multiple_of(WATCHED_EVERY),
    };
    (0..SESSIONS).map(guest).collect()
}

fn visitors() -> Vec<String> {
    (0..VISITORS).map(|n| format!("visitor-{n}")).collect()
}

async fn connect(address: SocketAddr) -> Option<Client> {
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let url = format!("ws://{address}/ws");
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
    Some(Client::over(socket, Duration::from_secs(60)))
}

/// Logs in, or resumes a session. `None` if the hub is gone.
async fn try_login(
    address: SocketAddr,
    user: &str,
    platform: &str,
    session: Option<&Value>,
) -> Option<(Client, Value)> {
    let mut client = connect(address).await?;
    let reply = client.try_request(login_of(user, platform, session)).await?;
    let ok = reply.get("ok").cloned()?;
    Some((client, ok))
}

/// Reads until the hub dies; a guest who does so changes its custom status meanwhile.
async fn until_gone(guest: &Guest, client: &mut Client) {
    if guest.changes {
        for round in 0_u64.. {
            let set = json!({ "type": "set", "custom": round.to_string() });
            if client.try_request(set).await.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    while matches!(client.hear().await, Heard::Message(_)) {}
}

/// Lives until the hub dies, then moves to another one or stays away.
async fn live(guest: Guest, mut client: Client, session: Value, others: [SocketAddr; 2]) {
    until_gone(&guest, &mut client).await;
    if !guest.moves {
        return;
    }
    // As the SDK does: not all at the same moment.
    tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 3000)).await;
    let to = others[usize::from(rand::random::<bool>())];
    let resumed = try_login(to, &guest.name, guest.platform, Some(&session)).await;
    let (mut client, ok) = resumed.unwrap_or_else(|| panic!("{} cannot resume", guest.name));
    assert_eq!(ok["resumed"], json!(true), "{}", guest.name);
    while matches!(client.hear().await, Heard::Message(_)) {}
}

/// Logs in, changes and leaves again and again, at one hub after another, until it is told to stop.
async fn visit(user: String, hubs: Vec<SocketAddr>, stop: Arc<AtomicBool>) {
    for address in hubs.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some((mut client, _)) = try_login(*address, &user, "linux", None).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        for n in 0..3 {
            let set = json!({ "type": "set", "custom": n.to_string() });
            if client.try_request(set).await.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.socket.close(None).await.ok();
    }
}

/// The events of each user, in their order.
async fn history(hubs: &Hubs) -> BTreeMap<String, Vec<Value>> {
    let (mut events, mut after) = (BTreeMap::<_, Vec<_>>::new(), String::new());
    loop {
        let path = format!("/v1/events?limit=1000{after}");
        let (status, page) = hubs.hubs[0].call("GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        let page_events = page["events"].as_array().expect("events");
        if page_events.is_empty() {
            return events;
        }
        for event in page_events {
            let user = event["user"].as_str().expect("a user").to_owned();
            events.entry(user).or_default().push(event.clone());
        }
        after = format!("&after={}", page["next"].as_str().expect("a cursor"));
    }
}

/// Asserts what the log says of a guest whose hub was killed at a time.
fn check(guest: &Guest, events: &[Value], killed_at: u64) {
    let name = &guest.name;
    assert_eq!(events[0]["cause"], json!("login"), "{name}");
    let left = events.iter().find(|event| event["status"]["state"] != "Online");
    if guest.moves {
        assert_eq!(left, None, "{name} has moved");
        return;
    }
    let left = left.unwrap_or_else(|| panic!("{name} is still Online"));
    assert_eq!(left["cause"], json!("node_lost"), "{name}: {left}");
    let (state, window) = match guest.platform {
        "web" => ("Offline", WEB_SILENCE_MS),
        "ios" => ("PushOnline", NATIVE_SILENCE_MS),
        _ => ("Offline", NATIVE_SILENCE_MS),
    };
    assert_eq!(left["status"]["state"], json!(state), "{name}");
    let at = left["at"].as_u64().expect("a time");
    // From the last sign of life, which was at most a second older than the death.
    let expected = killed_at + window - 1000..=killed_at + window + NOTICED_MS + BUSY_MS;
    let after = at.cast_signed() - killed_at.cast_signed();
    assert!(at + BUSY_MS >= *expected.start() && at <= *expected.end(), "{name}: {after} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_hub_with_a_thousand_sessions_under_churn_is_taken_over() {
    let (guests, visitors) = (guests(), visitors());
    let watched = guests.iter().filter(|guest| guest.changes).map(|guest| &*guest.name);
    let watched: Vec<_> = watched.chain(visitors.iter().map(|name| &**name)).collect();
    let mut hubs = Hubs::start(RedisServer::start(), &watched, &SETTINGS).await;
    let addresses: Vec<_> = hubs.hubs.iter().map(|hub| hub.address).collect();
    let (dies, others) = (addresses[0], [addresses[1], addresses[2]]);

    let stop = Arc::new(AtomicBool::new(false));
    let mut visits = JoinSet::new();
    for user in visitors {
        visits.spawn(visit(user, addresses.clone(), Arc::clone(&stop)));
    }
    let logins = guests.iter().map(async |guest| {
        let entered = try_login(dies, &guest.name, guest.platform, None).await;
        let (client, ok) = entered.unwrap_or_else(|| panic!("{} cannot log in", guest.name));
        let life = live(guest.clone(), client, ok["session"].clone(), others);
        (guest, tokio::spawn(life))
    });
    let lives: Vec<_> = stream::iter(logins).buffer_unordered(AT_ONCE).collect().await;

    let mut killed = hubs.remove(0);
    let killed_at = now_millis();
    killed.signal(Signal::KILL);
    killed.wait();
    let address = dies.to_string();
    until("the death to be noticed", async || {
        let known = join_all(hubs.hubs.iter().map(nodes)).await;
        known.iter().any(|known| known.get(&address).is_none_or(|state| state == "lost"))
    })
    .await;
    let noticed = now_millis() - killed_at;
    assert!(noticed <= NOTICED_MS + BUSY_MS, "noticed after {noticed} ms");
    until("those who stay away to have left", async || {
        let gone = guests.iter().filter(|guest| !guest.moves).count();
        let (_, stats) = hubs.hubs[0].call("GET", "/v1/stats", None).await;
        let online = stats["sessions_by_state"]["Online"].as_u64().expect("a count");
        // Watchers and visitors are Online, too.
        online <= (SESSIONS - gone + hubs.hubs.len() + VISITORS) as u64
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    while let Some(visited) = visits.join_next().await {
        visited.expect("a visitor");
    }
    hubs.agree().await;
    let events = history(&hubs).await;
    for guest in &guests {
        check(guest, &events[&guest.name], killed_at);
    }
    for (guest, life) in lives {
        assert_eq!(life.is_finished(), !guest.moves, "{} goes on if it has moved", guest.name);
        life.abort();
    }
}
