//! What a connection may cost: work, time for a message, bytes that it does not read, bad logins.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{Lab, SECOND};
use crate::support::{Client, Heard};

const MILLI: Duration = Duration::from_millis(1);

/// A request of this type about 200 users.
fn of_200(kind: &str) -> Value {
    from_user(kind, 0)
}

/// A request of this type about 200 users, from this one on.
fn from_user(kind: &str, first: usize) -> Value {
    let users: Vec<_> = (first..first + 200).map(|n| format!("user-{n}")).collect();
    json!({ "type": kind, "users": users })
}

/// A question about 200 users.
fn query_of_200() -> Value {
    of_200("query")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_owes_work_is_not_read_and_others_are() {
    // Requests to prepare, and then those that together cost more than a full bucket.
    let many = [0, 200, 400].map(|first| from_user("subscribe", first)).to_vec();
    let cases = [
        (Vec::new(), vec![of_200("query"); 2]),
        (Vec::new(), vec![of_200("subscribe"); 2]),
        (Vec::new(), vec![of_200("unsubscribe"); 3]),
        (many, vec![json!({ "type": "unsubscribe", "all": true })]),
    ];
    for (before, requests) in cases {
        let lab = Lab::with(|config| {
            config.limits.work_per_second = 100;
            config.limits.work_burst = 400;
        });
        let case = format!("{} of {}", requests[0]["type"], requests.len());
        let (mut greedy, _) = lab.login("ana", "web").await;
        let (mut modest, _) = lab.login("bo", "web").await;
        for request in before {
            greedy.ok(request).await;
        }
        sleep(10 * SECOND).await;
        for request in requests {
            greedy.ok(request).await;
        }
        let begun = lab.now();
        modest.ok(json!({ "type": "ping" })).await;
        assert_eq!(lab.now(), begun, "{case}: another connection is answered at once");
        greedy.ok(json!({ "type": "ping" })).await;
        let waited = lab.now() - begun;
        let owed = SECOND..6 * SECOND;
        assert!(owed.contains(&waited), "{case}: it waits until it owes nothing: {waited:?}");
        sleep(10 * SECOND).await;
        let begun = lab.now();
        greedy.ok(json!({ "type": "ping" })).await;
        assert_eq!(lab.now(), begun, "{case}: the bucket is full again");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_and_frames_are_charged_before_they_are_parsed() {
    let lab = Lab::with(|config| {
        config.limits.work_per_second = 100;
        config.limits.work_burst = 150;
    });
    for what in ["large and malformed", "empty fragments"] {
        let (mut client, _) = lab.login("ana", "web").await;
        let begun = lab.now();
        if what == "empty fragments" {
            let socket = client.socket.get_mut();
            socket.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.expect("to send");
            for _ in 0..500 {
                socket.write_all(&[0x00, 0x80, 0, 0, 0, 0]).await.expect("to send");
            }
            socket.write_all(&[0x80, 0x82, 0, 0, 0, 0, b'[', b']']).await.expect("to send");
        } else {
            client.socket.send(Message::text("x".repeat(60_000))).await.expect("to send");
        }
        assert_eq!(client.message().await["type"], "error", "{what}");
        client.ok(json!({ "type": "ping" })).await;
        assert!(lab.now() - begun > SECOND / 2, "{what}: {:?}", lab.now() - begun);
    }
}

/// A ping and a pong, as frames of the WebSocket.
fn control_frames() -> [Message; 2] {
    [Message::Ping(Vec::new().into()), Message::Pong(Vec::new().into())]
}

#[tokio::test(start_paused = true)]
async fn control_frames_are_charged() {
    for frame in control_frames() {
        let lab = Lab::with(|config| {
            config.limits.work_per_second = 100;
            config.limits.work_burst = 100;
        });
        let (mut client, _) = lab.login("ana", "web").await;
        let begun = lab.now();
        // Fewer than the burst of messages.
        for _ in 0..190 {
            client.socket.send(frame.clone()).await.expect("to send");
        }
        client.ok(json!({ "type": "ping" })).await;
        let waited = lab.now() - begun;
        assert!((SECOND / 2..2 * SECOND).contains(&waited), "{frame:?}: {waited:?}");
    }
}

/// Sends `ping` messages at a rate for a while; returns the close code if the hub closes the connection.
async fn ping_for(
    client: &mut Client<DuplexStream>,
    per_second: u32,
    time: Duration,
) -> Option<u16> {
    let ping = Message::text(json!({ "type": "ping", "id": 1 }).to_string());
    send_for(client, &ping, per_second, time).await
}

/// Sends a frame at a rate for a while; returns the close code if the hub closes the connection.
async fn send_for(
    client: &mut Client<DuplexStream>,
    frame: &Message,
    per_second: u32,
    time: Duration,
) -> Option<u16> {
    let pause = SECOND / per_second;
    for _ in 0..time.as_millis() / pause.as_millis() {
        client.socket.send(frame.clone()).await.expect("to send");
        loop {
            match timeout(MILLI, client.hear()).await {
                Ok(Heard::Closed(code)) => return Some(code),
                Ok(Heard::Gone) => return None,
                Ok(Heard::Message(_)) => (),
                Err(_) => break,
            }
        }
        sleep(pause - MILLI).await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_control_frames_ends_a_connection() {
    for frame in control_frames() {
        let lab = Lab::with(|config| {
            config.limits.messages_per_second = 10;
            config.limits.message_burst = 10;
        });
        let (mut client, _) = lab.login("ana", "web").await;
        let begun = lab.now();
        let end = send_for(&mut client, &frame, 50, 12 * SECOND).await;
        assert_eq!(end, Some(4004), "{frame:?}");
        let took = lab.now() - begun;
        assert!(took >= 10 * SECOND, "{frame:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_does_not_forgive_a_long_excess() {
    let lab = Lab::with(|config| {
        config.limits.messages_per_second = 10;
        config.limits.message_burst = 10;
    });
    let (mut client, _) = lab.login("ana", "web").await;
    assert_eq!(ping_for(&mut client, 50, 17 * SECOND / 2).await, None);
    sleep(13 * SECOND / 10).await;
    assert_eq!(ping_for(&mut client, 50, 6 * SECOND).await, Some(4004));

    let (mut client, _) = lab.login("ana", "web").await;
    for _ in 0..5 {
        assert_eq!(ping_for(&mut client, 50, 6 * SECOND).await, None);
        // As long a pause makes up for it.
        sleep(7 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_messages_does_not_hold_up_the_login_timeout() {
    let lab = Lab::with(|config| config.login.timeout = 3 * SECOND);
    let mut client = lab.connect().await;
    let begun = lab.now();
    assert_eq!(ping_for(&mut client, 200, 8 * SECOND).await, Some(4000));
    let took = lab.now() - begun;
    assert!((3 * SECOND..4 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_never_complete_ends_a_connection_that_sends_control_frames() {
    let lab = Lab::new();
    let (mut client, _) = lab.login("ana", "web").await;
    let begun = lab.now();
    let socket = client.socket.get_mut();
    // A text frame without FIN; then a ping each second.
    socket.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.expect("to send");
    let closed = loop {
        client.socket.send(Message::Ping(Vec::new().into())).await.ok();
        match timeout(SECOND, client.hear()).await {
            Ok(Heard::Closed(code)) => break code,
            Ok(other) => panic!("{other:?}"),
            Err(_) => (),
        }
    };
    let took = lab.now() - begun;
    assert_eq!(closed, 4504);
    assert!((10 * SECOND..13 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_hold_the_most_are_closed_when_all_hold_too_much() {
    let lab = Lab::new();
    lab.hub.set_held_bytes_max(162_000);
    let hub = Arc::clone(&lab.hub);
    tokio::spawn(async move { hub.cut_greediest().await });
    let login = async |user: &str| {
        let mut client = lab.connect_through(1024).await;
        client.ok(lab.hello(user, "web")).await;
        client
    };
    let mut modest = login("ana").await;
    let mut greedy = [login("bo").await, login("cy").await];
    let mut ask = query_of_200();
    ask["id"] = json!(7);
    modest.send(&ask).await;
    for _ in 0..6 {
        for client in &mut greedy {
            // It may be closed already.
            client.socket.send(Message::text(ask.to_string())).await.ok();
            sleep(MILLI).await;
        }
    }
    assert!(lab.hub.held_bytes() < 162_000, "{}", lab.hub.held_bytes());
    let mut ends = Vec::new();
    for client in &mut greedy {
        let end = timeout(SECOND, client.until_closed()).await;
        ends.push(end.ok().and_then(|(_, code)| code));
    }
    assert!(ends.contains(&Some(4005)), "{ends:?}");
    assert_eq!(modest.message().await["id"], 7, "the modest one is not touched");
    assert!(lab.hub.metrics().render(&Default::default()).contains("greedy_connections_closed"));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_given_back_when_a_connection_ends() {
    let lab = Lab::new();
    let mut client = lab.connect_through(1024).await;
    client.ok(lab.hello("ana", "web")).await;
    let mut ask = query_of_200();
    ask["id"] = json!(7);
    client.send(&ask).await;
    sleep(SECOND).await;
    assert!(lab.hub.held_bytes() > 1000, "the answer waits");
    drop(client);
    sleep(10 * SECOND).await;
    assert_eq!(lab.hub.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn logins_wait_after_many_bad_ones_of_their_address() {
    let lab = Lab::with(|config| {
        config.limits.bad_logins_per_minute = 2;
        config.login.timeout = 45 * SECOND;
    });
    let [mallory, other] =
        ["203.0.113.1", "203.0.113.2"].map(|text| text.parse().expect("an address"));
    let bad = json!({ "type": "login", "token": "a.b.c", "platform": "web", "device": "d" });
    for _ in 0..2 {
        let mut client = lab.connect_from(mallory).await;
        assert_eq!(client.error(bad.clone()).await, "invalid_token");
    }
    let begun = lab.now();
    let mut neighbour = lab.connect_from(mallory).await;
    neighbour.ok(lab.hello("ana", "web")).await;
    let waited = lab.now() - begun;
    assert!((20 * SECOND..=30 * SECOND).contains(&waited), "{waited:?}");
    let begun = lab.now();
    let mut stranger = lab.connect_from(other).await;
    stranger.ok(lab.hello("bo", "web")).await;
    assert_eq!(lab.now(), begun, "another address does not wait");
}
