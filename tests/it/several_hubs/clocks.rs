//! Hubs whose wall clocks are minutes apart: each window is as long on every hub.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Hubs, enter};
use crate::support::{RedisServer, faketime, now_millis, now_secs, token_with, until};

/// How many seconds the wall clock of each hub is ahead.
const AHEAD_SECS: [i64; 3] = [-180, 0, 180];
/// The tolerance between two readings of a clock on a busy machine.
const APART_MS: i64 = 5000;
/// How late an end may be seen on a busy machine: a second by T14, and the time until the watcher is told.
const LATE: Duration = Duration::from_secs(5);

const WINDOWS: [(&str, &str); 7] = [
    ("store.max_clock_skew", "0s"),
    ("login.policy", "multi"),
    ("liveness.native_ping", "2s"),
    ("liveness.native_silence", "6s"),
    ("liveness.background", "4s"),
    ("liveness.exit", "3s"),
    ("liveness.push_online_ttl", "7s"),
];

/// What a client does, and how long after it the user leaves the state that watchers see.
struct Case {
    name: &'static str,
    platform: &'static str,
    act: Act,
    window: Duration,
    /// The state that the user then is in.
    state: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Stops to read and to write, on an open connection.
    FallSilent,
    Close,
    Background(&'static str),
}

/// The rules' windows, as they are set here.
const CASES: [Case; 6] = [
    case("silent-page", "web", Act::FallSilent, 5, "Offline"),
    case("silent-app", "linux", Act::FallSilent, 6, "Offline"),
    case("closed-page", "web", Act::Close, 2, "Offline"),
    case("hidden", "miniprogram", Act::Background("hide"), 4, "Offline"),
    case("left", "miniprogram", Act::Background("exit"), 3, "Offline"),
    // At once `PushOnline`; the test of its end is below.
    case("phone", "ios", Act::Close, 0, "PushOnline"),
];
/// T8, from the end of the connection on. Any hub may apply its end, and their wall clocks agree to a second.
const PUSH: Duration = Duration::from_secs(7);
const PUSH_EARLY_MS: u64 = 1000;

const fn case(
    name: &'static str,
    platform: &'static str,
    act: Act,
    secs: u64,
    state: &'static str,
) -> Case {
    Case { name, platform, act, window: Duration::from_secs(secs), state }
}

fn user_of(case: &Case, hub: usize) -> String {
    format!("{}-{hub}", case.name)
}

async fn three_hubs_apart(users: &[&str]) -> Hubs {
    let mut hubs = Hubs::none(RedisServer::start(), users, &WINDOWS).await;
    for secs in AHEAD_SECS {
        let wrapper = faketime(&[&format!("FAKETIME={secs:+}")]);
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        hubs.add_with(&wrapper, &[]).await;
    }
    hubs
}

/// Asserts that something was seen a window after it began, and no earlier.
#[track_caller]
fn assert_window(seen: u64, began: RangeInclusive<u64>, window: Duration, what: &str) {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).expect("a few seconds");
    let expected = began.start() + ms(window)..=began.end() + ms(window + LATE);
    let (after, until) = (seen.cast_signed(), began.end().cast_signed());
    assert!(expected.contains(&seen), "{what}: {} ms instead of {window:?}", after - until);
}

/// Runs one case on one hub, seen by the watcher of the next one.
async fn run(hubs: &Hubs, case: &Case, hub: usize) {
    let (user, watcher) = (user_of(case, hub), &hubs.watchers[(hub + 1) % hubs.hubs.len()]);
    let what = format!("{user}, a hub that is {} s ahead", AHEAD_SECS[hub]);
    let begun = now_millis();
    let (mut client, _) = enter(&hubs.hubs[hub], &user, case.platform, None).await;
    // A silence begins with the last message that the hub got.
    let mut began = begun..=now_millis();
    watcher.until_told(&user, "state", &json!("Online")).await;
    let acted = now_millis();
    match case.act {
        Act::FallSilent => (),
        Act::Close => {
            client.socket.close(None).await.expect("to close");
            began = acted..=now_millis();
        }
        Act::Background(reason) => {
            let ok = client.ok(json!({ "type": "background", "reason": reason })).await;
            assert!(ok["deadline"].is_u64(), "{ok}");
            began = acted..=now_millis();
        }
    }
    let seen = watcher.until_told(&user, "state", &json!(case.state)).await;
    assert_window(seen, began.clone(), case.window, &what);
    if case.state == "PushOnline" {
        let seen = watcher.until_told(&user, "state", &json!("Offline")).await;
        assert_window(seen + PUSH_EARLY_MS, began, PUSH, &format!("the push of {what}"));
    }
}

/// A hub dies: another one, whose clock shows another time, ends its session with its window (T11).
async fn kill(hubs: &mut Hubs, user: &str) {
    let (_client, _) = hubs.login(0, user, "web").await;
    let watcher = &hubs.watchers[1];
    watcher.until_told(user, "state", &json!("Online")).await;
    let mut killed = hubs.remove(0);
    let begins = now_millis();
    killed.signal(Signal::KILL);
    killed.wait();
    let seen = hubs.watchers[0].until_told(user, "state", &json!("Offline")).await;
    // From a sign of life that was at most a second old, and 5 s to notice the death.
    let window = Duration::from_secs(4);
    assert_window(seen, begins..=now_millis().min(begins + 2000), window, user);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_exact_on_hubs_whose_clocks_are_minutes_apart() {
    let users: Vec<_> = (0..AHEAD_SECS.len())
        .flat_map(|hub| CASES.iter().map(move |case| user_of(case, hub)))
        .chain(["killed".to_owned()])
        .collect();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let mut hubs = three_hubs_apart(&names).await;
    for (hub, secs) in hubs.hubs.iter().zip(AHEAD_SECS) {
        let (_, body) = hub.call("GET", "/v1/nodes", None).await;
        let is_this = |node: &&Value| node["address"] == json!(hub.address.to_string());
        let node = body["nodes"].as_array().and_then(|nodes| nodes.iter().find(is_this));
        let clock_ms = node.and_then(|node| node["clock_ms"].as_i64()).expect("a clock");
        assert!((clock_ms - secs * 1000).abs() < APART_MS, "{clock_ms} ms, {secs} s ahead");
    }
    let all = (0..AHEAD_SECS.len()).flat_map(|hub| CASES.iter().map(move |case| (case, hub)));
    let all = all.map(|(case, hub)| run(&hubs, case, hub));
    futures::future::join_all(all.collect::<Vec<_>>()).await;
    hubs.agree().await;
    kill(&mut hubs, "killed").await;
    hubs.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_user_returns_at_a_slow_hub_with_a_greater_version_and_only_with_a_new_token() {
    // The client reads only now and then.
    let patient = [("liveness.web_silence", "60s")];
    let mut hubs = Hubs::none(RedisServer::start(), &["ana"], &patient).await;
    hubs.add().await;
    let wrapper = faketime(&["FAKETIME=-3"]);
    hubs.add_with(&wrapper.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    let login = |issued_at: u64| {
        let token =
            json!({ "sub": "ana", "iat": issued_at, "exp": now_secs() + 3600, "watch": [] });
        json!({
            "type": "login", "token": token_with(token), "platform": "web", "device": "web",
        })
    };
    for (erases, enters) in [(0, 1), (1, 0)] {
        let old = now_secs();
        let mut ana = hubs.hubs[erases].connect().await;
        ana.ok(login(old)).await;
        for watcher in &hubs.watchers {
            watcher.until_told("ana", "state", &json!("Online")).await;
        }
        until("the token to be of an earlier second", async || now_secs() > old + 1).await;
        let (status, erased) = hubs.hubs[erases].call("DELETE", "/v1/users/ana", None).await;
        assert_eq!((status, &erased["erased"]), (200, &json!(true)), "{erased}");
        assert_eq!(ana.until_closed().await.1, Some(4501));
        for watcher in &hubs.watchers {
            watcher.until_told("ana", "state", &json!("Offline")).await;
        }
        let told = hubs.watchers.iter().filter_map(|it| it.last("ana"));
        let last = told.filter_map(|(_, status)| status["version"].as_u64()).max();

        for hub in &hubs.hubs {
            let mut refused = hub.connect().await;
            assert_eq!(refused.error(login(old)).await, "token_revoked");
        }
        let mut entered = json!(null);
        until("a new token to be accepted", async || {
            let mut client = hubs.hubs[enters].connect().await;
            entered = client.request(login(now_secs())).await["ok"].clone();
            entered.is_object()
        })
        .await;
        let version = entered["status"]["version"].as_u64();
        assert!(version > last, "{version:?} after {last:?}, erased by hub {erases}");
        // The log in of a client that has gone already.
        hubs.hubs[enters].until_state("ana", "Offline").await;
        hubs.agree().await;
    }
}
