//! Accepts connections, limits their number, and serves HTTP/1.1 on them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
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

use super::patience::Patient;
use super::peer::{HeldPlace, Peer};
use super::places::{Crowd, Places};
use crate::heavy::Heavy;
use crate::http::face::Face;
use crate::http::state::AppState;
use crate::throttle::Throttle;

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: u32 = 4096;
/// The kernel's buffer for a client that does not read. Beyond it, the hub conflates.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// The size limit of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The first and the longest pause after a failed accept, for example without file descriptors.
const ACCEPT_PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];
/// How many bytes TLS keeps for a socket that is full.
const TLS_BUFFER_BYTES: usize = 16 * 1024;
/// How long an answer may wait for its client to read.
const WRITE_WINDOW: Duration = Duration::from_secs(10);
/// After so many requests, or so long, a connection ends with its next answer.
const REQUESTS_MAX: u32 = 1000;
const LIFETIME: Duration = Duration::from_secs(600);
/// How long that last answer may take. Streams have no limit.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(60);

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

/// Accepts connections and serves them with the router of a face; runs for ever.
pub async fn serve(listener: Arc<Listener>, app: Arc<AppState>, face: Face, router: Router) {
    let heavy = Heavy::default();
    let mut failures = Throttle::default();
    let [first_pause, longest_pause] = ACCEPT_PAUSE;
    let mut pause = first_pause;
    loop {
        let (stream, address) = match listener.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                app.hub.metrics().accept_errors.inc();
                if let Some(suppressed) = failures.admit(app.hub.clock().now()) {
                    tracing::warn!(%error, suppressed, "accept failed, retrying");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest_pause);
                continue;
            }
        };
        pause = first_pause;
        let Some(held) = admit(&app, face, address) else { continue };
        let handshake = listener.tls.as_ref().map(|_| held.place.begin_handshake());
        let Ok(handshake) = handshake.transpose() else {
            note_crowd(&app, &held.places, Crowd::Handshakes, address.ip().to_canonical());
            continue;
        };
        // With Nagle's algorithm, a small frame could wait for the previous acknowledgement.
        stream.set_nodelay(true).ok();
        let (router, tls) = (router.clone(), listener.tls.clone());
        let peer = Peer { address, is_tls: tls.is_some() };
        let settings = app.settings();
        let timeouts = Timeouts {
            first: settings.handshake_timeout,
            next: settings.keep_alive.max(settings.handshake_timeout),
        };
        let heavy = heavy.clone();
        tokio::spawn(async move {
            match tls {
                None => answer(stream, router, peer, held, timeouts).await,
                Some(tls) => {
                    let accepted =
                        tokio::time::timeout(timeouts.first, heavy.drive(tls.accept(stream)));
                    if let Ok(Some(Ok(mut stream))) = accepted.await {
                        drop(handshake);
                        // TLS buffers bytes while the socket is full; the hub's budget does not count
                        // them.
                        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                        answer(stream, router, peer, held, timeouts).await;
                    }
                }
            }
        });
    }
}

/// Takes a place for an accepted socket; `None` if there is none, not even a spare one.
fn admit(app: &AppState, face: Face, address: SocketAddr) -> Option<HeldPlace> {
    let (settings, ip) = (app.settings(), address.ip().to_canonical());
    let places = app.places(face);
    // A proxy's clients are counted by the addresses that it forwards.
    let is_exempt = ip.is_loopback() || settings.trusted_proxies.trusts(ip);
    let limit = (!is_exempt).then_some(settings.sockets_per_address);
    let taken = places.take(ip, limit);
    let crowd = taken.as_ref().map_or_else(|crowd| Some(*crowd), |place| place.crowd);
    if let Some(crowd) = crowd {
        note_crowd(app, places, crowd, ip);
    }
    let place = Arc::new(taken.ok()?);
    let is_brief = !is_exempt && app.is_crowded_by_requests(face);
    Some(HeldPlace { place, places: Arc::clone(places), is_brief })
}

/// Counts and logs a socket that got no place, or only a spare one.
fn note_crowd(app: &AppState, places: &Places, crowd: Crowd, address: IpAddr) {
    app.hub.metrics().crowded(crowd.name());
    places.warn(crowd, address, app.hub.clock().now());
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
async fn answer<S>(stream: S, router: Router, peer: Peer, held: HeldPlace, timeouts: Timeouts)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A connection in a spare place, or in a crowd, has one request, and little time for it. In a crowd
    // that request may become a WebSocket.
    let is_spare = held.crowd().is_some();
    let is_brief = is_spare || held.is_brief;
    let (lifetime, requests_max) =
        if is_brief { (timeouts.first, 1) } else { (LIFETIME, REQUESTS_MAX) };
    let requests = AtomicU32::new(0);
    let streams = Arc::new(AtomicBool::new(false));
    let has_stream = Arc::clone(&streams);
    let (asked, mut has_asked) = oneshot::channel();
    let asked = Mutex::new(Some(asked));
    let service = service_fn(move |request: Request<Incoming>| {
        if let Some(asked) = asked.lock().take() {
            // Fails after the timeout.
            asked.send(()).ok();
        }
        let is_last = requests.fetch_add(1, Ordering::Relaxed) + 1 >= requests_max;
        let (mut router, streams) = (router.clone(), Arc::clone(&streams));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(held.clone());
        async move {
            let mut response = router.call(request).await.unwrap_or_else(|e| match e {});
            if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            streams.store(is_stream(&response), Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.next)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(!is_spare)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_WINDOW)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let in_time = tokio::time::timeout(timeouts.first, &mut has_asked);
    let ages = tokio::time::sleep(lifetime);
    tokio::pin!(ages);
    let end = tokio::select! {
        biased;
        end = &mut connection => Some(end),
        asked = in_time => match asked {
            Err(_) => None,
            Ok(_) => tokio::select! {
                biased;
                end = &mut connection => Some(end),
                () = &mut ages => {
                    connection.as_mut().graceful_shutdown();
                    match has_stream.load(Ordering::Relaxed) {
                        true => Some(connection.await),
                        false => tokio::time::timeout(LAST_ANSWER_MAX, connection).await.ok(),
                    }
                }
            },
        },
    };
    match end {
        Some(Ok(())) => (),
        Some(Err(error)) => {
            tracing::debug!(peer = %peer.address, %error, "HTTP connection failed");
        }
        None => tracing::debug!(peer = %peer.address, "HTTP connection closed: timeout"),
    }
}

/// Whether an answer has no end.
fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;

    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: hub\r\n\r\n";

    /// The client's end of a connection, and the task that serves it.
    fn connect(is_brief: bool) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(4096);
        let ip = Ipv4Addr::new(203, 0, 113, 1);
        let places = Places::new(8);
        let place = Arc::new(places.take(ip.into(), Some(8)).expect("a place"));
        let router = Router::new().route("/", get(|| async { "here" }));
        let peer = Peer { address: (ip, 1).into(), is_tls: false };
        let held = HeldPlace { place, places, is_brief };
        let timeouts = Timeouts { first: LAST_ANSWER_MAX, next: LAST_ANSWER_MAX };
        (client, tokio::spawn(answer(server, router, peer, held, timeouts)))
    }

    /// What two requests in a row get, until the connection ends.
    async fn two_requests(is_brief: bool) -> String {
        let (mut client, served) = connect(is_brief);
        let last = REQUEST.replace("Host", "Connection: close\r\nHost");
        client.write_all([REQUEST, &last].concat().as_bytes()).await.expect("to send");
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("answers");
        served.await.expect("an end");
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn a_brief_connection_has_one_request() {
        let usual = two_requests(false).await;
        assert_eq!(usual.matches("HTTP/1.1 200 OK").count(), 2, "{usual}");
        let brief = two_requests(true).await;
        assert_eq!(brief.matches("HTTP/1.1 200 OK").count(), 1, "{brief}");
        assert!(brief.contains("connection: close"), "{brief}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_goes_on_asking_ends_after_ten_minutes() {
        let (mut client, served) = connect(false);
        let mut requests = 0;
        while client.write_all(REQUEST.as_bytes()).await.is_ok()
            && client.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0)
        {
            requests += 1;
            tokio::time::sleep(Duration::from_secs(35)).await;
        }
        served.await.expect("an end");
        assert_eq!(requests, 18, "the last one at 595 s");
    }
}
