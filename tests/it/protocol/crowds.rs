//! Sockets: what one address may take, and what is answered while all are taken.

use serde_json::json;
use tokio::net::TcpSocket;

use super::raw::{Raw, handshake};
use crate::support::{Server, http, now_millis, token, until};

/// How many places there are with `server.max_connections = 4`: 16 more, for requests.
const PLACES: usize = 20;

/// As many idle sockets as there are places.
async fn all_places(server: &Server) -> Vec<Raw> {
    let mut sockets = Vec::new();
    for _ in 0..PLACES {
        sockets.push(Raw::connect(server.address).await);
    }
    sockets
}

#[tokio::test]
async fn probes_and_the_dashboard_are_answered_while_all_sockets_are_taken() {
    let server = Server::start(&[
        ("server.max_connections", "4"),
        // The idle sockets of this test stay for as long.
        ("server.handshake_timeout", "60s"),
    ]);
    let held = all_places(&server).await;
    for path in ["/health", "/ready", "/metrics", "/static/"] {
        let answer = http(server.address, "GET", path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["connection"], "close", "{path}: the place is needed");
    }
    let mut raw = Raw::connect(server.address).await;
    raw.send(handshake(&server, &[]).as_bytes()).await;
    let head = raw.head().await;
    assert_eq!(head.status, 503, "{head:?}");
    server.until_logged(&["WARN", "all sockets are in use", "server.max_connections"]).await;
    let metrics = http(server.address, "GET", "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a text");
    let refused = metrics.lines().find(|line| line.contains("sockets_refused_total{by=\"all\"}"));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{refused:?}");

    drop(held);
    until("a place is free", async || {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(&server, &[]).as_bytes()).await;
        raw.head().await.status == 101
    })
    .await;
}

#[tokio::test]
async fn operators_have_places_of_their_own_while_all_of_the_clients_are_taken() {
    let server = Server::start(&[
        ("server.max_connections", "4"),
        ("server.handshake_timeout", "60s"),
        ("server.admin_listen", "127.0.0.1:0"),
        ("server.metrics_listen", "127.0.0.1:0"),
    ]);
    let mut held = all_places(&server).await;
    // The spare places, too: loopback has no limit.
    for _ in 0..16 {
        held.push(Raw::connect(server.address).await);
    }
    for (face, path) in [("Admin", "/static/"), ("Metrics", "/metrics")] {
        let address = server.listening(&[&format!("face={face}")]).await;
        let answer = http(address, "GET", path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{face}");
        assert_eq!(
            answer.headers().get("connection"),
            None,
            "{face}: the connection got an ordinary place"
        );
    }
}

/// A socket with a small buffer that asks for a file again and again, and reads nothing.
async fn never_reads(server: &Server) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut raw = Raw::over(socket.connect(server.address).await.expect("a connection"));
    raw.send("GET /static/presence.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(60).as_bytes()).await;
    raw
}

#[tokio::test]
async fn clients_that_never_read_their_answers_lose_their_places() {
    let server = Server::start(&[("server.max_connections", "4")]);
    let begun = now_millis();
    let mut held = Vec::new();
    for _ in 0..PLACES {
        held.push(never_reads(&server).await);
    }
    let newcomer = async || {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(&server, &[]).as_bytes()).await;
        raw.head().await.status
    };
    assert_eq!(newcomer().await, 503, "all places are taken");
    until("a place is free", async || newcomer().await == 101).await;
    let took = now_millis() - begun;
    assert!(took < 15_000, "{took} ms");
    drop(held);
}

#[tokio::test]
async fn one_address_behind_a_proxy_has_a_limit_of_sockets_and_others_have_theirs() {
    let server = Server::start(&[
        ("server.trusted_proxies", r#"["127.0.0.1"]"#),
        ("limits.sockets_per_address", "2"),
        ("limits.connection_burst", "1000"),
    ]);
    let connect = async |address: &str| {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(&server, &[("X-Forwarded-For", address)]).as_bytes()).await;
        let head = raw.head().await;
        (raw, head)
    };
    let held = [connect("203.0.113.7").await, connect("203.0.113.7").await];
    assert!(held.iter().all(|(_, head)| head.status == 101));
    let (_, refused) = connect("203.0.113.7").await;
    assert_eq!(refused.status, 429, "{refused:?}");
    server
        .until_logged(&["WARN", "one address", "203.0.113.7", "limits.sockets_per_address"])
        .await;
    let (mut other, head) = connect("203.0.113.8").await;
    assert_eq!(head.status, 101);
    let login = json!({
        "type": "login", "id": 1, "token": token("ann"), "platform": "linux", "device": "d",
    });
    other.say(&login).await;
    assert_eq!(other.message().await["ok"]["user"], "ann");
    drop(held);
    until("its places are free again", async || connect("203.0.113.7").await.1.status == 101).await;
}

#[tokio::test]
async fn a_connection_ends_after_a_thousand_requests() {
    let server = Server::start(&[]);
    let mut raw = Raw::connect(server.address).await;
    for n in 1..=1000 {
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let head = raw.head().await;
        assert_eq!(head.status, 200, "{n}");
        assert_eq!(head.header("connection"), (n == 1000).then_some("close"), "{n}");
    }
}
