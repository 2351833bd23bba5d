//! Accepts connections, limits their number, and serves HTTP/1.1 on them.

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

use super::peer::{Peer, SocketPermit};
use crate::http::state::AppState;

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: u32 = 4096;
/// The kernel's buffer for a client that does not read. Beyond it, the hub conflates.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// The size limit of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The first and the longest pause after a failed accept, for example without file descriptors.
const ACCEPT_PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// A bound address, with TLS or without.
pub struct Listener {
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}: {1}")]
pub struct ListenFault(SocketAddr, io::Error);

impl Listener {
    /// The bound address, with the chosen port if it was 0.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Binds an address.
///
/// # Errors
///
/// If the address is in use, or not an address of this machine.
pub fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Listener, ListenFault> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = bind().map_err(|error| ListenFault(address, error))?;
    Ok(Listener { listener, tls })
}

/// Accepts connections and serves them with a router; runs for ever.
pub async fn serve(listener: Arc<Listener>, app: Arc<AppState>, router: Router) {
    let [first_pause, longest_pause] = ACCEPT_PAUSE;
    let mut pause = first_pause;
    loop {
        let (stream, address) = match listener.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                app.hub.metrics().accept_errors.inc();
                tracing::warn!(%error, "accept failed, retrying");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest_pause);
                continue;
            }
        };
        pause = first_pause;
        let Ok(permit) = Arc::clone(&app.socket_permits).try_acquire_owned() else {
            // The remaining file descriptors are for the store and the webhook.
            app.hub.metrics().accept_errors.inc();
            continue;
        };
        let held = SocketPermit(Arc::new(permit));
        // With Nagle's algorithm, a small frame could wait for the previous acknowledgement.
        stream.set_nodelay(true).ok();
        let (router, tls) = (router.clone(), listener.tls.clone());
        let peer = Peer { address, is_tls: tls.is_some() };
        let settings = app.settings();
        let timeouts = Timeouts {
            first: settings.handshake_timeout,
            next: settings.keep_alive.max(settings.handshake_timeout),
        };
        tokio::spawn(async move {
            match tls {
                None => answer(stream, router, peer, held, timeouts).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(timeouts.first, tls.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        answer(stream, router, peer, held, timeouts).await;
                    }
                }
            }
        });
    }
}

/// The timeouts for a connection's requests.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// For the first request.
    first: Duration,
    /// For each further request, from the previous answer. Load balancers reuse connections, and must
    /// be the ones to close them: otherwise a request can meet a closed connection.
    next: Duration,
}

/// Serves the requests of one connection, until it ends or is upgraded.
async fn answer<S>(stream: S, router: Router, peer: Peer, held: SocketPermit, timeouts: Timeouts)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (asked, mut has_asked) = oneshot::channel();
    let asked = Mutex::new(Some(asked));
    let service = service_fn(move |request: Request<Incoming>| {
        if let Some(asked) = asked.lock().take() {
            // Fails after the timeout.
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
        .header_read_timeout(timeouts.next)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let in_time = tokio::time::timeout(timeouts.first, &mut has_asked);
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
            tracing::debug!(peer = %peer.address, %error, "HTTP connection failed");
        }
        None => tracing::debug!(peer = %peer.address, "HTTP connection closed: no request in time"),
    }
}
