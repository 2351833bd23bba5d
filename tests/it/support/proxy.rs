//! A TCP proxy between hubs and Redis, which holds packets back, cuts connections, and leads to another server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a connection sends when it subscribes to the feed. Connections for commands never send it.
const SUBSCRIBES: &[u8] = b"SSUBSCRIBE";

/// Whose packets are held back. They arrive when the hold is over, as if they were sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    /// Those of the connections that subscribed to the feed.
    Feed,
    /// Those that the server sends.
    Answers,
    All,
}

/// A proxy on a port of its own. Dropping it closes its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    held: watch::Sender<Held>,
    /// The port of the server. A change cuts all connections.
    server: watch::Sender<u16>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to a server on this machine.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (held, server) = (watch::Sender::new(Held::Nothing), watch::Sender::new(port));
        let (holds, servers) = (held.subscribe(), server.subscribe());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, holds.clone(), servers.clone()));
            }
        });
        Self { address, held, server, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }

    /// Cuts all connections; new ones lead to this server.
    pub(crate) fn lead_to(&self, port: u16) {
        self.server.send_replace(port);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, held: watch::Receiver<Held>, mut server: watch::Receiver<u16>) {
    let port = *server.borrow_and_update();
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let is_feed = Arc::new(AtomicBool::new(false));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), upstream.into_split());
    let [requests, answers] = [false, true].map(|is_answers| Pump {
        is_answers,
        is_feed: Arc::clone(&is_feed),
        held: held.clone(),
    });
    tokio::select! {
        () = requests.run(from_client, to_server) => (),
        () = answers.run(from_server, to_client) => (),
        // Also when the proxy is dropped.
        _ = server.changed() => (),
    }
}

/// One direction of a connection.
struct Pump {
    is_answers: bool,
    is_feed: Arc<AtomicBool>,
    held: watch::Receiver<Held>,
}

impl Pump {
    /// Passes bytes on until one side closes.
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..count];
            if bytes.windows(SUBSCRIBES.len()).any(|some| some == SUBSCRIBES) {
                self.is_feed.store(true, Ordering::Relaxed);
            }
            let passes = |held: &Held| match held {
                Held::Nothing => true,
                Held::Feed => !self.is_feed.load(Ordering::Relaxed),
                Held::Answers => !self.is_answers,
                Held::All => false,
            };
            if self.held.wait_for(passes).await.is_err() || to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}
