//! Allowed origins: which pages may connect, and the advice in the log.

use presence_hub::http::OriginRule;

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
async fn default_ports_are_ignored_in_origins() {
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
async fn forwarded_hosts_of_trusted_proxies_are_used() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.0/8\"]")]);
    let own = format!("http://{}", server.address);
    check(&server, &[("Origin", "https://app.example.net"), FORWARDED], true).await;
    check(&server, &[("Origin", "https://other.example.net"), FORWARDED], false).await;
    check(&server, &[("Origin", &own), FORWARDED], false).await;
    check(&server, &[("Origin", &own)], true).await;
}

#[tokio::test]
async fn the_first_forwarded_host_counts() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.0/8\"]")]);
    let origin = ("Origin", "https://app.example.net");
    for forwarded in [
        vec![("X-Forwarded-Host", "app.example.net, internal.example")],
        vec![("X-Forwarded-Host", " ,app.example.net ,internal.example")],
        vec![("X-Forwarded-Host", "app.example.net"), ("X-Forwarded-Host", "internal.example")],
        vec![("X-Forwarded-Host", "App.Example.Net:443")],
        vec![("Forwarded", "for=1.2.3.4;host=app.example.net, for=10.0.0.1;host=internal.example")],
        vec![("Forwarded", "host=\"app.example.net:443\";proto=https")],
        vec![("Forwarded", "for=1.2.3.4"), ("Forwarded", "host=app.example.net")],
    ] {
        let headers = [&[origin], forwarded.as_slice()].concat();
        check(&server, &headers, true).await;
        let other = [&[("Origin", "https://internal.example")], forwarded.as_slice()].concat();
        check(&server, &other, false).await;
    }
    let untrusting = Server::start(&[]);
    check(&untrusting, &[origin, ("Forwarded", "host=app.example.net")], false).await;
}

#[tokio::test]
async fn allowed_origins_are_normalized_like_browsers_do() {
    let allowed = r#"["https://App.Example.com", "https://x.example:443/", "http://y.example:80",
        "https://münchen.example", "HTTPS://*.Straße.example:443", "https://[2001:DB8::1]:8443",
        "file:///", "null", "Capacitor://LocalHost", "tauri://localhost", "app://obsidian.md",
        "chrome-extension://abcdefghijklmnop", "ionic://localhost/", "app://"]"#;
    let server = Server::start(&[("server.allowed_origins", allowed)]);
    let rows = [
        ("https://app.example.com", true),
        ("https://APP.example.com:443", true),
        ("https://x.example", true),
        ("http://y.example", true),
        ("https://xn--mnchen-3ya.example", true),
        ("https://münchen.example", true),
        ("https://one.xn--strae-oqa.example", true),
        ("https://[2001:db8::1]:8443", true),
        ("file://", true),
        ("null", true),
        ("capacitor://localhost", true),
        ("tauri://localhost", true),
        ("app://obsidian.md", true),
        ("app://", true),
        ("chrome-extension://abcdefghijklmnop", true),
        ("ionic://localhost", true),
        ("https://app.example.com:444", false),
        ("http://x.example", false),
        ("https://y.example", false),
        ("https://xn--strae-oqa.example", false),
        ("chrome-extension://other", false),
        ("app://other", false),
        ("tauri://localhost:1", false),
    ];
    for (origin, admitted) in rows {
        check(&server, &[("Origin", origin)], admitted).await;
    }
}

#[test]
fn invalid_allowed_origins_are_refused_with_a_correction() {
    let rows = [
        ("https://*", "\"https://*.example.com\""),
        ("https://*:443", "\"https://*.example.com\""),
        ("https://*.*.example.com", "\"https://*.example.com\""),
        ("https://a*.example.com", "\"https://app.example.com\""),
        ("https://*.", "\"https://*.example.com\""),
        ("chrome-extension://*.x", "list each"),
        ("*.example.com", "scheme"),
        ("app.example.com", "scheme"),
        ("localhost:3000", "scheme"),
        ("://x", "scheme"),
        ("", "scheme"),
        (" https://app.example.com", "white space"),
        ("https://app.example.com\t", "white space"),
        ("https://app.example.com/app", "write \"https://app.example.com\""),
        ("https://app.example.com/?x", "write \"https://app.example.com\""),
        ("https://app.example.com?x=1", "write \"https://app.example.com\""),
        ("https://app.example.com#x", "write \"https://app.example.com\""),
        ("https://user:word@app.example.com", "user name"),
        ("https://app.example.com:0", "port"),
        ("https://app.example.com:65536", "port"),
        ("https://app.example.com:", "port"),
        ("https://:443", "host"),
        ("https://", "host"),
        ("https://256.1.1.1", "host"),
        ("https://a.example,https://b.example", "write it as"),
        ("wss://Hub.example.com", "write \"https://hub.example.com\""),
        ("ws://hub.example.com", "write \"http://hub.example.com\""),
    ];
    for (entry, told) in rows {
        let texts = ["https://good.example".to_owned(), entry.to_owned()];
        let faults = OriginRule::parse(&texts).expect_err(entry);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let named = format!("allowed_origins[1]: {entry:?} is not ");
        assert!(faults[0].starts_with(&named) && faults[0].contains(told), "{faults:?}");
    }
}

#[tokio::test]
async fn mini_programs_on_devices_connect_by_default() {
    for allowed in ["[]", "[\"https://app.example.com\"]"] {
        let server = Server::start(&[("server.allowed_origins", allowed)]);
        check(&server, &[("Origin", "https://servicewechat.com")], true).await;
        check(&server, &[("Origin", "weapp://wechat-game-runtime")], true).await;
        check(&server, &[("Origin", "http://servicewechat.com")], false).await;
        check(&server, &[("Origin", "https://x.servicewechat.com")], false).await;
    }
}

#[tokio::test]
async fn the_configuration_line_in_the_log_allows_the_origin() {
    const ORIGINS: [&str; 11] = [
        "null",
        "file://",
        "https://one.example",
        "https://one.example:8443",
        "HTTPS://Two.Example:443",
        "https://münchen.example",
        "http://[2001:db8::1]:3000",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnop",
        "app://.",
        "app://",
    ];
    for before in ["[]", "[\"https://first.example\", \"https://*.second.example\"]"] {
        let server = Server::start(&[("server.allowed_origins", before)]);
        for origin in ORIGINS {
            check(&server, &[("Origin", origin)], false).await;
        }
        for strange in ["https://one.example/path", "none", "https://a b"] {
            check(&server, &[("Origin", strange)], false).await;
        }
        server.until_logged(&["no browser sends this Origin", "https://a b"]).await;
        let log = server.log();
        let lines = log.lines().filter_map(|line| line.split("to allow it, set: ").nth(1));
        let lines: Vec<_> = lines.map(|line| line.split(" origin=").next().expect("it")).collect();
        assert_eq!(lines.len(), ORIGINS.len(), "{log}");
        for (line, origin) in lines.iter().zip(ORIGINS) {
            let list = line.strip_prefix("[server] allowed_origins = ").expect(line);
            let table: toml::Table = format!("x = {list}").parse().expect("TOML");
            let list = table["x"].to_string();
            let admitting = Server::start(&[("server.allowed_origins", &list)]);
            check(&admitting, &[("Origin", origin)], true).await;
            if before != "[]" {
                check(&admitting, &[("Origin", "https://x.second.example")], true).await;
            }
        }
    }
}

#[tokio::test]
async fn a_star_allows_every_origin() {
    let server = Server::start(&[("server.allowed_origins", "[\"*\"]")]);
    check(&server, &[("Origin", "https://anywhere.example")], true).await;
    check(&server, &[("Origin", "null")], true).await;
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_the_line_to_add() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        for origin in ["https://one.example", "https://two.example"] {
            check(&server, &[("Origin", origin)], false).await;
        }
    }
    for origin in ["https://one.example", "https://two.example"] {
        server.until_logged(&["to allow it", origin]).await;
        let log = server.log();
        let line = format!("allowed_origins = [\"{origin}\"]");
        let lines = log.lines().filter(|logged| logged.replace('\\', "").contains(&line));
        assert_eq!(lines.count(), 1, "{log}");
    }
}
