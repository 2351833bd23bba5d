//! Listening addresses, probes, static pages, development calls and TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use super::{ADMIN_KEY, json_of, refusal, refused};
use crate::support::{API_KEY, SOON, Server, http, make_certificate, token};

#[tokio::test]
async fn health_and_ready_answer_200() {
    let server = Server::start(&[]);
    for path in ["/health", "/ready"] {
        let answer = server.http("GET", path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert!(json_of(answer).await["status"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn metrics_need_a_key_except_from_loopback() {
    let server = Server::start(&[]);
    let (_ann, _) = server.login("ann", "web").await;
    let answer = server.http("GET", "/metrics").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("a text");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("presence_hub_"), "{line}");
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for line in [
        "presence_hub_connections 1",
        concat!("presence_hub_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "presence_hub_draining 0.0",
        "presence_hub_full 0.0",
        "presence_hub_logins_total{kind=\"login\"} 1",
        "presence_hub_sessions{platform=\"web\",state=\"Online\"} 1",
        "presence_hub_users{state=\"Online\"} 1",
        "presence_hub_transitions_total{cause=\"login\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("ann"), "user ids must not be labels");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let request = || server.http("GET", "/metrics").header(header, "127.0.0.1");
        assert_eq!(refused(request()).await, refusal(401, "unauthorized"), "{header}");
        let answer = request().bearer_auth(API_KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{header}");
    }
}

#[tokio::test]
async fn pages_have_security_headers_and_etags() {
    let server = Server::start(&[]);
    let get = async |path: &str| server.http("GET", path).send().await.expect("an answer");
    let home = get("/").await;
    assert!(home.status().is_redirection());
    assert_eq!(home.headers()["location"], "/static/");
    for (path, content_type) in [
        ("/static/", "text/html"),
        ("/static/index.html", "text/html"),
        ("/static/demo.html", "text/html"),
        ("/static/presence.js", "text/javascript"),
        ("/static/presence.mjs", "text/javascript"),
        ("/static/elements.js", "text/javascript"),
        ("/static/elements.mjs", "text/javascript"),
        ("/static/bindings.mjs", "text/javascript"),
        ("/static/react.mjs", "text/javascript"),
        ("/static/vue.mjs", "text/javascript"),
        ("/static/svelte.mjs", "text/javascript"),
        ("/static/style.css", "text/css"),
        ("/llms.txt", "text/plain; charset=utf-8"),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().expect("a text").to_owned();
        assert!(header("content-type").starts_with(content_type), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");

        let known = server.http("GET", path).header("if-none-match", header("etag"));
        let unchanged = known.send().await.expect("an answer");
        assert_eq!(unchanged.status(), 304, "{path}");
        assert_eq!(unchanged.headers()["etag"], answer.headers()["etag"]);
        assert_eq!(unchanged.text().await.expect("nothing"), "");
        let other = server.http("GET", path).header("if-none-match", "\"0\"");
        assert_eq!(other.send().await.expect("an answer").status(), 200, "{path}");
    }
}

#[tokio::test]
async fn path_traversal_is_not_found() {
    let server = Server::start(&[]);
    for path in [
        "/static/../config.toml",
        "/static/..%2fconfig.toml",
        "/static/%2e%2e/config.toml",
        "/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/..\\config.toml",
        "/static/index.html%00",
        "/static/nothing.js",
        "/static/presence.js/",
        "/../etc/passwd",
        "/log",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("to send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

/// The address of a face, from the log.
pub(super) async fn face(server: &Server, name: &str) -> SocketAddr {
    let line = server.until_logged(&["listening", &format!("face={name}")]).await;
    let address = line.split("address=").nth(1).expect("an address");
    address.split(' ').next().and_then(|address| address.parse().ok()).expect("an address")
}

#[tokio::test]
async fn admin_and_metrics_can_have_their_own_addresses() {
    let server = Server::start(&[
        ("server.admin_listen", "127.0.0.1:0"),
        ("server.metrics_listen", "127.0.0.1:0"),
        ("tencent.sdk_app_id", "7"),
        ("tencent.secret_key", "what only the application knows"),
    ]);
    let (_ann, _) = server.login("ann", "web").await;
    let (admin, metrics) = (face(&server, "Admin").await, face(&server, "Metrics").await);
    let rows = [
        ("/v1/users/ann", [404, 200, 404]),
        ("/v1/stats", [404, 200, 404]),
        ("/v4/openim/querystate", [404, 200, 404]),
        ("/static/", [404, 200, 404]),
        ("/static/index.html", [404, 200, 404]),
        ("/static/presence.js", [200, 200, 404]),
        ("/static/presence.mjs", [200, 200, 404]),
        ("/llms.txt", [200, 200, 404]),
        ("/static/elements.js", [200, 200, 404]),
        ("/static/elements.mjs", [200, 200, 404]),
        ("/static/bindings.mjs", [200, 200, 404]),
        ("/static/react.mjs", [200, 200, 404]),
        ("/static/vue.mjs", [200, 200, 404]),
        ("/static/svelte.mjs", [200, 200, 404]),
        ("/static/test.mjs", [404, 200, 404]),
        ("/ws", [426, 404, 404]),
        ("/health", [200, 200, 404]),
        ("/ready", [200, 200, 404]),
        ("/metrics", [404, 404, 200]),
    ];
    for (path, expected) in rows {
        for (address, expected) in [server.address, admin, metrics].into_iter().zip(expected) {
            let request = http(address, "GET", path).bearer_auth(API_KEY);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), expected, "{address}{path}");
        }
    }
    let forwarded = http(metrics, "GET", "/metrics").header("x-forwarded-for", "::1");
    let answer = forwarded.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "the metrics address needs no key");
    assert!(answer.text().await.expect("a text").contains("presence_hub_connections 1"));
}

#[tokio::test]
async fn the_dashboard_is_served_on_the_admin_address() {
    let (server, _) = in_development(&[("server.admin_listen", "127.0.0.1:0")]);
    let admin = face(&server, "Admin").await;
    let dashboard = server.greeting.lines().find(|line| line.contains("dashboard")).expect("it");
    assert!(dashboard.contains(&format!("http://{admin}/static/#key=")), "{dashboard}");
    let rows = [
        ("/static/", [404, 200]),
        ("/static/index.html", [404, 200]),
        ("/static/dashboard/nothing.js", [404, 404]),
        ("/static/demo.html", [200, 200]),
        ("/static/style.css", [200, 200]),
        ("/static/presence.js", [200, 200]),
        ("/v1/admin/session", [404, 401]),
    ];
    for (path, expected) in rows {
        for (address, expected) in [server.address, admin].into_iter().zip(expected) {
            let answer = http(address, "GET", path).send().await.expect("an answer");
            assert_eq!(answer.status(), expected, "{address}{path}");
        }
    }
}

/// A hub in development mode, and its development key.
fn in_development(settings: &[(&str, &str)]) -> (Server, String) {
    let settings = [&[("auth.secret", ""), ("auth.api_keys", "[]")], settings].concat();
    let server = Server::start(&settings);
    let path = server.directory.path().join("data/dev-key");
    let key = std::fs::read_to_string(path).expect("a key").trim().to_owned();
    (server, key)
}

#[tokio::test]
async fn development_calls_need_a_loopback_host_and_the_dev_key() {
    let (server, key) = in_development(&[]);
    let call = |path: &str| server.http("POST", path).body(json!({ "user": "ann" }).to_string());
    for path in ["/dev/token", "/dev/ignore"] {
        for request in [
            call(path),
            call(path).header("x-dev-key", "not-the-key-of-this-hub"),
            call(path).header("x-dev-key", ""),
            call(path).bearer_auth(&key),
        ] {
            let (status, code) = refused(request).await;
            // The body is parsed before the key is checked, and `/dev/ignore` requires a session.
            assert!([400, 401].contains(&status), "{path}: {status} {code}");
        }
    }
    assert_eq!(refused(call("/dev/token")).await, refusal(401, "unauthorized"));
    for host in ["hub.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"] {
        let request = call("/dev/token").header("x-dev-key", &key).header("host", host);
        assert_eq!(refused(request).await, refusal(403, "forbidden"), "{host}");
    }
    for host in ["localhost", "localhost:7800", "127.0.0.1:1", "[::1]", "[::1]:7800"] {
        let request = call("/dev/token").header("x-dev-key", &key).header("host", host);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{host}");
        let token = json_of(answer).await["token"].clone();
        let mut client = server.connect().await;
        let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
        assert_eq!(client.ok(login).await["user"], "ann");
    }
    // The development key is not valid for the server API; the generated admin key is.
    let stats = || server.http("GET", "/v1/stats");
    assert_eq!(refused(stats().bearer_auth(&key)).await, refusal(401, "unauthorized"));
    let path = server.directory.path().join("data/admin-key");
    let admin = std::fs::read_to_string(path).expect("a key");
    let answer = stats().bearer_auth(admin.trim()).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_development_token_can_be_limited_to_one_platform() {
    let (server, key) = in_development(&[]);
    let mint = async |body: Value| {
        let request = server.http("POST", "/dev/token").header("x-dev-key", &key);
        request.body(body.to_string()).send().await.expect("an answer")
    };
    let token = json_of(mint(json!({ "user": "ann", "platform": "mac" })).await).await;
    let mut client = server.connect().await;
    let login = |platform: &str| json!({ "type": "login", "token": token["token"], "platform": platform, "device": "d" });
    assert_eq!(client.error(login("web")).await, "platform_not_allowed");
    let mut client = server.connect().await;
    client.ok(login("mac")).await;
    let wrong = [
        json!({}),
        json!({ "user": "" }),
        json!({ "user": "ann", "platform": "x" }),
        json!({ "user": "ann", "ttl": 5 }),
        json!({ "user": "ann", "ttl": "366d" }),
    ];
    for body in wrong {
        assert_eq!(mint(body.clone()).await.status(), 400, "{body}");
    }
}

#[tokio::test]
async fn a_development_token_has_the_requested_ttl() {
    let (server, key) = in_development(&[]);
    let request = server.http("POST", "/dev/token").header("x-dev-key", &key);
    let answer = request.body(r#"{"user":"ann","ttl":"75s"}"#).send().await.expect("an answer");
    let token = json_of(answer).await["token"].clone();
    let mut client = server.connect().await;
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    let answer = client.ok(login).await;
    let ttl =
        answer["expires_at"].as_u64().expect("a time") - answer["now"].as_u64().expect("a time");
    assert!((73_000..=75_000).contains(&ttl), "{ttl} ms");
}

#[tokio::test]
async fn an_ignored_session_ends_by_silence() {
    let windows = [("liveness.web_ping", "200ms"), ("liveness.web_silence", "700ms")];
    let (server, key) = in_development(&windows);
    let answer = server.http("POST", "/dev/token").header("x-dev-key", &key);
    let answer = answer.body(r#"{"user":"ann"}"#).send().await.expect("an answer");
    let token = json_of(answer).await["token"].clone();
    let mut client = server.connect().await;
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    let session = client.ok(login).await["session"].clone();
    let ignore = async |session: Value| {
        let request = server.http("POST", "/dev/ignore").header("x-dev-key", &key);
        let body = json!({ "user": "ann", "session": session });
        request.body(body.to_string()).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ignore(json!("0".repeat(32))).await, 404);
    assert_eq!(ignore(session).await, 200);
    server.until_logged(&["session ended", "silence", "ann"]).await;
}

struct Tls {
    server: Server,
    connector: TlsConnector,
    _files: tempfile::TempDir,
}

impl Tls {
    fn start(settings: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let (certificate, key) = make_certificate(files.path());
        let tls =
            [("server.tls_certificate", certificate.as_str()), ("server.tls_key", key.as_str())];
        let server = Server::start(&[&tls, settings].concat());
        let mut roots = rustls::RootCertStore::empty();
        let anchor = CertificateDer::from_pem_file(&certificate).expect("a certificate");
        roots.add(anchor).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server, connector: Arc::new(config).into(), _files: files }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.server.address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        self.connector.connect(name, stream).await.expect("TLS")
    }
}

#[tokio::test]
async fn the_hub_serves_tls_with_a_certificate() {
    let tls = Tls::start(&[
        ("server.handshake_timeout", "1s"),
        ("auth.admin_keys", &format!("[\"{ADMIN_KEY}\"]")),
    ]);
    assert!(tls.server.greeting.contains("https://"), "{}", tls.server.greeting);
    let mut stream = tls.connect().await;
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("to send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = tls.connect().await;
    let login = format!(r#"{{"key":"{ADMIN_KEY}"}}"#);
    let head = format!(
        "POST /v1/admin/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        login.len()
    );
    stream.write_all(format!("{head}{login}").as_bytes()).await.expect("to send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie: ")).expect("a cookie");
    assert!(cookie.ends_with("; Secure"), "{cookie}");

    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://localhost/ws", tls.connect().await)
            .await
            .expect("an upgrade");
    let login = json!({
        "type": "login", "id": 1, "token": token("ann"), "platform": "linux", "device": "d",
    });
    socket.send(Message::text(login.to_string())).await.expect("to send");
    let reply = socket.next().await.expect("a reply").expect("a reply");
    let reply: Value = serde_json::from_str(reply.to_text().expect("a text")).expect("JSON");
    assert_eq!(reply["ok"]["user"], "ann");
    drop(socket);
    tls.server.until_logged(&["session ended", "ann"]).await;

    // Clients without TLS, and silent ones, are disconnected.
    let mut plain = TcpStream::connect(tls.server.address).await.expect("a connection");
    plain.write_all(request).await.expect("to send");
    let mut silent = TcpStream::connect(tls.server.address).await.expect("a connection");
    let mut said = Vec::new();
    // A reset also counts as the end.
    timeout(SOON, plain.read_to_end(&mut said)).await.expect("an end").ok();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    timeout(SOON, silent.read_to_end(&mut said)).await.expect("an end").ok();
}
