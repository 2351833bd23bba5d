//! WebSocket framing: invalid frames, fragments, control frames and broken connections.

use serde_json::json;

use super::raw::{CLOSE, PING, PONG, Raw, TEXT, frame, head};
use crate::support::{Server, token};

/// The message size limit in these tests.
const LIMIT: usize = 2048;

fn small() -> Server {
    Server::start(&[("server.max_message_bytes", &LIMIT.to_string())])
}

/// Logs in on a native platform, which has no grace on close.
async fn logged_in(server: &Server, user: &str) -> Raw {
    let mut raw = Raw::upgrade(server).await;
    raw.say(&login(user)).await;
    assert_eq!(raw.message().await["ok"]["user"], user);
    raw
}

fn login(user: &str) -> serde_json::Value {
    let token = token(user);
    json!({ "type": "login", "id": 1, "token": token, "platform": "linux", "device": "d" })
}

#[tokio::test]
async fn framing_errors_have_their_close_codes() {
    let server = small();
    let close = |payload: &[u8]| frame(CLOSE, payload);
    let rows: Vec<(&str, Vec<u8>, u16)> = vec![
        ("an unmasked frame", vec![TEXT, 2, b'h', b'i'], 1002),
        ("RSV1", frame(TEXT | 0x40, b"{}"), 1002),
        ("RSV2", frame(TEXT | 0x20, b"{}"), 1002),
        ("RSV3", frame(TEXT | 0x10, b"{}"), 1002),
        ("opcode 3", frame(0x83, b"{}"), 1002),
        ("opcode 11", frame(0x8b, b"{}"), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a stray continuation", frame(0x80, b"x"), 1002),
        ("text within a fragmented text", [frame(0x01, b"{"), frame(TEXT, b"}")].concat(), 1002),
        ("a close of one byte", close(&[3]), 1002),
        ("close code 999", close(&999_u16.to_be_bytes()), 1002),
        ("close code 1005", close(&1005_u16.to_be_bytes()), 1002),
        ("two bytes that are not UTF-8", frame(TEXT, &[0xc3, 0x28]), 1007),
        ("a surrogate", frame(TEXT, &[0xed, 0xa0, 0x80]), 1007),
        ("an overlong slash", frame(TEXT, &[0xc0, 0xaf]), 1007),
        ("half a character", frame(TEXT, &[b'"', 0xc3]), 1007),
        ("a large message", frame(TEXT, &[b'x'; LIMIT + 1]), 1009),
        ("a large binary one", frame(0x82, &[0; LIMIT + 1]), 1009),
        ("a length of 1 TiB", head(TEXT, 1 << 40), 1009),
        ("a length of 2^63 - 1", head(TEXT, (1 << 63) - 1), 1009),
        ("large fragments", [frame(0x01, &[b'x'; LIMIT]), frame(0x00, b"xx")].concat(), 1009),
    ];
    for (name, bytes, code) in rows {
        let user = name.replace(' ', "-");
        let mut raw = logged_in(&server, &user).await;
        raw.send(&bytes).await;
        assert_eq!(raw.close_code().await, code, "{name}");
        let ended = server.until_logged(&["session ended", &user]).await;
        assert!(ended.contains(&format!("close={code}")), "{ended}");
        assert_eq!(server.until_state(&user, "Offline").await["platforms"], json!([]), "{name}");
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn framing_is_checked_before_login() {
    let server = small();
    let mut raw = Raw::upgrade(&server).await;
    raw.send(&head(TEXT, 1 << 40)).await;
    assert_eq!(raw.close_code().await, 1009);
}

#[tokio::test]
async fn fragmented_messages_up_to_the_limit_are_accepted() {
    let server = small();
    let mut raw = Raw::upgrade(&server).await;
    let mut login = login("ann");
    login["custom"] = json!("grün");
    let text = login.to_string();
    let cut = text.find('ü').expect("a character of two bytes") + 1;
    let (first, last) = text.as_bytes().split_at(cut);
    let pieces = [frame(0x01, first), frame(PING, b"now"), frame(0x00, b""), frame(0x80, last)];
    for byte in pieces.concat().chunks(7) {
        raw.send(byte).await;
    }
    assert_eq!(raw.frame().await, Some((PONG, b"now".to_vec())));
    assert_eq!(raw.message().await["ok"]["status"]["custom"], "grün");

    let mut ping = json!({ "type": "ping", "id": 2 }).to_string();
    ping.push_str(&" ".repeat(LIMIT - ping.len()));
    raw.send(&frame(TEXT, ping.as_bytes())).await;
    assert_eq!(raw.message().await["id"], 2);
}

#[tokio::test]
async fn fragments_of_different_connections_do_not_mix() {
    let server = small();
    let (mut ann, mut bob) = (logged_in(&server, "ann").await, logged_in(&server, "bob").await);
    let text = json!({ "type": "set", "id": 2, "custom": "in pieces" }).to_string();
    let (first, last) = text.as_bytes().split_at(text.len() / 2);
    ann.send(&[frame(0x01, first), frame(PING, b"read")].concat()).await;
    assert_eq!(ann.frame().await, Some((PONG, b"read".to_vec())));
    for id in 2..20 {
        bob.say(&json!({ "type": "ping", "id": id })).await;
        assert_eq!(bob.message().await["id"], id);
    }
    bob.send(&[frame(0x01, b"{"), frame(TEXT, b"}")].concat()).await;
    assert_eq!(bob.close_code().await, 1002);
    logged_in(&server, "cid").await;
    ann.send(&frame(0x80, last)).await;
    assert_eq!(ann.message().await["ok"]["status"]["custom"], "in pieces");
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let server = small();
    for (user, code) in [("normal", 1000_u16), ("away", 1001), ("own", 4321)] {
        let mut raw = logged_in(&server, user).await;
        raw.send(&frame(CLOSE, &code.to_be_bytes())).await;
        assert_eq!(raw.close_code().await, code);
        server.until_state(user, "Offline").await;
        let ended = server.until_logged(&["session ended", user]).await;
        assert!(ended.contains(&format!("close={code}")) && ended.contains("peer"), "{ended}");
    }
    let mut raw = logged_in(&server, "empty").await;
    raw.send(&frame(CLOSE, b"")).await;
    assert_eq!(raw.frame().await.map(|(first, _)| first), Some(CLOSE));
    assert!(raw.is_cut().await);
    server.until_state("empty", "Offline").await;
}

#[tokio::test]
async fn messages_after_a_close_frame_are_ignored() {
    let server = small();
    let mut raw = logged_in(&server, "ann").await;
    let set = json!({ "type": "set", "id": 2, "custom": "too late" }).to_string();
    let bytes = [frame(CLOSE, &1000_u16.to_be_bytes()), frame(TEXT, set.as_bytes())].concat();
    raw.send(&bytes).await;
    assert_eq!(raw.close_code().await, 1000);
    assert_eq!(server.until_state("ann", "Offline").await["custom"], json!(null));
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_session_at_once() {
    let server = Server::start(&[]);
    let half = &frame(TEXT, br#"{"type":"ping","id":2}"#)[..9];

    let mut reset = logged_in(&server, "reset").await;
    reset.send(half).await;
    let linger = Some(std::time::Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&reset.stream, linger).expect("a socket");
    drop(reset);
    server.until_state("reset", "Offline").await;

    let mut finished = logged_in(&server, "finished").await;
    finished.send(half).await;
    drop(finished);
    server.until_state("finished", "Offline").await;

    let mut half_closed = logged_in(&server, "half").await;
    tokio::io::AsyncWriteExt::shutdown(&mut half_closed.stream).await.expect("a socket");
    server.until_state("half", "Offline").await;
    assert!(half_closed.is_cut().await, "nothing is sent to a half-closed client");

    for user in ["reset", "finished", "half"] {
        let ended = server.until_logged(&["session ended", user]).await;
        assert!(ended.contains("close=1006"), "{ended}");
    }
}

#[tokio::test]
async fn every_ping_is_answered_and_unsolicited_pongs_are_not() {
    let server = Server::start(&[]);
    let mut raw = logged_in(&server, "ann").await;
    let mut bytes = frame(PONG, b"unasked");
    for n in 0..50_u8 {
        bytes.extend(frame(PING, &[n]));
    }
    raw.send(&bytes).await;
    for n in 0..50_u8 {
        assert_eq!(raw.frame().await, Some((PONG, vec![n])));
    }
}
