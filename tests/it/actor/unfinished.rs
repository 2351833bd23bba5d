//! Messages that do not end: what they hold, and who is closed for it.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::Cause;
use presence_hub::throttle::Throttle;
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

use crate::lab::{Lab, SECOND};
use crate::support::Client;

/// Sends this many bytes of a message that has one more.
async fn begin_message(client: &mut Client<DuplexStream>, bytes: u16) {
    let [high, low] = (bytes + 1).to_be_bytes();
    let mut frame = vec![0x81, 0x80 | 126, high, low, 0, 0, 0, 0];
    frame.resize(frame.len() + usize::from(bytes), b' ');
    client.socket.get_mut().write_all(&frame).await.expect("to send");
    sleep(Duration::from_millis(1)).await;
}

/// The close code that a client has got by now.
async fn closed_with(client: &mut Client<DuplexStream>) -> Option<u16> {
    let end = timeout(SECOND, client.until_closed()).await;
    end.ok().and_then(|(_, code)| code)
}

#[tokio::test(start_paused = true)]
async fn a_message_of_empty_fragments_holds_nothing_and_ends_by_silence() {
    // A client that owes work is not read for most of the time; what was read waits.
    for (work_per_second, held_max) in [(1000, 100), (40, 20_000)] {
        end_by_silence(work_per_second, held_max).await;
    }
}

async fn end_by_silence(work_per_second: u32, held_max: usize) {
    let lab = Lab::with(|config| {
        config.limits.work_per_second = work_per_second;
        config.limits.work_burst = work_per_second;
    });
    let (mut client, _) = lab.login("ana", "web").await;
    client.socket.get_mut().write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.expect("to send");
    for _ in 0..70 {
        for _ in 0..50 {
            client.socket.get_mut().write_all(&[0x00, 0x80, 0, 0, 0, 0]).await.ok();
        }
        assert!(lab.hub.held_bytes() < held_max, "{} bytes", lab.hub.held_bytes());
        sleep(SECOND).await;
    }
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Silence]);
    drop(client);
    sleep(10 * SECOND).await;
    assert_eq!(lab.hub.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_as_many_holders_of_unfinished_messages_are_closed_as_is_necessary() {
    let lab = Lab::new();
    lab.hub.set_held_bytes_max(150_000);
    let hub = Arc::clone(&lab.hub);
    tokio::spawn(async move { hub.cut_greediest().await });
    let (mut modest, _) = lab.login("ana", "web").await;
    begin_message(&mut modest, 100).await;
    let mut greedy = Vec::new();
    for user in ["bo", "cy", "di"] {
        greedy.push(lab.login(user, "web").await.0);
    }
    for client in &mut greedy {
        begin_message(client, 60_000).await;
    }
    assert!(lab.hub.held_bytes() < 113_000, "{}", lab.hub.held_bytes());
    let mut closed = 0;
    for client in &mut greedy {
        closed += usize::from(closed_with(client).await == Some(4005));
    }
    assert_eq!(closed, 2, "three quarters of what all may hold are left");
    modest.socket.get_mut().write_all(b" ").await.expect("to send");
    assert_eq!(modest.message().await["type"], "error", "the modest one is not touched");
}

#[tokio::test(start_paused = true)]
async fn visitors_that_hold_much_are_closed_before_logins_are_refused_for_long() {
    let lab = Lab::new();
    lab.hub.set_held_bytes_max(150_000);
    let (mut user, _) = lab.login("ana", "web").await;
    begin_message(&mut user, 20_000).await;
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = lab.connect().await;
        begin_message(&mut visitor, 20_000).await;
        visitors.push(visitor);
    }
    assert!(lab.hub.is_full(), "more than half is in use");
    lab.hub.cut_visitors(&mut Throttle::default());
    assert!(!lab.hub.is_full());
    assert_eq!(closed_with(&mut visitors[0]).await, Some(4005));
    user.socket.get_mut().write_all(b" ").await.expect("to send");
    assert_eq!(user.message().await["type"], "error");
    user.ok(json!({ "type": "ping" })).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_with_one_message_after_the_other_is_not_late_with_any() {
    let lab = Lab::new();
    let (mut client, _) = lab.login("ana", "web").await;
    let message = br#"{"type":"ping","id":1}"#;
    let mut frame = vec![0x81, 0x80 | 22, 0, 0, 0, 0];
    frame.extend_from_slice(message);
    let (begin, end) = frame.split_at(10);
    client.socket.get_mut().write_all(begin).await.expect("to send");
    for _ in 0..15 {
        sleep(SECOND).await;
        // The next message begins together with the end of this one; a ping frame cannot come between.
        client.socket.get_mut().write_all(&[end, begin].concat()).await.expect("to send");
        assert!(client.message().await["ok"]["now"].is_number());
    }
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    client.socket.get_mut().write_all(&[end, &ping, begin].concat()).await.expect("to send");
    assert!(client.message().await["ok"]["now"].is_number());
    assert_eq!(closed_with(&mut client).await, None);
}
