use super::raw::{Head, Raw, handshake};
use crate::support::Server;

const FORWARDED: (&str, &str) = ("X-Forwarded-Host", "app.example.net");

async fn answer(server: &Server, headers: &[(&str, &str)]) -> Head {
    let mut raw = Raw::connect(server.address).await;
    raw.send(handshake(server, headers).as_bytes()).await;
    raw.head().await
}

async fn check(server: &Server, headers: &[(&str, &str)], admitted: bool) {
    let head = answer(server, headers).await;
    if admitted {
        assert_eq!(head.status, 101, "{headers:?}");
    } else {
        assert_eq!(head.status, 403, "{headers:?}");
        assert_eq!(head.code(), "origin_not_allowed", "{headers:?}");
    }
}

#[tokio::test]
async fn a_page_connects_from_its_own_host_or_a_listed_one() {
    let allowed =
        r#"["https://app.example.com", "https://*.example.org", "http://localhost:3000"]"#;
    let server = Server::start(&[("server.allowed_origins", allowed)]);
    check(&server, &[], true).await;
    let own = server.address.to_string();
    let rows = [
        (format!("http://{own}"), true),
        (format!("https://{own}"), true),
        (format!("http://{own}0"), false),
        (format!("http://{own}.evil.example"), false),
        (format!("http://evil.example/{own}"), false),
        (format!("http://{own}@evil.example"), false),
        (format!("http://127.0.0.1:{}", server.address.port() ^ 1), false),
    ];
    for (origin, admitted) in &rows {
        check(&server, &[("Origin", origin)], *admitted).await;
    }
    let rows = [
        ("https://app.example.com", true),
        ("http://app.example.com", false),
        ("https://app.example.com:8443", false),
        ("https://app.example.com.evil.example", false),
        ("https://evil-app.example.com", false),
        ("https://xapp.example.com", false),
        ("https://one.example.org", true),
        ("https://two.one.example.org", false),
        ("https://example.org", false),
        ("https://.example.org", false),
        ("https://oneexample.org", false),
        ("https://one.example.org.evil.example", false),
        ("https://evil.example/.example.org", false),
        ("https://evil.example:1.example.org", false),
        ("https://user@one.example.org", false),
        ("http://one.example.org", false),
        ("http://localhost:3000", true),
        ("http://localhost", false),
        ("http://localhost:30000", false),
        ("null", false),
        ("file://", false),
        ("*", false),
    ];
    for (origin, admitted) in rows {
        check(&server, &[("Origin", origin)], admitted).await;
    }
    check(&server, &[("Origin", "https://app.example.net"), FORWARDED], false).await;
}

#[tokio::test]
async fn a_default_port_may_be_left_out() {
    let server = Server::start(&[]);
    let rows = [
        ("http://hub.example", "hub.example:80", true),
        ("https://hub.example", "hub.example:443", true),
        ("https://hub.example:443", "hub.example", true),
        ("https://hub.example", "hub.example", true),
        ("https://HUB.example", "hub.example", true),
        ("https://hub.example:8443", "hub.example", false),
        ("https://hub.example", "hub.example:8443", false),
    ];
    for (origin, host, admitted) in rows {
        check(&server, &[("Origin", origin), ("Host", host)], admitted).await;
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_which_host_was_meant() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.0/8\"]")]);
    let own = format!("http://{}", server.address);
    check(&server, &[("Origin", "https://app.example.net"), FORWARDED], true).await;
    check(&server, &[("Origin", "https://other.example.net"), FORWARDED], false).await;
    check(&server, &[("Origin", &own), FORWARDED], false).await;
    check(&server, &[("Origin", &own)], true).await;
}

#[tokio::test]
async fn every_page_connects_where_all_may() {
    let server = Server::start(&[("server.allowed_origins", "[\"*\"]")]);
    check(&server, &[("Origin", "https://anywhere.example")], true).await;
    check(&server, &[("Origin", "null")], true).await;
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_the_line_that_would_admit_it() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        for origin in ["https://one.example", "https://two.example"] {
            check(&server, &[("Origin", origin)], false).await;
        }
    }
    for origin in ["https://one.example", "https://two.example"] {
        let log = server.log();
        let line = format!("allowed_origins = [\"{origin}\"]");
        let lines = log.lines().filter(|logged| logged.replace('\\', "").contains(&line));
        assert_eq!(lines.count(), 1, "{log}");
    }
}
