//! Common headers of answers, and content negotiation.

use std::io::Read;

use reqwest::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{API_KEY, SOON, Server};

async fn send(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = server.http("GET", path);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.expect("an answer")
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Sends bytes with `Connection: close`; returns the answer.
async fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("to send");
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.expect("an end").expect("an answer");
    answer
}

#[tokio::test]
async fn every_answer_has_nosniff_and_no_store_unless_it_sets_its_own() {
    let server =
        Server::start(&[("tencent.sdk_app_id", "7"), ("tencent.secret_key", "known to few")]);
    for (path, kept) in [
        ("/v1/stats", "no-store"),
        ("/v1/users/ann", "no-store"),
        ("/v1/users/%00", "no-store"),
        ("/v1/nothing", "no-store"),
        ("/v1/status", "no-store"),
        ("/v4/openim/querystate", "no-store"),
        ("/v1/admin/session", "no-store"),
        ("/health", "no-store"),
        ("/ready", "no-store"),
        ("/metrics", "no-store"),
        ("/openapi.json", "no-store"),
        ("/nothing", "no-store"),
        ("/ws", "no-store"),
        ("/", "no-store"),
        ("/static/nothing", "no-store"),
        ("/static/presence.js", "no-cache"),
    ] {
        for key in [API_KEY, "not-a-key-of-this-hub"] {
            let answer = server.http("GET", path).bearer_auth(key).send().await.expect("an answer");
            assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(header(&answer, "cache-control"), Some(kept), "{path} {}", answer.status());
        }
    }
}

#[tokio::test]
async fn requests_without_exactly_one_valid_host_are_refused() {
    let server = Server::start(&[]);
    for path in ["/health", "/v1/stats", "/static/presence.js", "/ws", "/nothing"] {
        for (hosts, names_one) in [
            ("Host: hub.example\r\n", true),
            ("Host: 10.0.0.5:7800\r\n", true),
            ("Host: [2001:db8::1]:7800\r\n", true),
            ("", false),
            ("Host:\r\n", false),
            ("Host: a.example\r\nHost: a.example\r\n", false),
            ("Host: a.example\r\nHost: b.example\r\n", false),
            ("Host: a.example, b.example\r\n", false),
            ("Host: user@a.example\r\n", false),
            ("Host: a.example:\r\n", true),
            ("Host: a.example:65535\r\n", true),
            ("Host: a.example:65536\r\n", false),
            ("Host: a.example:999999\r\n", false),
            ("Host: a:b\r\n", false),
            ("Host: a:80:80\r\n", false),
            ("Host: [2001:db8::1]x\r\n", false),
            ("Host: a:1@b:80\r\n", false),
            ("Host: a example\r\n", false),
            ("Host: a.example/path\r\n", false),
        ] {
            let answer =
                raw(&server, &format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"))
                    .await;
            let is_refused = answer.starts_with("HTTP/1.1 400");
            assert_eq!(is_refused, !names_one, "{path} {hosts:?}: {answer}");
            if is_refused {
                assert!(answer.contains("Host header"), "{answer}");
                assert!(answer.contains("nosniff") && answer.contains("no-store"), "{answer}");
            }
        }
    }
    let answer = raw(&server, "GET /health HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "an HTTP/1.0 health check: {answer}");
    let answer = raw(&server, "GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
}

#[tokio::test]
async fn a_matching_etag_is_answered_with_304() {
    let server = Server::start(&[]);
    for coding in ["identity", "gzip", "br"] {
        let accept = ("accept-encoding", coding);
        let whole = send(&server, "/static/presence.js", &[accept]).await;
        let etag = header(&whole, "etag").expect("a tag").to_owned();
        for (known, is_known) in [
            (etag.clone(), true),
            (format!("W/{etag}"), true),
            (format!("\"0\", {etag}"), true),
            (format!("\"a,b\",W/{etag} , \"0\""), true),
            ("*".to_owned(), true),
            ("\"0\"".to_owned(), false),
            (etag.trim_matches('"').to_owned(), false),
            (format!("\"{etag}\""), false),
            (String::new(), false),
        ] {
            let answer =
                send(&server, "/static/presence.js", &[accept, ("if-none-match", &known)]).await;
            assert_eq!(answer.status(), if is_known { 304 } else { 200 }, "{coding} {known}");
            assert_eq!(header(&answer, "etag"), Some(&*etag), "{coding}");
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"), "{coding}");
            assert_eq!(header(&answer, "cache-control"), Some("no-cache"), "{coding}");
        }
        let lines = [accept, ("if-none-match", "\"0\""), ("if-none-match", &etag)];
        assert_eq!(send(&server, "/static/presence.js", &lines).await.status(), 304);
    }
}

#[tokio::test]
async fn files_are_compressed_by_accept_encoding() {
    let server = Server::start(&[]);
    let plain = send(&server, "/static/presence.js", &[]).await;
    assert_eq!(header(&plain, "content-encoding"), None);
    let plain_tag = header(&plain, "etag").expect("a tag").to_owned();
    let plain = plain.bytes().await.expect("a body");
    let mut tags = vec![plain_tag];
    for (accept, coding) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("gzip, deflate", Some("gzip")),
        ("GZIP;q=0.5 , br;q=0.4", Some("gzip")),
        ("br;q=0, gzip;q=1.0", Some("gzip")),
        ("*", Some("br")),
        ("*;q=0, gzip", Some("gzip")),
        ("identity", None),
        ("gzip;q=0", None),
        ("deflate, zstd", None),
        ("", None),
    ] {
        for path in ["/static/presence.js", "/static/", "/static/style.css"] {
            let answer = send(&server, path, &[("accept-encoding", accept)]).await;
            assert_eq!(header(&answer, "content-encoding"), coding, "{path} {accept}");
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"), "{path}");
        }
        let answer = send(&server, "/static/presence.js", &[("accept-encoding", accept)]).await;
        tags.push(header(&answer, "etag").expect("a tag").to_owned());
        let length: usize =
            header(&answer, "content-length").expect("it").parse().expect("a number");
        let body = answer.bytes().await.expect("a body");
        assert_eq!(body.len(), length);
        let mut decoded = Vec::new();
        match coding {
            Some("br") => {
                brotli::Decompressor::new(&*body, 4096).read_to_end(&mut decoded).expect("brotli");
            }
            Some(_) => {
                assert_eq!(&body[..3], [0x1f, 0x8b, 8]);
                let (deflated, end) = body[10..].split_at(body.len() - 18);
                decoded = miniz_oxide::inflate::decompress_to_vec(deflated).expect("deflate");
                assert_eq!(end[..4], crc32fast::hash(&decoded).to_le_bytes());
                assert_eq!(end[4..], (decoded.len() as u32).to_le_bytes());
            }
            None => decoded.extend_from_slice(&body),
        }
        assert_eq!(decoded, plain, "{accept}");
        assert!(coding.is_none() || body.len() < plain.len() / 2, "{} bytes", body.len());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each coding has its own tag");
}

#[tokio::test]
async fn metrics_are_text_unless_accept_prefers_openmetrics() {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let server = Server::start(&[]);
    let _ann = server.login("ann", "web").await;
    for (accept, content_type) in [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
        ("text/plain", TEXT),
        ("application/json", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.5", TEXT),
        ("application/openmetrics-text", OPEN),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
             q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPEN,
        ),
    ] {
        let answer = send(&server, "/metrics", &[("accept", accept)]).await;
        assert_eq!(header(&answer, "content-type"), Some(content_type), "{accept}");
        assert_eq!(header(&answer, "vary"), Some("accept"), "{accept}");
        let text = answer.text().await.expect("a text");
        assert_eq!(text.ends_with("# EOF\n"), content_type == OPEN, "{accept}");
    }
    let text = send(&server, "/metrics", &[]).await.text().await.expect("a text");
    check_text_format(&text);
    for line in [
        "# TYPE presence_hub_logins_total counter",
        "presence_hub_logins_total{kind=\"login\"} 1",
        "# TYPE presence_hub_connections gauge",
        "# TYPE presence_hub_store_commit_seconds histogram",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
}

/// Asserts that each metric has one type, followed by its own samples.
fn check_text_format(text: &str) {
    let (mut name, mut kind, mut seen) = ("", "", Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            name = rest.split(' ').next().expect("a name");
            assert!(!seen.contains(&name), "{line}");
            seen.push(name);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, is) = rest.split_once(' ').expect("a type");
            assert_eq!(of, name, "{line}");
            kind = is;
            assert!(
                ["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind),
                "{line}"
            );
            continue;
        }
        assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
        let sample = line.split(['{', ' ']).next().expect("a name");
        let suffixes: &[&str] =
            if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(
            suffixes.iter().any(|suffix| sample == format!("{name}{suffix}")),
            "{name}: {line}"
        );
        assert!(
            line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()),
            "{line}"
        );
    }
    assert!(seen.len() > 10, "{text}");
}

#[tokio::test]
async fn keep_alive_outlasts_the_handshake_timeout_and_then_closes() {
    let server =
        Server::start(&[("server.handshake_timeout", "200ms"), ("server.keep_alive", "1500ms")]);
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let mut ask = async |pause| {
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n").await.expect("to send");
        let mut answer = [0; 4096];
        let read = timeout(SOON, stream.read(&mut answer)).await.expect("an answer");
        assert!(answer[..read.expect("an answer")].starts_with(b"HTTP/1.1 200"));
    };
    ask(0).await;
    ask(600).await;
    ask(600).await;
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("an end").expect("an end");
    assert_eq!(rest, b"");
}
