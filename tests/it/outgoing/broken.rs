//! Servers that answer something that is not HTTP, or an error whose body never ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::{SOON, Server, WEBHOOK_SECRET, until};

const ERROR: &str = "HTTP/1.1 500 Broken\r\nContent-Type: text/plain\r\n\r\n";

/// A server that answers each request with a beginning, and then with a part again and again.
struct Endless {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    /// How many of them the client has closed.
    closed: Arc<AtomicU64>,
    /// The bytes that the kernel took, over all connections.
    sent: Arc<AtomicU64>,
}

impl Endless {
    /// Without a part, it sends nothing after the beginning.
    async fn start(begin: &'static str, part: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let endless = Self {
            address,
            connections: Arc::default(),
            closed: Arc::default(),
            sent: Arc::default(),
        };
        let (connections, closed) = (Arc::clone(&endless.connections), Arc::clone(&endless.closed));
        let sent = Arc::clone(&endless.sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (closed, sent) = (Arc::clone(&closed), Arc::clone(&sent));
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await.expect("a request");
                    stream.write_all(begin.as_bytes()).await.ok();
                    let parts = part.repeat(500);
                    if parts.is_empty() {
                        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
                    }
                    while !parts.is_empty()
                        && let Ok(count) = stream.write(parts.as_bytes()).await
                    {
                        sent.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        endless
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Waits until all connections are closed; of each, not much more was read than fits in the
    /// kernel's buffers.
    async fn until_closed(&self) {
        const EACH_MAX: u64 = 32 * 1024 * 1024;
        let count = |number: &AtomicU64| number.load(Ordering::SeqCst);
        assert!(count(&self.connections) > 0);
        until("the end of the connections", async || {
            count(&self.closed) == count(&self.connections)
        })
        .await;
        let (sent, connections) = (count(&self.sent), count(&self.connections));
        assert!(sent / connections < EACH_MAX, "{sent} bytes on {connections} connections");
    }
}

/// What is not HTTP, and errors without an end: the beginning, and what follows again and again.
const BROKEN: [(&str, &str, &str); 5] = [
    ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n", ""),
    ("noise without an end", "", "no HTTP at all\r\n"),
    ("a head without an end", "HTTP/1.1 500 Broken\r\nX: ", "xxxxxxxxxxxxxxxxxxxxxxxx"),
    ("a body without an end", ERROR, "out of order, out of order, "),
    ("a body that stops", ERROR, ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_receiver_with_a_broken_answer_is_refused_in_time() {
    for (name, begin, part) in BROKEN {
        let endless = Endless::start(begin, part).await;
        let (url, secrets) = (endless.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
        // So long that an error in time is not this timeout.
        let settings = [
            ("webhook.url", url.as_str()),
            ("webhook.secrets", &secrets),
            ("webhook.timeout", "60s"),
        ];
        let server = Server::start(&settings);
        let test = server.call("POST", "/v1/webhooks/test", None);
        let (_, tested) = timeout(SOON, test).await.unwrap_or_else(|_| panic!("{name}: no end"));
        assert_eq!(tested["accepted"], false, "{name}");
        let error = tested["error"].as_str().unwrap_or_else(|| panic!("{name}: {tested}"));
        assert_eq!(error.starts_with("status 500"), begin == ERROR, "{name}: {error}");
        assert!(!error.is_empty() && error.len() < 300, "{name}: {error}");
        endless.until_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_key_sets_with_a_broken_answer_makes_logins_unavailable_in_time() {
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA";
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    for (name, begin, part) in BROKEN {
        let endless = Endless::start(begin, part).await;
        let url = endless.url();
        let server = Server::start(&[
            ("auth.algorithm", "ES256"),
            ("auth.secret", ""),
            ("auth.jwks_url", &url),
        ]);
        let mut client = server.connect().await;
        assert_eq!(client.error(login.clone()).await, "unavailable", "{name}");
        assert_eq!(client.until_closed().await, (Vec::<Value>::new(), Some(4006)), "{name}");
        let line = server.until_logged(&["the JWK set cannot be fetched"]).await;
        assert!(!line.contains("no answer within"), "{name}: {line}");
        assert_eq!(line.contains("expected status 2xx"), begin == ERROR, "{name}: {line}");
        endless.until_closed().await;
    }
}
