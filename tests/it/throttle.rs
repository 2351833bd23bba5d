//! Repeated log lines: the first is written, the others are counted, and the next has the count.

use std::net::SocketAddr;
use std::time::Duration;

use presence_hub::http::TrustedProxies;
use presence_hub::hub::Unavailable;
use presence_hub::store::StoreError;
use presence_hub::throttle::{KeyedThrottle, LineLimits, Throttle};
use serde_json::json;
use tokio::time::{advance, pause, resume, sleep};

use crate::lab::{EPOCH, Lab, Logged, SECOND};
use crate::support::http;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const LINES: LineLimits = LineLimits { of_each: 2, of_all: 5, within: MINUTE };

#[test]
fn second_line_within_a_minute_is_suppressed_and_counted_in_the_next() {
    let mut throttle = Throttle::default();
    assert_eq!(throttle.admit(EPOCH), Some(0));
    assert_eq!(throttle.admit(EPOCH), None);
    assert_eq!(throttle.admit(EPOCH + MINUTE - SECOND / 1000), None);
    assert_eq!(throttle.suppressed(), 2);
    assert_eq!(throttle.admit(EPOCH + MINUTE), Some(2));
    assert_eq!(throttle.suppressed(), 0);
    assert_eq!(throttle.admit(EPOCH + MINUTE), None, "each written line starts a new minute");
    assert_eq!(throttle.admit(EPOCH + 2 * MINUTE), Some(1));
}

#[test]
fn lines_are_limited_per_key_and_in_total() {
    let throttle = KeyedThrottle::new(LINES);
    let admit = |key: &'static str, after: Duration| throttle.admit(key, EPOCH + after);
    assert_eq!([(); 3].map(|()| admit("a", SECOND)), [Some(0), Some(0), None]);
    assert_eq!(
        admit("b", 2 * SECOND),
        Some(1),
        "each key has its own lines; the count is that of all keys"
    );
    assert_eq!([(); 2].map(|()| admit("c", 3 * SECOND)), [Some(0); 2]);
    assert_eq!(
        [admit("d", 4 * SECOND), admit("b", 4 * SECOND)],
        [None; 2],
        "the total limit is five"
    );
    // The minute of the first lines has passed, so new lines are admitted.
    let later = SECOND + MINUTE;
    assert_eq!([admit("e", later), admit("e", later), admit("f", later)], [Some(2), Some(0), None]);
    assert_eq!(admit("c", 3 * SECOND + MINUTE), Some(1));
}

#[test]
fn memory_is_bounded_for_a_million_keys() {
    let throttle = KeyedThrottle::new(LineLimits::EACH_ONCE);
    let admitted = (0..1_000_000).filter(|n| throttle.admit(*n, EPOCH).is_some()).count();
    assert_eq!(admitted, LineLimits::EACH_ONCE.of_all as usize);
    let later = throttle.admit(0, EPOCH + MINUTE);
    assert_eq!(later, Some(1_000_000 - admitted as u64));
}

#[tokio::test(start_paused = true)]
async fn store_failures_are_logged_once_a_minute_per_kind() {
    let logged = Logged::here();
    let lab = Lab::new();
    let error = Unavailable::from(StoreError::Unavailable { cause: "a test wants it so".into() });
    let fail = |what| lab.hub.store_failed(what, &error, None);
    for _ in 0..3 {
        fail("cannot do this");
        fail("cannot do that");
    }
    for what in ["cannot do this", "cannot do that"] {
        let [line] = &logged.lines(what)[..] else { panic!("{:?}", logged.lines(what)) };
        assert!(line.contains("WARN") && line.contains("suppressed=0"), "{line}");
    }
    sleep(MINUTE).await;
    fail("cannot do this");
    let lines = logged.lines("cannot do this");
    assert!(lines.len() == 2 && lines[1].contains("suppressed=2"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_logins_are_logged_twenty_times_a_minute_per_address() {
    let logged = Logged::here();
    let lab = Lab::new();
    let attempt = async || {
        let mut client = lab.connect().await;
        let login =
            json!({ "type": "login", "token": "none", "platform": "web", "device": "page" });
        assert_eq!(client.error(login).await, "invalid_token");
    };
    for _ in 0..27 {
        attempt().await;
    }
    let lines = logged.lines("login refused");
    assert_eq!(lines.len(), 20);
    assert!(!lines.iter().any(|line| line.contains("suppressed")), "{lines:?}");
    sleep(MINUTE).await;
    attempt().await;
    let lines = logged.lines("login refused");
    assert!(lines.len() == 21 && lines[20].contains("suppressed=7"), "{:?}", lines.last());
}

/// Advances the clock in a test that uses the network.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

/// Sends a WebSocket handshake with headers; returns the status.
async fn handshake(hub: SocketAddr, headers: &[(&'static str, &str)]) -> u16 {
    let mut request = http(hub, "GET", "/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn refused_origins_are_logged_once_a_minute_each_and_twenty_in_total() {
    let logged = Logged::here();
    let lab = Lab::new();
    let (hub, _app) = lab.serve_http(|_| ());
    for _ in 0..3 {
        assert_eq!(handshake(hub, &[("origin", "https://one.example")]).await, 403);
    }
    let lines = logged.lines("origin not allowed");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("WARN") && line.contains("suppressed=0"), "{line}");
    pass(MINUTE).await;
    assert_eq!(handshake(hub, &[("origin", "https://one.example")]).await, 403);
    let lines = logged.lines("origin not allowed");
    assert!(lines.len() == 2 && lines[1].contains("suppressed=2"), "{lines:?}");
    for n in 0..40 {
        let origin = format!("https://{n}.example");
        assert_eq!(handshake(hub, &[("origin", &origin)]).await, 403);
    }
    assert_eq!(logged.lines("origin not allowed").len(), 21);
}

#[tokio::test]
async fn unlisted_proxy_is_logged_once_an_hour_with_the_suppressed_count() {
    let logged = Logged::here();
    let lab = Lab::new();
    let (hub, _app) = lab.serve_http(|settings| {
        settings.trusted_proxies = TrustedProxies::parse(&[]).expect("none");
    });
    let forwarded = async || {
        let request = http(hub, "GET", "/health").header("x-forwarded-for", "203.0.113.7");
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    };
    for time in [Duration::ZERO, MINUTE, MINUTE, HOUR] {
        pass(time).await;
        forwarded().await;
    }
    let lines = logged.lines("is not listed in server.trusted_proxies");
    assert!(lines.len() == 2 && lines[1].contains("suppressed=2"), "{lines:?}");
}

#[tokio::test]
async fn wrong_keys_are_logged_five_times_a_minute_per_address() {
    let logged = Logged::here();
    let lab = Lab::new();
    let (hub, _app) = lab.serve_http(|_| ());
    let wrong = async || {
        let request = http(hub, "GET", "/v1/stats").bearer_auth("a-wrong-key");
        assert_eq!(request.send().await.expect("an answer").status(), 401);
    };
    for _ in 0..9 {
        wrong().await;
    }
    assert_eq!(logged.lines("wrong key").len(), 5);
    pass(MINUTE).await;
    wrong().await;
    let lines = logged.lines("wrong key");
    assert!(lines.len() == 6 && lines[5].contains("suppressed=4"), "{lines:?}");
}
