//! Accepts connections, bounds how many there are, and answers their requests over HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::peer::{Held, Peer};
use crate::http::door::Door;

/// How many connections the kernel holds that were not accepted yet.
const BACKLOG: u32 = 4096;
/// How much the kernel holds for a client that does not read: past it, the hub conflates.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// How much of a request's head is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long the next accept waits when one has failed, as for want of file descriptors.
const ACCEPT_PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// A bound address.
pub struct Listener {
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}: {1}")]
pub struct ListenFault(SocketAddr, io::Error);

impl Listener {
    /// The address, its port chosen where it was 0.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Binds an address.
///
/// # Errors
///
/// Where the address is taken, or not this machine's.
pub fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Listener, ListenFault> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // What is accepted inherits it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = bind().map_err(|error| ListenFault(address, error))?;
    Ok(Listener { listener, tls })
}

/// Accepts connections and answers their requests by a router, for as long as the process lives.
pub async fn serve(listener: Arc<Listener>, door: Arc<Door>, router: Router) {
    let [first_pause, longest_pause] = ACCEPT_PAUSE;
    let mut pause = first_pause;
    loop {
        let (stream, address) = match listener.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                door.hub.metrics().accept_errors.inc();
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest_pause);
                continue;
            }
        };
        pause = first_pause;
        let Ok(place) = Arc::clone(&door.sockets).try_acquire_owned() else {
            // What is left of the file descriptors is not for clients.
            door.hub.metrics().accept_errors.inc();
            continue;
        };
        let held = Held(Arc::new(place));
        // Without it, a small frame may wait for the acknowledgement of the one before.
        stream.set_nodelay(true).ok();
        let (router, tls) = (router.clone(), listener.tls.clone());
        let peer = Peer { address, is_tls: tls.is_some() };
        let settings = door.settings();
        let patience = Patience {
            first: settings.handshake_timeout,
            next: settings.keep_alive.max(settings.handshake_timeout),
        };
        tokio::spawn(async move {
            match tls {
                None => answer(stream, router, peer, held, patience).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(patience.first, tls.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        answer(stream, router, peer, held, patience).await;
                    }
                }
            }
        });
    }
}

/// How long a connection may take to ask.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For its first request to arrive.
    first: Duration,
    /// For each further one, from the answer before: a balancer keeps connections for later, and must
    /// be the one that closes them, or a request of its meets the end.
    next: Duration,
}

/// Answers the requests of one connection; an upgrade takes it away.
async fn answer<S>(stream: S, router: Router, peer: Peer, held: Held, patience: Patience)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (asked, mut has_asked) = oneshot::channel();
    let asked = Mutex::new(Some(asked));
    let service = service_fn(move |request: Request<Incoming>| {
        if let Some(asked) = asked.lock().take() {
            // Fails where the time is over.
            asked.send(()).ok();
        }
        let mut router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(held.clone());
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|e| match e {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let in_time = tokio::time::timeout(patience.first, &mut has_asked);
    let end = tokio::select! {
        biased;
        end = &mut connection => Some(end),
        asked = in_time => match asked {
            Ok(_) => Some(connection.await),
            Err(_) => None,
        },
    };
    match end {
        Some(Ok(())) => (),
        Some(Err(error)) => {
            tracing::debug!(peer = %peer.address, %error, "a connection ended badly");
        }
        None => tracing::debug!(peer = %peer.address, "no request came in time"),
    }
}
