//! What happens to requests: refused addresses, endless interim answers, TLS and proxies.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::outgoing::{Fault, Outgoing};
use rustix::process::Signal;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::endless::Endless;
use crate::receiver::{Act, Receiver};
use crate::support::{SOON, Server, WEBHOOK_SECRET, make_certificate, until};

const NO_HEADERS: &[(&str, String)] = &[];

/// A server that sends interim answers without end.
async fn flood() -> Endless {
    Endless::start("", "HTTP/1.1 102 Processing\r\n\r\n").await
}

async fn last_error(server: &Server) -> String {
    let (_, state) = server.call("GET", "/v1/webhooks", None).await;
    let failures = state["delivery"]["failures"].as_array().cloned().unwrap_or_default();
    failures.last().and_then(|last| last["error"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn names_are_checked_by_the_addresses_that_they_resolve_to() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let named = format!("http://localhost:{}/hook?canary", receiver.address.port());
    let url = named.parse().expect("a URL");
    let strict = Outgoing::new(false).expect("a client");
    let refused = strict.post(&url, NO_HEADERS, "{}".into()).await.expect_err("a refusal");
    assert!(matches!(refused, Fault::Refused { .. }), "{refused:?}");
    let said = refused.to_string();
    let url_shown = format!("http://localhost:{}/hook?(hidden): ", receiver.address.port());
    assert!(said.starts_with(&url_shown), "{said}");
    let address = said.contains("127.0.0.1 is a loopback") || said.contains("::1 is a loopback");
    assert!(address && said.contains("outgoing.allow_private = true"), "{said}");
    assert!(receiver.came().is_empty());

    let open = Outgoing::new(true).expect("a client");
    let answer = open.post(&url, NO_HEADERS, "{}".into()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    for url in ["http://169.254.169.254/", "http://[::ffff:100.100.100.200]/"] {
        let refused = open.get(&url.parse().expect("a URL")).await.expect_err("a refusal");
        assert!(matches!(refused, Fault::Refused { .. }), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_to_a_private_address_needs_allow_private() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let file = |allow: bool| {
        format!(
            "[webhook]\nurl = \"http://localhost:{}/hook\"\nsecrets = [\"{WEBHOOK_SECRET}\"]\n\
             [outgoing]\nallow_private = {allow}\n",
            receiver.address.port()
        )
    };
    let server = Server::with_file(&file(false), &[]);
    let _ann = server.login("ann", "web").await;
    until("the failure", async || last_error(&server).await.contains("is a loopback address"))
        .await;
    assert!(receiver.came().is_empty());

    std::fs::write(server.directory.path().join("config.toml"), file(true)).expect("to write");
    server.signal(Signal::HUP);
    until("the delivery", async || !receiver.taken().is_empty()).await;

    // And back, although a connection to the receiver is open.
    let delivered = receiver.taken().len();
    std::fs::write(server.directory.path().join("config.toml"), file(false)).expect("to write");
    server.signal(Signal::HUP);
    let reloads = async || server.log().matches("configuration reloaded").count() == 2;
    until("the second reload", reloads).await;
    let _bob = server.login("bob", "web").await;
    until("the failure", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        state["backlog"]["events"] == 1 && state["delivery"]["waiting"] == 1
    })
    .await;
    assert_eq!(receiver.taken().len(), delivered);
}

#[tokio::test]
async fn a_key_set_at_a_private_address_needs_allow_private() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let url = format!("http://localhost:{}/keys.json", receiver.address.port());
    let server = Server::start(&[
        ("auth.algorithm", "ES256"),
        ("auth.secret", ""),
        ("auth.jwks_url", &url),
        ("outgoing.allow_private", "false"),
    ]);
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA";
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    let mut client = server.connect().await;
    assert_eq!(client.error(login).await, "unavailable");
    let line = server.until_logged(&["the JWK set cannot be fetched", "loopback address"]).await;
    assert!(line.contains(&url) && line.contains("outgoing.allow_private"), "{line}");
    assert!(receiver.came().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_interim_answers_end_the_request_at_once() {
    let flood = flood().await;
    let client = Outgoing::new(true).expect("a client");
    let url = flood.url().parse().expect("a URL");
    for _ in 0..5 {
        let fault = timeout(SOON, client.get(&url)).await.expect("an end").expect_err("no answer");
        assert!(matches!(fault, Fault::Interim), "{fault:?}");
    }
    flood.until_closed().await;
    assert_eq!(flood.connections(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_receiver_that_sends_endless_interim_answers_is_named() {
    let flood = flood().await;
    let (url, secrets) = (flood.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let server = Server::start(&settings);
    let _ann = server.login("ann", "web").await;
    until("three attempts", async || flood.connections() >= 3).await;
    let error = last_error(&server).await;
    assert!(error.starts_with("over 16 interim answers (status 1xx)"), "{error}");
    flood.assert_little_was_read();
}

#[tokio::test]
async fn a_few_interim_answers_are_skipped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.expect("a request");
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(16);
            let answer = format!("{hint}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    let client = Outgoing::new(true).expect("a client");
    let mut answer = client.get(&url.parse().expect("a URL")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.chunk().await.expect("a body").as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_not_used() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let environment =
        ["env", "http_proxy=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9", "no_proxy="];
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let server = Server::under(&environment, &settings);
    let (status, tested) = server.call("POST", "/v1/webhooks/test", None).await;
    assert_eq!((status, tested), (200, json!({ "accepted": true, "error": Value::Null })));
}

#[tokio::test]
async fn a_webhook_over_tls_needs_a_trusted_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let (certificate, key) = make_certificate(directory.path());
    let chain = vec![CertificateDer::from_pem_file(&certificate).expect("a certificate")];
    let private = PrivateKeyDer::from_pem_file(&key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.expect("a request");
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.ok();
            stream.shutdown().await.ok();
        }
    });
    let (url, secrets) = (format!("https://localhost:{port}/"), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let trusting = Server::under(&["env", &format!("SSL_CERT_FILE={certificate}")], &settings);
    let (_, tested) = trusting.call("POST", "/v1/webhooks/test", None).await;
    assert_eq!(tested, json!({ "accepted": true, "error": Value::Null }));

    let server = Server::start(&settings);
    let test = server.call("POST", "/v1/webhooks/test", None);
    let (_, tested) = timeout(SOON + Duration::from_secs(5), test).await.expect("an answer");
    assert_eq!(tested["accepted"], false);
    let error = tested["error"].as_str().expect("an error");
    assert!(error.contains("certificate"), "{error}");
}
