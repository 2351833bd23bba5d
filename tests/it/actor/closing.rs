//! T1 to T3, T8, L7, V4: closed connections, phones without a connection, slow consumers.

use std::net::IpAddr;
use std::time::Duration;

use futures::SinkExt;
use presence_hub::presence::{Cause, Platform, State};
use serde_json::json;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::{advance, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{AT_ONCE, EPOCH, Lab, Listener, SECOND, assert_kept};
use crate::support::Client;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The way in which a client ends its connection.
#[derive(Debug, Clone, Copy)]
enum Close {
    Frame,
    Fin,
}

impl Close {
    async fn end(self, mut client: Client<DuplexStream>) {
        match self {
            Self::Frame => client.socket.close(None).await.expect("to close"),
            Self::Fin => drop(client),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t3_closed_connection_is_visible_at_once_and_on_the_web_after_the_grace() {
    for grace in [SECOND, Duration::ZERO, 3 * SECOND] {
        for (platform, close) in
            Platform::ALL.into_iter().flat_map(|p| [(p, Close::Frame), (p, Close::Fin)])
        {
            let case = format!("{platform}, {close:?}, {grace:?}");
            let lab = Lab::with(|config| config.liveness.web_close_grace = grace);
            let mut watcher = lab.watcher(&["ana"]).await;
            let (client, _) = lab.login("ana", platform.name()).await;
            watcher.state("ana", "Online").await;
            let from = lab.now();
            close.end(client).await;
            let left = if platform.is_mobile() { "PushOnline" } else { "Offline" };
            let (at, _) = watcher.state("ana", left).await;
            if platform == Platform::Web && !grace.is_zero() {
                assert_kept(grace, at - from, &case);
            } else {
                assert!(at - from <= AT_ONCE, "{case}: {:?}", at - from);
            }
            assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close], "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t3_reload_within_the_grace_is_invisible() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, mut ok) = lab.login("ana", "web").await;
    let (_, online) = watcher.state("ana", "Online").await;
    for _ in 0..20 {
        drop(client);
        watcher.hears_nothing_for(Duration::from_millis(990)).await;
        let again;
        (client, again) = lab.resume("ana", "web", &ok).await;
        assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
        ok = again;
    }
    watcher.hears_nothing_for(10 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login]);
    assert_eq!(json!(lab.status("ana").await.version), online["version"]);
}

#[tokio::test(start_paused = true)]
async fn t2_logout_goes_offline_on_every_platform() {
    for platform in Platform::ALL {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (mut client, _) = lab.login("ana", platform.name()).await;
        watcher.state("ana", "Online").await;
        let from = lab.now();
        assert_eq!(client.ok(json!({ "type": "logout" })).await, json!({}));
        let (at, _) = watcher.state("ana", "Offline").await;
        assert!(at - from <= AT_ONCE, "{platform}");
        assert_eq!(client.until_closed().await.1, Some(1000), "{platform}");
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Logout], "{platform}");
    }
}

#[tokio::test(start_paused = true)]
async fn t8_phone_without_a_connection_stays_push_online_for_seven_days() {
    let lab = Lab::new();
    let (client, _) = lab.login("ana", "android").await;
    drop(client);
    sleep(SECOND).await;
    assert_eq!(lab.state("ana").await, State::PushOnline);
    let since = lab.status("ana").await.since.expect("a change of state");
    // Skip the week at once, except its last minute. T8 follows the wall clock, so this stall does not
    // extend it.
    advance(7 * DAY - 60 * SECOND).await;
    let mut watcher = lab.watcher(&["ana"]).await;
    let (at, status) = watcher.state("ana", "Offline").await;
    assert_kept(7 * DAY, at - since, "push");
    assert_eq!(status["last_seen"], json!(EPOCH));
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close, Cause::Expired]);
}

#[tokio::test(start_paused = true)]
async fn t8_login_cancels_the_push_online_deadline() {
    let lab = Lab::new();
    let (client, ok) = lab.login("ana", "ios").await;
    drop(client);
    sleep(SECOND).await;
    advance(7 * DAY - 60 * SECOND).await;
    let (client, again) = lab.resume("ana", "ios", &ok).await;
    assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
    let _ana = lab.listen(client);
    sleep(600 * SECOND).await;
    assert_eq!(lab.state("ana").await, State::Online);
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close, Cause::Resume]);
}

#[tokio::test(start_paused = true)]
async fn l7_resume_moves_a_session_and_closes_its_old_connection() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut old, ok) = lab.login("ana", "ipad").await;
    watcher.state("ana", "Online").await;
    let (_new, again) = lab.resume("ana", "ipad", &ok).await;
    assert_eq!(again["resumed"], json!(true));
    assert_eq!(old.until_closed().await, (Vec::new(), Some(4007)));
    // The end of the old connection does not end the session.
    watcher.hears_nothing_for(60 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn l7_resume_from_another_address_is_invisible_while_the_old_socket_is_half_open() {
    let [home, train] =
        ["203.0.113.1", "203.0.113.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
    let address = async |lab: &Lab| lab.record("ana").await.terminals[0].address;
    for platform in ["web", "ios", "linux"] {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let mut old = lab.connect_from(home).await;
        let ok = old.ok(lab.hello("ana", platform)).await;
        watcher.state("ana", "Online").await;
        assert_eq!(address(&lab).await, Some(home), "{platform}");
        // Nothing comes from the old address any more, and the hub has not noticed it yet.
        watcher.hears_nothing_for(30 * SECOND).await;

        let mut new = lab.connect_from(train).await;
        let mut hello = lab.hello("ana", platform);
        hello["resume"] = ok["session"].clone();
        let again = new.ok(hello).await;
        assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
        assert_eq!(address(&lab).await, Some(train), "{platform}");
        assert_eq!(old.until_closed().await, (Vec::new(), Some(4007)), "{platform}");
        drop(old);
        let _new = lab.listen(new);
        watcher.hears_nothing_for(100 * SECOND).await;
        assert_eq!(lab.causes("ana").await, [Cause::Login], "{platform}");
    }
}

#[tokio::test(start_paused = true)]
async fn kicked_client_that_reads_nothing_delays_nobody_and_is_dropped() {
    let lab = Lab::new();
    let (near, mut serving) = lab.connect_raw(1024, None);
    let mut loser = Lab::over(near).await;
    loser.ok(lab.hello("ana", "ios")).await;
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    loser.send(&json!({ "type": "query", "id": 9, "users": users })).await;
    sleep(AT_ONCE).await;
    assert!(lab.hub.held_bytes() > 0, "its socket is full");

    let from = lab.now();
    let (_winner, ok) = lab.login("ana", "ipad").await;
    assert_eq!(lab.now(), from, "the other device does not wait");
    assert_eq!(ok["kicked"][0]["platform"], json!("ios"), "{ok}");
    timeout(3 * SECOND, &mut serving).await.expect("it to be dropped").expect("no panic");
    let took = lab.now() - from;
    assert!(took >= 2 * SECOND, "it may still read its last messages: {took:?}");
    assert_eq!(lab.hub.metrics().connections.get(), 1);
    assert_eq!(lab.hub.held_bytes(), 0);
}

/// A watcher on a socket of 1 KiB, which twenty statuses overfill.
async fn narrow_watcher(lab: &Lab) -> (Client<DuplexStream>, Listener, Vec<Client<DuplexStream>>) {
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    let mut narrow = lab.connect_through(1024).await;
    narrow.ok(lab.hello("narrow", "linux")).await;
    let mut observer = lab.watcher(&["narrow"]).await;
    narrow.send(&json!({ "type": "subscribe", "id": 9, "users": users })).await;
    assert_eq!(narrow.message().await["id"], json!(9));
    observer.hears_nothing_for(31 * SECOND).await;
    let mut clients = Vec::new();
    for user in &users {
        clients.push(lab.login(user, "linux").await.0);
    }
    (narrow, observer, clients)
}

#[tokio::test(start_paused = true)]
async fn v4_client_that_reads_nothing_for_thirty_seconds_is_closed() {
    let lab = Lab::new();
    let (mut narrow, mut observer, _clients) = narrow_watcher(&lab).await;
    let from = lab.now();
    // It is heard meanwhile.
    for _ in 0..5 {
        sleep(5 * SECOND).await;
        narrow.socket.send(Message::text(r#"{"type":"ping","id":1}"#)).await.expect("to send");
    }
    let (at, _) = observer.state("narrow", "Offline").await;
    assert_kept(30 * SECOND, at - from, "the slow consumer");
    let log = lab.log("narrow").await;
    let end = log.last().expect("an end");
    assert_eq!((end.cause, end.evidence.close_code), (Cause::Close, Some(4005)));
    assert_eq!(
        narrow.until_closed().await.1,
        Some(4005),
        "it gets the Close if it reads after all"
    );
}

#[tokio::test(start_paused = true)]
async fn v4_client_that_reads_slowly_is_not_closed() {
    let lab = Lab::new();
    let (mut narrow, mut observer, _clients) = narrow_watcher(&lab).await;
    for _ in 0..10 {
        observer.hears_nothing_for(25 * SECOND).await;
        let mut byte = [0];
        narrow.socket.get_mut().read_exact(&mut byte).await.expect("to read");
    }
    // The window restarts at each read, so it is closed 30 s after the last one.
    let from = lab.now();
    let (at, _) = observer.state("narrow", "Offline").await;
    assert_kept(30 * SECOND, at - from, "since it last read");
    assert_eq!(lab.causes("narrow").await, [Cause::Login, Cause::Close]);
}

#[tokio::test(start_paused = true)]
async fn v4_client_with_nothing_to_read_is_not_closed() {
    let lab = Lab::new();
    let mut narrow = lab.connect_through(1024).await;
    narrow.ok(lab.hello("narrow", "linux")).await;
    let mut observer = lab.watcher(&["narrow"]).await;
    observer.hears_nothing_for(390 * SECOND).await;
}
