//! Client addresses behind proxies, and warnings about unlisted proxies.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;
use tokio::net::TcpSocket;

use super::raw::{Head, Raw, handshake};
use crate::support::{Server, token};

/// Connects a client with each row of headers, as a separate user; returns the addresses that the hub
/// recorded.
async fn addresses(server: &Server, rows: &[Vec<(&str, &str)>]) -> Vec<String> {
    let mut seen = Vec::new();
    for (n, headers) in rows.iter().enumerate() {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(server, headers).as_bytes()).await;
        let head = raw.head().await;
        assert_eq!(head.status, 101, "{headers:?}: {head:?}");
        let user = format!("user-{n}");
        let login = json!({
            "type": "login", "id": 1, "token": token(&user), "platform": "linux", "device": "d",
        });
        raw.say(&login).await;
        assert_eq!(raw.message().await["ok"]["user"], user.as_str());
        let address = server.user(&user).await["terminals"][0]["address"].clone();
        seen.push(address.as_str().expect("an address").to_owned());
    }
    seen
}

#[tokio::test]
async fn client_addresses_are_read_from_all_forwarding_headers() {
    let proxies = r#"["::ffff:127.0.0.1", "::ffff:10.0.0.0/104", "2001:db8:f::/48"]"#;
    let server = Server::start(&[("server.trusted_proxies", proxies)]);
    let xff = |value| vec![("X-Forwarded-For", value)];
    let rfc = |value| vec![("Forwarded", value)];
    let rows = [
        (xff("203.0.113.7"), "203.0.113.7"),
        (xff("203.0.113.7:51234"), "203.0.113.7"),
        (xff("[2001:db8::1]:4711"), "2001:db8::1"),
        (xff("[2001:db8::1]"), "2001:db8::1"),
        (xff("2001:db8::1"), "2001:db8::1"),
        (xff("\"203.0.113.7\""), "203.0.113.7"),
        (xff("\"[2001:db8::1]:4711\""), "2001:db8::1"),
        (xff("::ffff:203.0.113.7"), "203.0.113.7"),
        (xff("[::ffff:203.0.113.7]:80"), "203.0.113.7"),
        (xff("fe80::1%eth0"), "fe80::1"),
        (xff("203.0.113.7,"), "203.0.113.7"),
        (xff(" , 203.0.113.7 ,, \t,"), "203.0.113.7"),
        (xff("198.51.100.1, 203.0.113.7"), "203.0.113.7"),
        (xff("203.0.113.7, 10.1.2.3:80, 2001:db8:f::9"), "203.0.113.7"),
        (vec![("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "10.1.2.3")], "203.0.113.7"),
        // An unreadable hop hides the entries to its left; the last known address counts.
        (xff("203.0.113.7, unknown"), "127.0.0.1"),
        (xff("203.0.113.7, a.host, 10.1.2.3"), "10.1.2.3"),
        (xff("203.0.113.7, 10.1.2.3:"), "127.0.0.1"),
        (xff("203.0.113.7.8"), "127.0.0.1"),
        (xff(""), "127.0.0.1"),
        (vec![("X-Real-IP", "203.0.113.7")], "203.0.113.7"),
        (vec![("X-Real-IP", "10.1.2.3"), ("X-Forwarded-For", "203.0.113.7")], "203.0.113.7"),
        (vec![("X-Real-IP", "203.0.113.7"), ("Forwarded", "for=198.51.100.1")], "198.51.100.1"),
        (rfc("for=203.0.113.7"), "203.0.113.7"),
        (rfc("For=\"203.0.113.7:4711\";Proto=https;Host=a.example"), "203.0.113.7"),
        (rfc("for=\"[2001:db8::1]:4711\";proto=https"), "2001:db8::1"),
        (rfc("for=\"[2001:db8::1]:_port\""), "2001:db8::1"),
        (rfc("proto=https;for=203.0.113.7;by=10.0.0.1 , for=10.1.2.3"), "203.0.113.7"),
        (rfc("for=\"203.0.113.7\";host=\"a,b;c\\\"d\", for=10.1.2.3"), "203.0.113.7"),
        (vec![("Forwarded", "for=203.0.113.7"), ("Forwarded", "for=10.1.2.3,")], "203.0.113.7"),
        (rfc("for=203.0.113.7, for=unknown"), "127.0.0.1"),
        (rfc("for=203.0.113.7, for=_hidden, for=10.1.2.3"), "10.1.2.3"),
        (rfc("for=203.0.113.7, proto=https"), "127.0.0.1"),
        // Most proxies write X-Forwarded-For, and pass a client's Forwarded on unchanged.
        (
            vec![("Forwarded", "for=198.51.100.1"), ("X-Forwarded-For", "203.0.113.7")],
            "203.0.113.7",
        ),
    ];
    let (headers, expected): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let seen = addresses(&server, &headers).await;
    for ((headers, expected), seen) in headers.iter().zip(expected).zip(seen) {
        assert_eq!(seen, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn invalid_bytes_do_not_hide_what_a_proxy_appended() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    let request = handshake(&server, &[("X-Forwarded-For", "QQQQ, 203.0.113.7")]);
    let mut bytes = request.into_bytes();
    let at = bytes.windows(4).position(|four| four == b"QQQQ").expect("the mark");
    bytes[at..at + 4].copy_from_slice(b"\xff,\xfe\xfd");
    let mut raw = Raw::connect(server.address).await;
    raw.send(&bytes).await;
    assert_eq!(raw.head().await.status, 101);
    let login = json!({
        "type": "login", "id": 1, "token": token("ann"), "platform": "linux", "device": "d",
    });
    raw.say(&login).await;
    raw.message().await;
    assert_eq!(server.user("ann").await["terminals"][0]["address"], "203.0.113.7");
}

/// Connects many clients at once through a proxy; returns their answers.
async fn crowd(server: &Server, clients: usize, proxy: &str) -> Vec<(Raw, Head)> {
    let connect = async |n: usize| {
        let forwarded = format!("203.0.{}.{}, {proxy}", n / 250, n % 250);
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(server, &[("X-Forwarded-For", &forwarded)]).as_bytes()).await;
        let head = raw.head().await;
        (raw, head)
    };
    join_all((0..clients).map(connect)).await
}

#[tokio::test]
async fn bits_beyond_the_prefix_of_a_network_are_ignored() {
    // As the network or as an address in it, and as IPv4 or IPv4-mapped IPv6.
    for (proxies, client) in [
        (r#"["127.0.0.1", "10.0.0.0/8"]"#, "203.0.113.7"),
        (r#"["127.0.0.1", "10.9.9.9/8"]"#, "203.0.113.7"),
        (r#"["::ffff:127.9.9.9/104", "::ffff:10.9.9.9/104"]"#, "203.0.113.7"),
        (r#"["127.0.0.1", "10.9.9.9"]"#, "10.1.2.3"),
        (r#"["127.0.0.1", "10.1.3.3/24"]"#, "10.1.2.3"),
    ] {
        let server = Server::start(&[("server.trusted_proxies", proxies)]);
        let rows = [vec![("X-Forwarded-For", "203.0.113.7, 10.1.2.3")]];
        assert_eq!(addresses(&server, &rows).await, [client], "{proxies}");
    }
}

/// The log lines about proxies so far.
async fn warnings(server: &Server) -> Vec<String> {
    // The log is asynchronous but ordered: when this line is there, so are all earlier ones.
    static MARK: AtomicUsize = AtomicUsize::new(0);
    let mark = format!("https://mark-{}.example", MARK.fetch_add(1, Ordering::Relaxed));
    let mut raw = Raw::connect(server.address).await;
    raw.send(handshake(server, &[("Origin", &mark)]).as_bytes()).await;
    assert_eq!(raw.head().await.status, 403);
    server.until_logged(&[&mark]).await;
    let log = server.log();
    log.lines().filter(|line| line.contains("trusted_proxies")).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_unlisted_proxy_is_warned_about_once_and_works_when_listed() {
    const CLIENTS: usize = 600;
    for proxy in ["10.0.0.5", "198.51.100.5"] {
        let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
        let answers = crowd(&server, CLIENTS, proxy).await;
        let refused = answers.iter().filter(|(_, head)| head.status == 429).count();
        assert!(refused > CLIENTS / 2, "{refused} refused");
        server.until_logged(&["WARN", "trusted_proxies"]).await;
        drop(answers);
        crowd(&server, 100, proxy).await;
        let said = warnings(&server).await;
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains(&format!("address={proxy}")), "{said:?}");
        let line = format!("[server] trusted_proxies = [\"127.0.0.1\", \"{proxy}\"]");
        assert!(said[0].contains(&line), "{said:?}");
    }
    let proxies = r#"["127.0.0.1", "10.0.0.5"]"#;
    let server = Server::start(&[("server.trusted_proxies", proxies)]);
    let answers = crowd(&server, CLIENTS, "10.0.0.5").await;
    assert!(answers.iter().all(|(_, head)| head.status == 101));
    assert_eq!(warnings(&server).await, [""; 0]);
}

#[tokio::test]
async fn a_listed_proxy_without_forwarding_headers_is_warned_about() {
    let proxies = r#"["127.0.0.1", "10.0.0.5"]"#;
    let server = Server::start(&[("server.trusted_proxies", proxies)]);
    let silent = [("X-Forwarded-For", "10.0.0.5")];
    let connect = async |_: usize| {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(&server, &silent).as_bytes()).await;
        raw.head().await.status
    };
    let statuses = join_all((0..200).map(connect)).await;
    assert!(statuses.contains(&429));
    let said = server.until_logged(&["WARN", "sends no X-Forwarded-For", "address=10.0.0.5"]).await;
    assert!(!said.contains("set: "), "{said}");
}

#[tokio::test]
async fn an_unlisted_proxy_on_loopback_is_warned_about_once() {
    let server = Server::start(&[]);
    let from = async |source: &str, headers: &[(&str, &str)]| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{source}:0").parse().expect("an address")).expect("to bind");
        let stream = socket.connect(server.address).await.expect("a connection");
        let mut raw = Raw::over(stream);
        raw.send(handshake(&server, headers).as_bytes()).await;
        assert_eq!(raw.head().await.status, 101);
    };
    from("127.0.0.2", &[]).await;
    assert_eq!(warnings(&server).await, [""; 0]);
    for n in 1..50 {
        let forwarded = format!("203.0.113.{n}");
        from("127.0.0.2", &[("X-Forwarded-For", &forwarded)]).await;
        from("127.0.0.2", &[("Forwarded", &format!("for={forwarded}"))]).await;
    }
    let said = warnings(&server).await;
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("[server] trusted_proxies = [\"127.0.0.2\"]"), "{said:?}");
    from("127.0.0.3", &[("X-Forwarded-Proto", "https")]).await;
    assert_eq!(warnings(&server).await.len(), 2, "each address has its own warning");
}

#[tokio::test]
async fn warnings_about_proxies_are_bounded() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    for n in 0..60 {
        let forwarded = format!("203.0.113.7, 10.1.1.{n}");
        let request = server.http("GET", "/health").header("x-forwarded-for", forwarded);
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    }
    let said = warnings(&server).await;
    assert_eq!(said.len(), 20, "{said:#?}");
}

#[tokio::test]
async fn a_client_that_forges_a_proxy_is_not_recommended() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    // The proxy appends the client's address to the header that the client forged.
    for headers in [("X-Forwarded-For", "10.0.0.1, 203.0.113.7"), ("Forwarded", "for=203.0.113.7")]
    {
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake(&server, &[headers]).as_bytes()).await;
        assert_eq!(raw.head().await.status, 101);
    }
    assert_eq!(warnings(&server).await, [""; 0]);
}
