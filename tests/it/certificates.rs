//! TLS: the certificate is replaced while the hub runs, ALPN, and the address without TLS beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;

use crate::support::{Client, SOON, Server, http, make_certificate, now_secs, token, until};

const LOADED: &str = "TLS certificate loaded";
const UNUSABLE: &str = "TLS certificate cannot be loaded, the one in use stays";

/// A hub with TLS, and two pairs of certificate and key. It uses the first.
struct Hub {
    server: Server,
    files: TempDir,
    pairs: [Pair; 2],
}

struct Pair {
    directory: TempDir,
    certificate: CertificateDer<'static>,
}

impl Pair {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, _) = make_certificate(directory.path());
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        Self { directory, certificate }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Hub {
    fn start(settings: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let pairs = [Pair::new(), Pair::new()];
        for name in ["certificate.pem", "key.pem"] {
            fs::copy(pairs[0].file(name), files.path().join(name)).expect("to copy");
        }
        let server = Self::serve(files.path(), settings);
        Self { server, files, pairs }
    }

    fn serve(files: &Path, settings: &[(&str, &str)]) -> Server {
        let path = |name: &str| files.join(name).display().to_string();
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        let tls =
            [("server.tls_certificate", certificate.as_str()), ("server.tls_key", key.as_str())];
        Server::with_file("", &[&tls, settings].concat())
    }

    /// Copies a file of a pair over the hub's.
    fn put(&self, pair: usize, name: &str) {
        fs::copy(self.pairs[pair].file(name), self.files.path().join(name)).expect("to copy");
    }

    /// Connects, offering these protocols (ALPN).
    async fn try_connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        for pair in &self.pairs {
            roots.add(pair.certificate.clone()).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.server.address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect(&[]).await.expect("TLS")
    }

    /// Which pair a new connection gets.
    async fn pair_in_use(&self) -> usize {
        let stream = self.connect().await;
        let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone();
        let found = self.pairs.iter().position(|pair| pair.certificate == shown);
        found.expect("one of the two")
    }

    async fn until_in_use(&self, pair: usize) {
        until("the certificate", async || self.pair_in_use().await == pair).await;
    }

    async fn login(&self, user: &str) -> Client<TlsStream<TcpStream>> {
        let stream = self.connect().await;
        let (socket, _) = client_async("wss://localhost/ws", stream).await.expect("an upgrade");
        let mut client = Client::over(socket, SOON);
        client
            .ok(json!({
                "type": "login", "token": token(user), "platform": "linux", "device": "d",
            }))
            .await;
        client
    }

    fn lines(&self, text: &str) -> usize {
        self.server.log().lines().filter(|line| line.contains(text)).count()
    }
}

#[tokio::test]
async fn a_changed_certificate_is_loaded_and_open_connections_go_on() {
    let hub = Hub::start(&[("server.plain_listen", "127.0.0.1:0")]);
    assert_eq!(hub.pair_in_use().await, 0);
    let mut ann = hub.login("ann").await;
    hub.put(1, "key.pem");
    hub.put(1, "certificate.pem");
    hub.until_in_use(1).await;
    until("the second line", async || hub.lines(LOADED) == 2).await;
    let line = hub.server.until_logged(&[LOADED]).await;
    assert!(line.contains("certificate.pem") && line.contains("expires=\"20"), "{line}");

    let status = ann.ok(json!({ "type": "query", "users": ["ann"] })).await;
    assert_eq!(status["statuses"][0]["state"], "Online", "{status}");
    assert_eq!(hub.lines("session ended"), 0);

    let plain = hub.server.listening(&["face=Whole", "tls=false"]).await;
    let metrics = http(plain, "GET", "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a text");
    let name = "presence_hub_tls_certificate_expiry_timestamp_seconds ";
    let expiry = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
    let left = expiry.parse::<f64>().expect("a number") - now_secs() as f64;
    assert!((80_000.0..=86_400.0).contains(&left), "valid for one day, {left} s left");
}

#[tokio::test]
async fn a_certificate_behind_a_replaced_link_is_loaded() {
    // As Kubernetes does it: the files are links through `..data`, which is replaced as a whole.
    let pairs = [Pair::new(), Pair::new()];
    let files = tempfile::tempdir().expect("a directory");
    let at = |name: &str| files.path().join(name);
    symlink(pairs[0].directory.path(), at("..data")).expect("a link");
    for name in ["certificate.pem", "key.pem"] {
        symlink(Path::new("..data").join(name), at(name)).expect("a link");
    }
    let server = Hub::serve(files.path(), &[]);
    let hub = Hub { server, files, pairs };
    assert_eq!(hub.pair_in_use().await, 0);
    let at = |name: &str| hub.files.path().join(name);
    symlink(hub.pairs[1].directory.path(), at("..new")).expect("a link");
    fs::rename(at("..new"), at("..data")).expect("to replace the link");
    hub.until_in_use(1).await;
}

#[tokio::test]
async fn sighup_loads_the_certificate_at_once() {
    let hub = Hub::start(&[]);
    hub.put(1, "key.pem");
    hub.put(1, "certificate.pem");
    hub.server.signal(Signal::HUP);
    hub.server.until_logged(&["configuration reloaded"]).await;
    assert_eq!(hub.pair_in_use().await, 1);
    let log = hub.server.log();
    let reloaded = log.find("configuration reloaded").expect("the line");
    assert_eq!(log[..reloaded].matches(LOADED).count(), 2, "loaded by the reload:\n{log}");
    assert!(!log.contains("need a restart"), "{log}");
}

#[tokio::test]
async fn an_unusable_pair_is_warned_about_once_and_the_old_one_stays() {
    let hub = Hub::start(&[]);
    hub.put(1, "key.pem");
    let line = hub.server.until_logged(&["WARN", UNUSABLE]).await;
    assert!(line.contains("certificate.pem"), "{line}");
    assert_eq!(hub.pair_in_use().await, 0);
    hub.server.signal(Signal::HUP);
    hub.server.until_logged(&["ERROR", "reload failed, configuration unchanged"]).await;
    assert_eq!(hub.pair_in_use().await, 0);
    // The pair is tried again every 2 s.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(hub.lines(UNUSABLE), 1);

    let half = fs::read(hub.pairs[1].file("certificate.pem")).expect("a certificate");
    let path = hub.files.path().join("certificate.pem");
    fs::write(&path, &half[..half.len() / 2]).expect("to write");
    until("the second warning", async || hub.lines(UNUSABLE) == 2).await;
    fs::remove_file(&path).expect("to remove");
    until("the third warning", async || hub.lines(UNUSABLE) == 3).await;
    assert_eq!(hub.pair_in_use().await, 0);
    fs::write(&path, &half).expect("to write");
    hub.until_in_use(1).await;
    until("the last line", async || hub.lines(LOADED) == 2).await;
    assert_eq!(hub.lines(UNUSABLE), 3);
}

#[tokio::test]
async fn http_1_1_is_negotiated() {
    let hub = Hub::start(&[]);
    let stream = hub.try_connect(&["h2", "http/1.1"]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let stream = hub.try_connect(&[]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let refused = hub.try_connect(&["h2"]).await.expect_err("no protocol in common");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn an_address_without_tls_serves_the_same_beside_tls() {
    let hub = Hub::start(&[
        ("server.plain_listen", "127.0.0.1:0"),
        ("server.admin_listen", "127.0.0.1:0"),
    ]);
    let plain = hub.server.listening(&["face=Clients", "tls=false"]).await;
    let tls = hub.server.listening(&["face=Clients", "tls=true"]).await;
    assert_eq!(tls, hub.server.address);
    for (path, expected) in [("/health", 200), ("/ready", 200), ("/v1/stats", 404), ("/", 404)] {
        let answer = http(plain, "GET", path).send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{path}");
    }
    let stream = TcpStream::connect(plain).await.expect("a connection");
    let url = format!("ws://{plain}/ws");
    let (socket, _) = client_async(url, stream).await.expect("an upgrade");
    let mut bob = Client::over(socket, SOON);
    bob.login("bob", "linux", "d").await;
    let mut ann = hub.login("ann").await;
    let status = ann.ok(json!({ "type": "query", "users": ["bob"] })).await;
    assert_eq!(status["statuses"][0]["state"], "Online", "{status}");
}
