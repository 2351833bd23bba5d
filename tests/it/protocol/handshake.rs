//! The WebSocket handshake: valid and invalid requests, timeouts and connection limits.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;

use super::raw::{ACCEPT, Head, KEY, Raw, TEXT, frame, get, handshake};
use crate::support::{SOON, Server, token};

/// Sends bytes on a new connection; returns the answer.
async fn answer(server: &Server, request: impl AsRef<[u8]>) -> Head {
    let mut raw = Raw::connect(server.address).await;
    raw.send(request.as_ref()).await;
    raw.head().await
}

#[tokio::test]
async fn valid_handshakes_are_answered_as_rfc_6455_requires() {
    let server = Server::start(&[]);
    let own = Some("presence-hub.v1");
    let rows = [
        ("X-Anything", "at all", None),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits", None),
        ("Sec-WebSocket-Protocol", "presence-hub.v1", own),
        ("Sec-WebSocket-Protocol", "chat, presence-hub.v1", own),
        ("Sec-WebSocket-Protocol", "chat", None),
        ("Connection", "keep-alive, Upgrade", None),
        ("Upgrade", "WebSocket", None),
        ("Content-Length", "0", None),
        ("Connection", "keep-alive,\tUpgrade\t", None),
        ("Connection", ", uPGRADE ,,", None),
        ("Upgrade", "h2c, WebSocket", None),
        ("Upgrade", "h2c,\twebsocket", None),
        ("Sec-WebSocket-Protocol", "chat,\tpresence-hub.v1 ,", own),
        ("Sec-WebSocket-Version", " 13\t", None),
    ];
    for (name, value, subprotocol) in rows {
        let head = answer(&server, handshake(&server, &[(name, value)])).await;
        assert_eq!(head.status, 101, "{name}: {head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT), "{name}");
        assert_eq!(head.header("sec-websocket-protocol"), subprotocol, "{name}");
        assert_eq!(head.header("sec-websocket-extensions"), None, "{name}");
    }
}

#[tokio::test]
async fn handshake_lists_can_span_several_header_lines() {
    let server = Server::start(&[]);
    let rows = [
        vec![("Connection", "keep-alive"), ("Connection", "Upgrade")],
        vec![("Connection", "Upgrade"), ("Connection", "keep-alive")],
        vec![("Upgrade", "h2c"), ("Upgrade", "websocket")],
        vec![
            ("Sec-WebSocket-Extensions", "x-one"),
            ("Sec-WebSocket-Extensions", "x-two; a=\"b,c\""),
        ],
        vec![
            ("Connection", "close"),
            ("Connection", "x,\tUPGRADE"),
            ("Upgrade", "h2c,"),
            ("Upgrade", "WEBSOCKET"),
        ],
    ];
    for headers in rows {
        let head = answer(&server, handshake(&server, &headers)).await;
        assert_eq!(head.status, 101, "{headers:?}: {head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT), "{headers:?}");
    }
    let headers =
        [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "presence-hub.v1")];
    let head = answer(&server, handshake(&server, &headers)).await;
    assert_eq!(head.header("sec-websocket-protocol"), Some("presence-hub.v1"), "{head:?}");
}

#[tokio::test]
async fn invalid_handshakes_are_refused_with_the_reason() {
    let server = Server::start(&[]);
    let many: Vec<_> = (0..200).map(|n| (format!("X-Header-{n}"), "x")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let large = "x".repeat(70 * 1024);
    let host = server.address.to_string();
    let two_keys = [("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)];
    let rows: Vec<(&str, String, u16)> = vec![
        ("no key", handshake(&server, &[("Sec-WebSocket-Key", "")]), 400),
        ("a short key", handshake(&server, &[("Sec-WebSocket-Key", "YWJj")]), 400),
        ("a long key", handshake(&server, &[("Sec-WebSocket-Key", &"A".repeat(28))]), 400),
        (
            "no base64",
            handshake(&server, &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ!!")]),
            400,
        ),
        ("two keys", handshake(&server, &two_keys), 400),
        ("two versions", handshake(&server, &[("sec-websocket-version", "8")]), 400),
        ("two hosts", handshake(&server, &[("host", "elsewhere")]), 400),
        ("two origins", handshake(&server, &[("Origin", "null"), ("Origin", "null")]), 400),
        ("half a word", handshake(&server, &[("Connection", "upgrade-insecure")]), 426),
        ("a body", handshake(&server, &[("Content-Length", "5")]) + "hello", 400),
        ("a chunked body", handshake(&server, &[("Transfer-Encoding", "chunked")]), 400),
        ("version 8", handshake(&server, &[("Sec-WebSocket-Version", "8")]), 426),
        ("no version", handshake(&server, &[("Sec-WebSocket-Version", "")]), 426),
        ("no upgrade", handshake(&server, &[("Upgrade", "")]), 426),
        ("another upgrade", handshake(&server, &[("Upgrade", "h2c")]), 426),
        ("no connection", handshake(&server, &[("Connection", "keep-alive")]), 426),
        ("a plain GET", get("/ws", &[("Host", &host)]), 426),
        ("POST", handshake(&server, &[]).replace("GET", "POST"), 405),
        ("PUT", handshake(&server, &[]).replace("GET", "PUT"), 405),
        ("200 headers", handshake(&server, &many), 431),
        ("70 KiB", handshake(&server, &[("X-Large", &large)]), 431),
    ];
    for (name, request, status) in rows {
        let head = answer(&server, request).await;
        assert_eq!(head.status, status, "{name}: {head:?}");
        match status {
            400 => assert_eq!(head.code(), "bad_request", "{name}"),
            405 => {
                assert_eq!(head.code(), "method_not_allowed", "{name}");
                assert!(
                    head.header("allow").is_some_and(|a| a.contains("GET")),
                    "{name}: {head:?}"
                );
            }
            426 => {
                assert_eq!(head.code(), "upgrade_required", "{name}");
                assert_eq!(head.header("sec-websocket-version"), Some("13"), "{name}");
                assert_eq!(head.header("upgrade"), Some("websocket"), "{name}");
            }
            _ => (),
        }
    }
}

#[tokio::test]
async fn handshake_headers_with_invalid_bytes_are_refused() {
    let server = Server::start(&[]);
    for name in ["Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"] {
        let request = handshake(&server, &[(name, "QQQQ")]);
        let at = request.find("QQQQ").expect("the mark");
        let mut bytes = request.into_bytes();
        bytes[at..at + 4].copy_from_slice(b"\xff\xfe\xc3\xa9");
        assert_eq!(answer(&server, bytes).await.status, 400, "{name}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let server = Server::start(&[]);
    let noise: Vec<u8> =
        (0_u32..4096).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hello = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03".repeat(20);
    let two = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let rows = [("noise", noise), ("a TLS hello", hello), ("HTTP/2", two), ("zeros", vec![0; 999])];
    for (name, bytes) in rows {
        let mut raw = Raw::connect(server.address).await;
        raw.send(&bytes).await;
        let said = raw.rest().await;
        let refused = said.is_empty() || said.starts_with(b"HTTP/1.1 400");
        assert!(refused, "{name}: {:?}", String::from_utf8_lossy(&said));
    }
    assert_eq!(answer(&server, handshake(&server, &[])).await.status, 101);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn slow_handshakes_time_out() {
    let server = Server::start(&[("server.handshake_timeout", "300ms")]);
    let request = handshake(&server, &[]);
    let silent = async { Raw::connect(server.address).await.is_cut().await };
    let slow = async {
        let mut raw = Raw::connect(server.address).await;
        let mut sent = 0;
        // A slow sender must not extend the timeout.
        for byte in request.as_bytes().chunks(1).cycle() {
            raw.send(byte).await;
            sent += 1;
            tokio::select! {
                rest = raw.rest() => return (sent, rest),
                () = tokio::time::sleep(std::time::Duration::from_millis(50)) => (),
            }
        }
        unreachable!("a cycle has no end")
    };
    let (silent, (sent, rest)) =
        timeout(SOON, async { tokio::join!(silent, slow) }).await.expect("both to be cut");
    assert!(silent, "a silent client was sent something");
    assert!(sent < request.len(), "the timeout waited for the whole handshake");
    assert!(!rest.starts_with(b"HTTP/1.1 101"), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn data_sent_with_the_handshake_is_not_lost() {
    let server = Server::start(&[]);
    let mut raw = Raw::connect(server.address).await;
    let login = json!({
        "type": "login", "id": 1, "token": token("ann"), "platform": "linux", "device": "d",
    });
    let ping = json!({ "type": "ping", "id": 2 });
    let mut bytes = handshake(&server, &[]).into_bytes();
    bytes.extend(frame(TEXT, login.to_string().as_bytes()));
    bytes.extend(frame(TEXT, ping.to_string().as_bytes()));
    raw.send(&bytes).await;
    assert_eq!(raw.head().await.status, 101);
    assert_eq!(raw.message().await["ok"]["user"], "ann");
    assert_eq!(raw.message().await["id"], 2);
}

#[tokio::test]
async fn new_connections_are_rate_limited_per_address() {
    let server = Server::start(&[
        ("server.trusted_proxies", "[\"127.0.0.1\"]"),
        ("limits.connection_burst", "2"),
        ("limits.connections_per_address_per_second", "1"),
    ]);
    let from = |address: &'static str| {
        answer(&server, handshake(&server, &[("X-Forwarded-For", address)]))
    };
    assert_eq!(from("203.0.113.7").await.status, 101);
    assert_eq!(from("203.0.113.7").await.status, 101);
    let refused = loop {
        // One connection is allowed per second.
        let head = from("198.51.100.1, 203.0.113.7").await;
        if head.status != 101 {
            break head;
        }
    };
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.code(), "rate_limited");
    let retry_after: u64 =
        refused.header("retry-after").and_then(|secs| secs.parse().ok()).expect("seconds");
    assert!((1..60).contains(&retry_after), "{retry_after}");
    assert_eq!(from("203.0.113.8").await.status, 101, "another address");
    assert_eq!(from("2001:db8::1").await.status, 101, "another address");
    for _ in 0..10 {
        let head = answer(&server, handshake(&server, &[])).await;
        assert_eq!(head.status, 101, "loopback itself is not counted");
    }
}

#[tokio::test]
async fn forwarded_addresses_of_untrusted_peers_are_ignored() {
    let server = Server::start(&[("limits.connection_burst", "1")]);
    for _ in 0..10 {
        let request = handshake(&server, &[("X-Forwarded-For", "203.0.113.7")]);
        assert_eq!(answer(&server, request).await.status, 101);
    }
}

#[tokio::test]
async fn max_connections_limits_websockets_but_not_the_api() {
    let server = Server::start(&[("server.max_connections", "2")]);
    let first = Raw::upgrade(&server).await;
    let _second = Raw::upgrade(&server).await;
    let full = answer(&server, handshake(&server, &[])).await;
    assert_eq!(full.status, 503, "{full:?}");
    assert_eq!(full.code(), "unavailable");
    assert!(full.header("retry-after").is_some_and(|secs| secs.parse::<u64>().is_ok()));
    let (status, _) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(status, 200, "the API still answers");
    drop(first);
    let room = async { while answer(&server, handshake(&server, &[])).await.status != 101 {} };
    timeout(SOON, room).await.expect("room again");
}

#[tokio::test]
async fn plain_requests_cannot_use_up_all_sockets() {
    let server = Server::start(&[("server.max_connections", "2")]);
    let mut idle = Vec::new();
    // The sockets for two WebSockets, and the reserve for plain requests.
    loop {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n").await.expect("to send");
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]).to_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        if answer.contains("connection: close") {
            // A spare place, for one answer.
            break;
        }
        idle.push(stream);
        assert!(idle.len() < 100, "there is no limit");
    }
    assert!(idle.len() > 2, "{}", idle.len());
    drop(idle);
    let room = async {
        loop {
            let stream = TcpStream::connect(server.address).await.expect("a connection");
            if client_async(format!("ws://{}/ws", server.address), stream).await.is_ok() {
                return;
            }
        }
    };
    timeout(SOON, room).await.expect("room again");
}
