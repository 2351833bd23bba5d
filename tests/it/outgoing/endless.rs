//! A server whose answers do not end, or end too early.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::until;

/// A server that answers each request with a beginning, and then with a part again and again.
pub(super) struct Endless {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    /// How many of them the client has closed.
    closed: Arc<AtomicU64>,
    /// The bytes that the kernel took, over all connections.
    sent: Arc<AtomicU64>,
}

impl Endless {
    /// Without a part, it sends nothing after the beginning.
    pub(super) async fn start(begin: &'static str, part: &'static str) -> Self {
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

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until all connections are closed, and little was read from each.
    pub(super) async fn until_closed(&self) {
        until("the end of the connections", async || {
            self.closed.load(Ordering::SeqCst) == self.connections()
        })
        .await;
        self.assert_little_was_read();
    }

    /// Asserts that of each connection not much more was read than fits in the kernel's buffers.
    pub(super) fn assert_little_was_read(&self) {
        const EACH_MAX: u64 = 32 * 1024 * 1024;
        let (sent, connections) = (self.sent.load(Ordering::SeqCst), self.connections());
        assert!(connections > 0);
        assert!(sent / connections < EACH_MAX, "{sent} bytes on {connections} connections");
    }
}
